"""The statements that every decision executes, built once.

To build a statement takes SQLAlchemy four times as long as to execute a small one, and a decision
executes ten: what they are about are parameters, lists of values included.
"""

from collections.abc import Collection
from dataclasses import fields
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.campaign_schema import OPEN_CAMPAIGN, campaigns
from batuta.conductor.database.schema import ACTIVE, PENDING, available, dropped, holds
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert
from batuta.stages import FINAL_RANK
from batuta.work_classes import WorkClass


def _any_of(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, expanding=True)


def _rank(stage: sa.ColumnElement[int | None]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(stage, sa.literal_column(str(FINAL_RANK)))


class OneOrMany:
    """A statement about the rows of which a column has one of some values.

    Of one value, as of an observation on its own, it asks for equality: with ``IN``, the text is
    rendered at each use, which takes as long as all the rest.
    """

    def __init__(self, statement: sa.Select[Any], column: sa.ColumnElement[Any]) -> None:
        self._one = statement.where(column == sa.bindparam("only"))
        self._many = statement.where(column.in_(_any_of("several")))

    def execute(self, connection: sa.Connection, values: Collection[str]) -> "sa.CursorResult[Any]":
        """Execute it; databases have a limit of how many values there may be."""
        if len(values) == 1:
            (only,) = values
            return connection.execute(self._one, {"only": only})
        return connection.execute(self._many, {"several": list(values)})


# ---------------------------------------------------------------------- availability and claims

_CAMPAIGN_RUNS: Final = (
    sa.select(campaigns.c.number)
    .where(sa.text(OPEN_CAMPAIGN), campaigns.c.started.is_not(None))
    .limit(1)
    .scalar_subquery()
)
"""Whether to ask what campaigns make: beside another question, so that it is no statement more."""

_HAS_HOLDS: Final = sa.select(holds.c.number).where(holds.c.ended.is_(None)).exists()
"""Whether something may be held, beside other questions too."""

AVAILABLE_OF: Final = OneOrMany(
    sa.select(
        available.c.obs_id,
        available.c.product,
        # Of versions with the same bytes, the first: those that follow change nothing.
        sa.func.coalesce(available.c.content, available.c.version).label("version"),
        available.c.told_class,
        available.c.stage,
        available.c.updates,
        _CAMPAIGN_RUNS.label("a_campaign"),
        _HAS_HOLDS.label("has_holds"),
    ),
    available.c.obs_id,
)
"""What is available of observations; of all campaigns, the number of one that runs; and whether
there are holds."""

INPUT_TIMES: Final = sa.select(
    sa.func.min(sa.func.coalesce(available.c.since, available.c.heard)),
    sa.func.max(available.c.heard),
).where(available.c.obs_id == sa.bindparam("obs_id"), available.c.product.in_(_any_of("inputs")))
"""When the first of `inputs` became available for an observation, and when the last one did."""

REACHED: Final = (
    sa.select(
        table.c.obs_id,
        table.c.product,
        sa.func.min(_rank(table.c.stage)),
        sa.func.max(_rank(table.c.stage)),
    )
    .where(
        table.c.obs_id.in_(_any_of("observations")),
        table.c.state.not_in([State.FAILED, State.CANCELLED]),
    )
    .group_by(table.c.obs_id, table.c.product)
)
"""The ranks of the lowest and the highest stage at which products of `observations` were claimed.

Only executed where stages are told.
"""

DROPPED_OF: Final = OneOrMany(sa.select(dropped), dropped.c.obs_id)
"""What stays of those of observations whose records were dropped."""

OPEN_HOLDS: Final = (
    sa.select(holds)
    .where(holds.c.ended.is_(None))
    .order_by(holds.c.number)
    # What is marked as held by one of them is committed before it can end.
    .with_for_update(read=True)
)
"""The holds that may keep something back."""

FAILED_AMONG: Final = sa.select(table.c.id).where(
    table.c.id.in_(_any_of("ids")),
    sa.or_(
        table.c.state == State.FAILED,
        table.c.set_aside.is_not(None),
        table.c.withdrawn_input.is_not(None),
    ),
)
"""Those of the processings `ids` that failed, that a version of the graph has set aside, or that
were stopped by a withdrawal."""

CLAIMED_AT: Final = sa.select(table.c.id).where(
    table.c.id.in_(_any_of("ids")), table.c.created == sa.bindparam("now")
)
"""Those of the processings `ids` that were claimed at the time `now`."""


@cache
def record_available(dialect: str) -> Any:
    """Return the statement that records what is available, newer versions over older ones."""
    statement = insert(dialect, available)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["obs_id", "product"],
        set_={
            "version": new.version,
            "archived": new.archived,
            "heard": new.heard,
            "made_by": new.made_by,
            "sha256": new.sha256,
            "content": sa.case(
                (
                    # Of another stage, the same bytes say more.
                    sa.and_(
                        new.sha256 == available.c.sha256,
                        _rank(new.stage) == _rank(available.c.stage),
                    ),
                    sa.func.coalesce(available.c.content, available.c.version),
                ),
            ),
            "updates": available.c.updates + 1,
            # An alert stays one when a newer version, or the archived one, says nothing of it.
            "told_class": sa.func.coalesce(new.told_class, available.c.told_class),
            # Once a stage is told of it, what tells none says that it is final.
            "stage": sa.func.coalesce(
                new.stage, sa.case((available.c.stage.is_not(None), FINAL_RANK))
            ),
        },
        where=sa.or_(
            sa.and_(new.archived, sa.not_(available.c.archived)),
            sa.and_(
                new.archived == available.c.archived,
                sa.tuple_(_rank(new.stage), new.version)
                > sa.tuple_(_rank(available.c.stage), available.c.version),
            ),
        ),
    )


