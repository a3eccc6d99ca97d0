"""REST routes of orders for whole sets of processings: previewed, recorded, carried out."""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from batuta.conductor.database.operations.order_sets import SetFilters, SetOrder, states_of
from batuta.conductor.database.orders import OrderView, OrderViews
from batuta.conductor.database.views.observations import ConductorProcessing, Views
from batuta.conductor.decisions.failures import MAX_LENGTH
from batuta.conductor.decisions.order_sets import STATES, SetCommand
from batuta.conductor.order_worker import OrderWorker
from batuta.conductor.routes.bulk_routes import UrgencyBody
from batuta.messaging import ProcessingState as State
from batuta.messaging.processings import instant_of
from batuta.service.instants import Instant
from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter
from batuta.stages import Stage
from batuta.work_classes import WorkClass

Pattern = Annotated[str | None, Field(min_length=1, max_length=200)]


class SetSelection(BaseModel):
    """What selects processings, as in their list; `state` may name several.

    `*` stands for any text, `?` for any letter, but not in `error_kind`, which is that of a group
    of failures. `since` and `until` are about when they were
    claimed.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    product: Pattern = None
    obs_id: Pattern = None
    provider: Pattern = None
    state: Annotated[list[State], Field(max_length=20)] = []
    work_class: WorkClass | None = Field(None, alias="class")
    stage: Stage | None = None
    error_kind: Annotated[str | None, Field(max_length=MAX_LENGTH)] = None
    campaign: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    since: Instant | None = None
    until: Instant | None = None

    def filters(self, command: SetCommand) -> SetFilters:
        """Return what selects.

        Raises
        ------
        ProblemError
            If nothing is selected by, or a state is one that the command is not for.
        """
        if not self.model_fields_set:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"filters: none given (accepted: {', '.join(_KEYS)})",
            )
        wrong = [each.value for each in self.state if each not in STATES[command]]
        if wrong:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"state: {wrong[0]} cannot be ordered to {command} "
                f"(accepted: {', '.join(STATES[command])})",
            )
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return SetFilters(
            columns={name: value for name, value in columns.items() if value is not None},
            states=states_of(command, self.state),
            since=None if self.since is None else self.since.timestamp(),
            until=None if self.until is None else self.until.timestamp(),
        )


_COLUMNS: Final = (
    "product",
    "obs_id",
    "provider",
    "work_class",
    "stage",
    "error_kind",
    "campaign",
)
_KEYS: Final = (
    "product",
    "obs_id",
    "provider",
    "state",
    "class",
    "stage",
    "error_kind",
    "campaign",
    "since",
    "until",
)


class SetOrderBody(UrgencyBody):
    """A command for all processings that filters select.

    `class` and `priority` are what ``reprioritize`` gives; no other command takes them.
    """

    command: SetCommand
    filters: SetSelection

    def selected(self) -> SetFilters:
        """Return what it is about.

        Raises
        ------
        ProblemError
            If it selects nothing, or what it gives is not for its command.
        """
        filters = self.filters.filters(self.command)
        given = self.urgency().given
        if self.command is not SetCommand.REPRIORITIZE and given:
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"{', '.join(given)}: {self.command} takes none (accepted: with "
                f"{SetCommand.REPRIORITIZE}, or in filters)",
            )
        return filters

    def order(self, by: Operator) -> SetOrder:
        """Return the order that an operator gives.

        Raises
        ------
        ProblemError
            As of `selected`, or if it changes nothing.
        """
        filters = self.selected()
        if self.command is SetCommand.REPRIORITIZE:
            self.check_given()
        return SetOrder(
            command=self.command,
            filters=filters,
            by=by,
            reason=self.reason,
            urgency=self.urgency(),
        )


class SetPreview(BaseModel):
    """What a command would be carried out for at a time, counted; the first of them in `items`.

    An order whose `until` is that time is about nothing that is claimed later; what changes its
    state meanwhile is then as it is. `refused` counts those of them
    that are not retried, since the graph in force does not make them.
    """

    at: datetime
    total: int
    refused: int
    by_state: dict[str, int]
    by_product: dict[str, int]
    items: list[ConductorProcessing]


def set_router(worker: OrderWorker, views: Views, orders: OrderViews) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(prefix="/orders", tags=["orders"])

    @router.post("/preview")
    def preview(body: SetOrderBody) -> SetPreview:
        """What an order would be carried out for, whatever it gives; changes nothing."""
        at = worker.sets.now()
        found = worker.sets.select(body.selected())
        return SetPreview(
            at=instant_of(at),
            total=found.total,
            refused=worker.sets.refused(body.command, found),
            by_state=dict(found.by_state),
            by_product=dict(found.by_product),
            items=[views.processing_of(row) for row in found.first],
        )

    @router.post(
        "", status_code=HTTPStatus.ACCEPTED, responses=problem_responses(HTTPStatus.NOT_FOUND)
    )
    async def give(body: SetOrderBody, by: ByOperator) -> OrderView:
        """Record an order; it is carried out a batch at a time, killed in between or not."""
        number = await worker.give(body.order(by))
        recorded = await asyncio.to_thread(orders.find, number)
        if recorded is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"order {number}: not found")
        return recorded

    return router
