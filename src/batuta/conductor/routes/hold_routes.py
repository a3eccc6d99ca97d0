"""REST routes of holds: what is kept back, and what a release would start."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from batuta.conductor.database.current_graph import CurrentGraph
from batuta.conductor.database.holds.hold_store import PauseError, Wanted
from batuta.conductor.database.views.hold_views import HoldView, HoldViews, ReleasePreview
from batuta.conductor.decisions.holds import Hold, HoldState, Scope, rate_per_s
from batuta.conductor.dispatch.dispatcher import Dispatcher
from batuta.conductor.hold_watch import HoldWatch
from batuta.conductor.routes.bulk_routes import Reason
from batuta.messaging.events import Name
from batuta.messaging.processings import Instant
from batuta.service.operator_requests import ByOperator
from batuta.service.operators import Operator
from batuta.service.pagination import Page
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter
from batuta.spelling import NameSuggester
from batuta.work_classes import WorkClass

EVERY_PROVIDER: Final = "*"
"""In what is held: every provider is."""

_UNKNOWN: Final = problem_responses(HTTPStatus.NOT_FOUND)


def _check_rate(text: str) -> str:
    rate_per_s(text)
    return text


Rate = Annotated[str, AfterValidator(_check_rate), Field(max_length=20)]
Number = Annotated[int, Path(ge=1, lt=2**31)]


class HoldOrder(BaseModel):
    """What is to be held: all work that has the values that are given; with none, all work.

    `from` is from when on: at once, without it.
    """

    model_config = ConfigDict(extra="forbid")

    provider: Name | None = None
    product: Name | None = None
    obs_id: Name | None = None
    work_class: WorkClass | None = Field(None, alias="class")
    campaign: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    begins: Instant | None = Field(None, alias="from")
    reason: Reason = None


class ReleaseOrder(BaseModel):
    """How a hold is released: `rate` is how fast the work is let go, such as ``10/min``."""

    model_config = ConfigDict(extra="forbid")

    rate: Rate | None = None
    reason: Reason = None


class Held(BaseModel):
    """The providers that are held as a whole; ``*`` for all of them."""

    held: list[str]


class _Holds:
    """What the routes do; each is recorded, then carried out as far as it goes in a few seconds."""

    def __init__(
        self, current: CurrentGraph, views: HoldViews, watch: HoldWatch, dispatcher: Dispatcher
    ) -> None:
        self._current = current
        self._views = views
        self._watch = watch
        self._dispatcher = dispatcher

    async def place(self, scope: Scope, by: Operator, **given: Any) -> Hold:
        self._check(scope)
        if scope.campaign is not None:
            await asyncio.to_thread(self._check_campaign, scope.campaign)
        hold = await self._dispatcher.write(
            self._watch.store.place, Wanted(scope=scope, by=by, **given)
        )
        await self._watch.settle()
        return hold

    async def release(
        self, number: int, by: Operator, rate: str | None = None, reason: str | None = None
    ) -> Hold:
        try:
            hold = await self._dispatcher.write(self._watch.store.release, number, by, rate, reason)
        except PauseError as exc:
            raise ProblemError(HTTPStatus.CONFLICT, str(exc)) from exc
        if hold is None:
            raise self.unknown(number)
        await self._watch.settle()
        return hold

    async def release_all_of(self, scope: Scope, by: Operator) -> None:
        self._check(scope)
        for each in await self._dispatcher.write(self._watch.store.open_holds):
            if each.scope == scope and each.released is None:
                await self.release(each.number, by)

    async def held(self) -> Held:
        """Return the providers that are held as a whole."""
        holds = await self._dispatcher.write(self._watch.store.open_holds)
        now = self._watch.store.now()
        scopes = [each.scope for each in holds if each.state(now) is HoldState.IN_FORCE]
        names = {
            each.provider or EVERY_PROVIDER
            for each in scopes
            if each == Scope(provider=each.provider)
        }
        return Held(held=sorted(names))

    def unknown(self, number: int) -> ProblemError:
        found = self._views.find(number)
        if found is None or found.released is None:  # placed since it was looked for
            return ProblemError(HTTPStatus.NOT_FOUND, f"hold {number}: not found")
        return ProblemError(
            HTTPStatus.CONFLICT,
            f"hold {number} of {found.what} was released at {found.released:%Y-%m-%d %H:%M:%S}",
        )

    def _check(self, scope: Scope) -> None:
        """Refuse what the graph does not know: it would hold nothing."""
        graph = self._current.graph
        known: Mapping[str, list[str]] = {
            "provider": sorted(graph.providers),
            "product": sorted(graph.products),
        }
        problems = [
            f"{name} {given!r}: not in the graph"
            f"{NameSuggester(names).hint(given)} (known: {', '.join(names)})"
            for name, names in known.items()
            if (given := getattr(scope, name)) is not None and given not in names
        ]
        if problems:
            raise ProblemError(HTTPStatus.NOT_FOUND, "; ".join(problems), known=known)

    def _check_campaign(self, number: int) -> None:
        state = self._views.campaign_state(number)
        if state is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"campaign {number}: not found")
        if state.ended:
            raise ProblemError(
                HTTPStatus.CONFLICT, f"campaign {number} is {state}: nothing of it waits"
            )


def hold_router(
    current: CurrentGraph, views: HoldViews, watch: HoldWatch, dispatcher: Dispatcher
) -> ServiceRouter:
    """Return the routes."""
    router = ServiceRouter(tags=["holds"])
    holds = _Holds(current, views, watch, dispatcher)
    _add_holds(router, holds, views)
    _add_of_providers(router, holds)
    return router


def _add_holds(router: ServiceRouter, holds: _Holds, views: HoldViews) -> None:
    def view(number: int) -> HoldView:
        found = views.find(number)
        if found is None:
            raise holds.unknown(number)
        return found

    @router.get("/holds")
    def every() -> Page[HoldView]:
        """The holds that have not ended, the earliest first, and how much each keeps back."""
        return Page(items=views.all())

    @router.post(
        "/holds",
        status_code=HTTPStatus.CREATED,
        responses=_UNKNOWN | problem_responses(HTTPStatus.CONFLICT),
    )
    async def place(order: HoldOrder, by: ByOperator) -> HoldView:
        """Hold work, from now or from a time on, until it is released; what runs continues."""
        scope = Scope(
            provider=order.provider,
            product=order.product,
            obs_id=order.obs_id,
            work_class=order.work_class,
            campaign=order.campaign,
        )
        begins = None if order.begins is None else order.begins.timestamp()
        placed = await holds.place(scope, by, begins=begins, reason=order.reason)
        return await asyncio.to_thread(view, placed.number)

    @router.get("/holds/{number}", responses=_UNKNOWN)
    def one(number: Number) -> HoldView:
        """One hold, ended or not."""
        return view(number)

    @router.get(
        "/holds/{number}/preview", responses=_UNKNOWN | problem_responses(HTTPStatus.CONFLICT)
    )
    def preview(number: Number) -> ReleasePreview:
        """What its release would start: how many processings, by product, provider and class."""
        found = views.preview(number)
        if found is None:
            raise holds.unknown(number)
        return found

    @router.post(
        "/holds/{number}/release", responses=_UNKNOWN | problem_responses(HTTPStatus.CONFLICT)
    )
    async def release(
        number: Number, by: ByOperator, order: ReleaseOrder | None = None
    ) -> HoldView:
        """End a hold: what no other one keeps back is let go, at once or at a rate."""
        order = order or ReleaseOrder()
        await holds.release(number, by, order.rate, order.reason)
        return await asyncio.to_thread(view, number)


def _add_of_providers(router: ServiceRouter, holds: _Holds) -> None:
    @router.post("/hold")
    async def hold(by: ByOperator) -> Held:
        """Request nothing more, of any provider, until released."""
        await holds.place(Scope(), by)
        return await holds.held()

    @router.delete("/hold")
    async def release(by: ByOperator) -> Held:
        """End the holds of all providers."""
        await holds.release_all_of(Scope(), by)
        return await holds.held()

    @router.post("/providers/{provider}/hold", responses=_UNKNOWN)
    async def hold_provider(provider: str, by: ByOperator) -> Held:
        """Request nothing more of one provider until released."""
        await holds.place(Scope(provider=provider), by)
        return await holds.held()

    @router.delete("/providers/{provider}/hold", responses=_UNKNOWN)
    async def release_provider(provider: str, by: ByOperator) -> Held:
        """End the holds of one provider."""
        await holds.release_all_of(Scope(provider=provider), by)
        return await holds.held()