@cache
def insert_claims(dialect: str) -> Any:
    """Return the statement that inserts claims that are new."""
    return insert(dialect, table).on_conflict_do_nothing()


# ---------------------------------------------------------------------- processings

RECORD_COLUMNS: Final = tuple(field.name for field in fields(ProcessingRecord))
_RECORD: Final = tuple(table.c[name] for name in RECORD_COLUMNS)
"""Without the inputs, whose JSON takes longer to decode than all others to read."""

LOCK_ROWS: Final = OneOrMany(sa.select(table).with_for_update(), table.c.id)
"""Processings by id, locked until the transaction ends."""

LOCK_RECORDS: Final = OneOrMany(sa.select(*_RECORD).with_for_update(), table.c.id)
"""The same, as records."""


@cache
def write_values(names: tuple[str, ...]) -> sa.Update:
    """Return the statement that sets columns `names` of the processing `of` to ``new_...``."""
    return sa.update(table).where(table.c.id == sa.bindparam("of")).values(_new_values(names))


@cache
def write_values_alike(names: tuple[str, ...]) -> sa.Update:
    """Return the statement that sets columns `names` of the processings `ids` to ``new_...``."""
    return sa.update(table).where(table.c.id.in_(_any_of("ids"))).values(_new_values(names))


def _new_values(names: tuple[str, ...]) -> dict[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in names}


_sibling: Final = table.alias()


def _pairs_that_wait() -> sa.Select[Any]:
    def first_provider(work_class: sa.ColumnElement[str], *after: sa.ColumnElement[bool]) -> Any:
        same_class = table.c.work_class == work_class
        selected = sa.select(sa.func.min(table.c.provider)).where(
            sa.text(PENDING), same_class, *after
        )
        return selected.correlate_except(table).scalar_subquery()

    names: list[sa.Select[Any]] = [
        sa.select(sa.literal_column(f"'{each}'").label("name")) for each in WorkClass
    ]
    of_class = sa.union_all(*names).subquery("classes").c.name
    pairs = sa.select(of_class.label("work_class"), first_provider(of_class).label("provider")).cte(
        "pairs", recursive=True
    )
    work_class, provider = pairs.c
    following = first_provider(work_class, table.c.provider > provider)
    pairs = pairs.union_all(sa.select(work_class, following).where(provider.is_not(None)))
    work_class, provider = pairs.c
    return sa.select(work_class, provider, _HAS_HOLDS).where(provider.is_not(None))


PENDING_AT: Final = _pairs_that_wait()
"""Of which classes, and at which providers, processings are to be requested at their time.

The third value is the same in each row: whether something may be held.

It goes from one pair to the next in the index, whatever number there is of each: neither database
does so for ``SELECT DISTINCT``.
"""

DUE: Final[sa.Select[Any]] = (
    # The inputs as text, which goes into the request: decoding it takes longer than reading it.
    sa.select(*_RECORD, sa.cast(table.c.inputs, sa.Text).label("claimed_inputs"))
    .where(
        sa.text(f"conductor_processings.{PENDING}"),
        table.c.work_class == sa.bindparam("work_class"),
        table.c.provider == sa.bindparam("provider"),
        table.c.not_before <= sa.bindparam("now"),
        # Two at once for one product and observation: the older inputs might be archived last.
        ~sa.select(_sibling.c.id)
        .where(
            _sibling.c.obs_id == table.c.obs_id,
            _sibling.c.product == table.c.product,
            _sibling.c.state.in_(AT_PROVIDER),
        )
        .exists(),
    )
    .order_by(table.c.priority.desc(), table.c.created)
    .limit(sa.bindparam("at_most"))
    # Rows that another transaction holds are about to change (an operator's command, the
    # end of a wait): it is quicker to pass over them than to wait, and they come next time.
    .with_for_update(skip_locked=True, of=table)
)
"""The processings of one class to request `now` from one provider, `at_most` so many."""

_AT: Final = sa.func.coalesce(table.c.instance, table.c.provider)
"""Where a processing is: its instance, or its provider if that has a single address."""

TO_POLL: Final = (
    sa.select(*_RECORD)
    .where(sa.text(ACTIVE), table.c.ask_at <= sa.bindparam("now"))
    .order_by(table.c.ask_at)
    .limit(sa.bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
"""The processings whose pipelines are to be asked `now`."""

TO_POLL_BUT: Final = TO_POLL.where(
    _AT.not_in(_any_of("full")),
    sa.or_(
        _AT.not_in(_any_of("blocked")),
        table.c.id.in_(_any_of("trials")),
        # A deadline is one even there.
        table.c.started + table.c.timeout_s <= sa.bindparam("now"),
    ),
)
"""The same without those at the `full` ones; and without those at the `blocked` ones, but for
`trials` and what is overdue."""

AT_INSTANCE: Final = (
    sa.select(*_RECORD)
    .where(
        sa.text(ACTIVE),
        table.c.provider == sa.bindparam("provider"),
        _AT.in_(_any_of("places")),
    )
    .order_by(table.c.ask_at)
    .limit(sa.bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
"""The processings of one provider at `places`, those first that are to be polled first."""

AT_PROVIDERS: Final = (
    sa.select(
        table.c.provider,
        *(sa.func.count().filter(table.c.work_class == each.value) for each in WorkClass),
    )
    .where(sa.text(ACTIVE), table.c.provider.in_(_any_of("providers")))
    .group_by(table.c.provider)
)
"""How many processings are at each of `providers`: of each class, in their order."""


@cache
def at_instances(number: int) -> sa.Select[Any]:
    """Return the statement that counts the processings of a `provider` at its instances.

    Those of each are named by the parameters ``places_0``, ``places_1`` and so on.
    """
    counts: list[Any] = [
        sa.func.count().filter(_AT.in_(_any_of(f"places_{each}"))) for each in range(number)
    ]
    return sa.select(*counts).where(sa.text(ACTIVE), table.c.provider == sa.bindparam("provider"))


def _next_times(*of_requests: sa.ColumnElement[bool]) -> sa.Select[Any]:
    requests = sa.select(sa.func.min(table.c.not_before)).where(
        sa.text(PENDING), table.c.not_before > sa.bindparam("since"), *of_requests
    )
    polls = sa.select(sa.func.min(table.c.ask_at)).where(
        sa.text(ACTIVE), table.c.ask_at > sa.bindparam("since")
    )
    return sa.select(requests.scalar_subquery(), polls.scalar_subquery())


NEXT_TIMES: Final = _next_times()
"""When the first request and the first poll after `since` are due."""

NEXT_TIMES_BUT: Final = _next_times(table.c.provider.not_in(_any_of("busy")))
"""The same, but for requests to the `busy` providers."""
