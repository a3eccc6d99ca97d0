"""What a campaign does next: in rounds, each a small transaction.

A round records which of its processings have ended, claims as many as there are places, begins the
next part of the plan, and, when nothing is left, ends the campaign. Killed at any point, the next
round goes on from what was committed: an item and its processing change in one transaction.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.campaign_schema import (
    UNSETTLED_ITEM,
    campaigns,
    counts,
    items,
    parts,
)
from batuta.conductor.database.campaigns.campaign_claims import CampaignClaims, Terms
from batuta.conductor.database.campaigns.campaign_parts import contents_of
from batuta.conductor.database.campaigns.campaign_planning import PlanReader, Target
from batuta.conductor.database.campaigns.campaign_store import lock_campaign, times_at_end
from batuta.conductor.database.campaigns.unapproved_items import count_unapproved
from batuta.conductor.database.claiming.campaign_items import Instance
from batuta.conductor.database.claiming.claims import ClaimStore
from batuta.conductor.database.current_graph import CurrentGraph, ReadsGraph
from batuta.conductor.database.history import record_order
from batuta.conductor.database.holds.hold_store import end_pause
from batuta.conductor.database.records import MAX_IN, Row, locked_rows, record_of, write_changes
from batuta.conductor.database.schema import PENDING, approvals, available
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.approvals import Verdict
from batuta.conductor.decisions.campaigns import (
    NOT_CLAIMED,
    CampaignScope,
    CampaignState,
    ItemState,
    Step,
    after_wait,
    first_states,
    next_steps,
    settlement,
)
from batuta.conductor.decisions.commands import cancel
from batuta.conductor.decisions.remaking import ProcessingEnd
from batuta.graph import Graph
from batuta.messaging import ProcessingState as State
from batuta.service.database import insert, reading
from batuta.service.operators import UNNAMED
from batuta.work_classes import WorkClass

BATCH: Final = 100
"""Items that one transaction settles, or claims: decisions wait for no more."""
_FOLLOWING: Final = (ItemState.OPEN, ItemState.AWAITING)
"""States of items that go on once a processing has ended: their own, or one that they await."""
_ENDED: Final = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Round:
    """What a round has done.

    Attributes
    ----------
    state : CampaignState
        That of the campaign now.
    claimed : int
        Processings that are to be requested.
    changed : bool
        Whether anything was recorded: then there may be more to do at once.
    complete : bool
        Whether nothing is left: the campaign is to be ended.
    """

    state: CampaignState
    claimed: int = 0
    changed: bool = False
    complete: bool = False


class CampaignRounds(ReadsGraph):
    """Moves campaigns forward.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    graph : Graph or CurrentGraph
        The product graph, or what holds the one in force.
    claims : ClaimStore
        Locks observations.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        graph: Graph | CurrentGraph,
        claims: ClaimStore,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(graph)
        self._engine = engine
        self._campaign_claims = CampaignClaims(self._current, claims)
        self._clock = clock

    def ended_items(self, number: int) -> list[Instance]:
        """Return items whose processings have ended, or those that they await, `BATCH` at most.

        They are read beside decisions.
        """
        query = (
            sa.select(items.c.obs_id, items.c.product)
            .select_from(items.outerjoin(table, table.c.id == items.c.processing_id))
            .where(
                items.c.campaign == number,
                items.c.state.in_(_FOLLOWING),
                sa.or_(table.c.id.is_(None), table.c.state.in_(_ENDED)),
            )
            .limit(BATCH)
        )
        with reading(self._engine) as connection:
            return [(row.obs_id, row.product) for row in connection.execute(query)]

    def advance(self, number: int, ended: Sequence[Instance]) -> Round:
        """Do the next round of a campaign.

        Parameters
        ----------
        ended : sequence of (obs_id, product)
            As `ended_items` has returned them.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            row = lock_campaign(connection, number)
            state = None if row is None else CampaignState(row.state)
            if row is None or state is None or state.ended:
                return Round(state or CampaignState.CANCELLED)
            settled = self._settle(connection, number, ended, now)
            match state:
                case CampaignState.RUNNING:
                    return self._go_on(connection, row, now, settled=settled)
                case CampaignState.PAUSED:
                    # What it has waiting is kept back by its hold.
                    return Round(state, changed=settled)
                case CampaignState.CANCELLING:
                    changed = _cancel_waiting(connection, number, now) > 0 or settled
                    left = changed or _is_open(connection, number, UNSETTLED_ITEM)
                    return Round(state, changed=changed, complete=not left)
                case _:
                    return Round(state)

    def end(self, number: int, report: Mapping[str, Any]) -> CampaignState:
        """End a campaign of which nothing is left; return its state."""
        now = self._clock()
        with self._engine.begin() as connection:
            row = lock_campaign(connection, number)
            if row is None or _is_open(connection, number, UNSETTLED_ITEM):
                return CampaignState.RUNNING
            ends = {
                CampaignState.RUNNING: CampaignState.DONE,
                CampaignState.CANCELLING: CampaignState.CANCELLED,
            }
            state = ends.get(CampaignState(row.state))
            if state is None:
                return CampaignState(row.state)
            connection.execute(
                sa.update(campaigns)
                .where(campaigns.c.number == number)
                .values(state=state, report=report, **times_at_end(row, now))
            )
            # One that was cancelled may have been paused.
            end_pause(connection, number, UNNAMED, now)
            return state

    def _go_on(self, connection: sa.Connection, row: Row, now: float, *, settled: bool) -> Round:
        number = row.number
        places = row.max_concurrent - _count(connection, number, ItemState.OPEN)
        if places <= 0 and (self._graph.approved_before or self._graph.asking):
            # What waits for a person may do so for weeks.
            places += count_unapproved(connection, number)
        at_most = min(places, BATCH)
        if at_most <= 0:
            return Round(CampaignState.RUNNING, changed=settled)
        ready = _ready(connection, number, at_most)
        if not ready and self._begin_part(connection, row, now):
            ready = _ready(connection, number, at_most)
            settled = True
        if not ready:
            left = settled or _is_open(connection, number, UNSETTLED_ITEM)
            return Round(CampaignState.RUNNING, changed=settled, complete=not left)
        claimed = self._campaign_claims.claim(connection, ready, _terms(row), now)
        steps = {each.instance: each.step for each in claimed}
        ids = {each.instance: each.processing_id for each in claimed}
        self._record(connection, number, steps, now, ids)
        requested = sum(each.step.state is ItemState.OPEN for each in claimed)
        return Round(CampaignState.RUNNING, requested, changed=True)

    # ------------------------------------------------------------------ ends

    def _settle(
        self, connection: sa.Connection, number: int, ended: Sequence[Instance], now: float
    ) -> bool:
        """Record which items have ended; return whether any has."""
        if not ended:
            return False
        steps = {
            instance: step
            for instance, (state, end) in _ends(connection, number, ended).items()
            if (step := _GOES_ON[state](end, now)) is not None
        }
        if steps:
            self._record(connection, number, steps, now)
        return bool(steps)

    def _record(
        self,
        connection: sa.Connection,
        number: int,
        steps: Mapping[Instance, Step],
        now: float,
        ids: Mapping[Instance, str | None] | None = None,
    ) -> None:
        """Record the steps of items, and those of what waited for them."""
        self._write(connection, number, steps, now, ids or {})
        settled = {obs_id for (obs_id, _), step in steps.items() if step.state.settled}
        if settled:
            further = self._unblocked(connection, number, settled)
            self._write(connection, number, further, now, {})

    def _unblocked(
        self, connection: sa.Connection, number: int, observations: Collection[str]
    ) -> dict[Instance, Step]:
        query = sa.select(items.c.obs_id, items.c.product, items.c.state).where(
            items.c.campaign == number, items.c.obs_id.in_(sorted(observations))
        )
        by_observation: defaultdict[str, dict[str, ItemState]] = defaultdict(dict)
        for obs_id, product, state in connection.execute(query):
            by_observation[obs_id][product] = ItemState(state)
        return {
            (obs_id, product): step
            for obs_id, states in by_observation.items()
            for product, step in next_steps(self._graph, states).items()
        }

    def _write(
        self,
        connection: sa.Connection,
        number: int,
        steps: Mapping[Instance, Step],
        now: float,
        ids: Mapping[Instance, str | None],
    ) -> None:
        made = [each for each, step in steps.items() if step.state is ItemState.MADE]
        if made:
            # It is told by its processing, and by the counts: the table holds what is left.
            connection.execute(_DELETE, [_key(number, each) for each in made])
        changed = [
            {
                **_key(number, each),
                "new_state": step.state,
                "new_reason": step.reason,
                "new_id": ids.get(each),
                "new_at": now,
            }
            for each, step in steps.items()
            if step.state is not ItemState.MADE
        ]
        if changed:
            connection.execute(_CHANGE, changed)
        _add_counts(
            connection,
            number,
            Counter(
                (product, step.state) for (_, product), step in steps.items() if step.state.settled
            ),
        )

    # ------------------------------------------------------------------ the next part

    def _begin_part(self, connection: sa.Connection, row: Row, now: float) -> bool:
        """Make items of the next part of the plan; return whether there was one.

        What need not be made any more, or cannot be, is skipped.
        """
        number = row.number
        part = connection.execute(
            sa.select(parts)
            .where(parts.c.campaign == number)
            .order_by(parts.c.campaign, parts.c.dropped, parts.c.first)
            .limit(1)
        ).one_or_none()
        if part is None:
            return False
        planned = contents_of(part.content)
        still = self._still_wanted(connection, row, planned)
        rows: list[dict[str, Any]] = []
        for obs_id, products in planned.items():
            remaining = [name for name in products if name in still[obs_id]]
            steps: dict[str, Step] = {
                name: Step(ItemState.SKIPPED, _no_longer(self._graph, row, name))
                for name in products
                if name not in still[obs_id]
            }
            steps |= first_states(self._graph, remaining)
            rows += [_item(number, obs_id, name, step, now) for name, step in steps.items()]
        connection.execute(insert(connection, items).on_conflict_do_nothing(), rows)
        connection.execute(
            sa.delete(parts).where(
                parts.c.campaign == number,
                parts.c.dropped == part.dropped,
                parts.c.first == part.first,
            )
        )
        skipped = [each for each in rows if each["state"] is ItemState.SKIPPED]
        _add_counts(
            connection, number, Counter((each["product"], each["state"]) for each in skipped)
        )
        return True

    def _still_wanted(
        self, connection: sa.Connection, row: Row, planned: Mapping[str, Sequence[str]]
    ) -> dict[str, Collection[str]]:
        """Return what is made of each observation by the same choice as was planned, but now."""
        scope = CampaignScope(row.selection["scope"])
        products = [each for each in row.selection["products"] if each in self._graph.products]
        reader = PlanReader(self._engine, self._graph, Target(products=products, scope=scope))
        now: dict[str, Collection[str]] = {}
        names = list(planned)
        for start in range(0, len(names), MAX_IN):
            found = reader.plan_in(connection, names[start : start + MAX_IN])
            now |= {obs_id: each.products for obs_id, each in found.items()}
        return {obs_id: now.get(obs_id, ()) for obs_id in planned}


def _no_longer(graph: Graph, row: Row, product: str) -> str:
    if product not in graph.products:
        return f"the graph no longer makes {product}"
    scope = CampaignScope(row.selection["scope"])
    if scope is CampaignScope.ALL:
        return "its inputs are no longer available"
    return f"no longer {scope} when its turn came"


def _terms(row: Row) -> Terms:
    return Terms(
        campaign=row.number,
        work_class=WorkClass(row.work_class),
        priority=row.priority,
        remakes=CampaignScope(row.selection["scope"]) is CampaignScope.ALL,
    )


_GOES_ON: Final = {ItemState.OPEN: settlement, ItemState.AWAITING: after_wait}
"""What becomes of an item in a state, by how the processing is that it follows."""


# ---------------------------------------------------------------------- what is read


def _ends(
    connection: sa.Connection, number: int, ended: Sequence[Instance]
) -> dict[Instance, tuple[ItemState, ProcessingEnd | None]]:
    """Return the states of items that follow a processing still, and how that is; None: gone."""
    wanted = set(ended)
    # Of the product of the processing: what is awaited makes another one than the item.
    heard = (
        sa.select(available.c.heard)
        .where(available.c.obs_id == table.c.obs_id, available.c.product == table.c.product)
        .scalar_subquery()
    )
    verdict = (
        sa.select(approvals.c.state)
        .where(
            approvals.c.obs_id == items.c.obs_id,
            approvals.c.product == items.c.product,
            approvals.c.processing_id == items.c.processing_id,
        )
        .order_by(approvals.c.version.desc())
        .limit(1)
        .scalar_subquery()
    )
    query: sa.Select[Any] = (
        sa.select(
            items.c.obs_id,
            items.c.product,
            items.c.state.label("item_state"),
            table.c.id,
            table.c.state,
            table.c.error,
            table.c.requested,
            table.c.ended,
            heard.label("heard"),
            verdict.label("verdict"),
        )
        .select_from(items.outerjoin(table, table.c.id == items.c.processing_id))
        .where(
            items.c.campaign == number,
            items.c.obs_id.in_(sorted({obs_id for obs_id, _ in wanted})),
            items.c.state.in_(_FOLLOWING),
        )
    )
    return {
        (row.obs_id, row.product): (ItemState(row.item_state), _end_of(row))
        for row in connection.execute(query)
        if (row.obs_id, row.product) in wanted
    }


def _end_of(row: Row) -> ProcessingEnd | None:
    if row.id is None:
        return None
    return ProcessingEnd(
        state=State(row.state),
        error=row.error,
        requested=row.requested,
        ended=row.ended,
        heard=row.heard,
        verdict=None if row.verdict is None else Verdict(row.verdict),
    )


def _count(connection: sa.Connection, number: int, state: ItemState) -> int:
    query = sa.select(sa.func.count()).where(items.c.campaign == number, items.c.state == state)
    return int(connection.scalar(query) or 0)


def _ready(connection: sa.Connection, number: int, at_most: int) -> list[Instance]:
    query = (
        sa.select(items.c.obs_id, items.c.product)
        .where(items.c.campaign == number, items.c.state == ItemState.READY)
        .order_by(items.c.campaign, items.c.state, items.c.obs_id, items.c.product)
        .limit(at_most)
    )
    return [(row.obs_id, row.product) for row in connection.execute(query)]


def _is_open(connection: sa.Connection, number: int, rows: str) -> bool:
    """Return whether anything that has begun is in one of the states that `rows` selects."""
    query = sa.select(items.c.obs_id).where(items.c.campaign == number, sa.text(rows)).limit(1)
    return connection.scalar(query) is not None


# ---------------------------------------------------------------------- what is written


def _cancel_waiting(connection: sa.Connection, number: int, now: float) -> int:
    """Cancel some of what a campaign has waiting, and has not begun; return how many."""
    ids = _waiting_ids(connection, number, f"({PENDING} OR state IN ('held', 'unapproved'))")
    changes = []
    for row in locked_rows(connection, ids).values():
        before = record_of(row)
        reason = f"campaign {number} was cancelled"
        after = cancel(before, reason, now)
        if after is not None:
            changes.append((before, after))
            record_order(connection, [before], now, "cancelled", reason, UNNAMED)
    write_changes(connection, changes)
    begun = sa.delete(items).where(items.c.campaign == number, items.c.state.in_(NOT_CLAIMED))
    dropped = connection.execute(begun).rowcount
    keys = connection.execute(
        sa.select(parts.c.campaign, parts.c.dropped, parts.c.first)
        .where(parts.c.campaign == number)
        .limit(BATCH)
    ).all()
    if keys:
        connection.execute(_DROP_PART, [{"n": n, "d": d, "f": f} for n, d, f in keys])
    return len(changes) + dropped + len(keys)


def _waiting_ids(connection: sa.Connection, number: int, rows: str) -> list[str]:
    query = sa.select(table.c.id).where(table.c.campaign == number, sa.text(rows)).limit(BATCH)
    return list(connection.scalars(query))


def _item(number: int, obs_id: str, product: str, step: Step, now: float) -> dict[str, Any]:
    return {
        "campaign": number,
        "obs_id": obs_id,
        "product": product,
        "state": step.state,
        "reason": step.reason,
        "at": now,
    }


def _key(number: int, instance: Instance) -> dict[str, Any]:
    return {"of": number, "its_obs_id": instance[0], "its_product": instance[1]}


_THIS: Final = (
    items.c.campaign == sa.bindparam("of"),
    items.c.obs_id == sa.bindparam("its_obs_id"),
    items.c.product == sa.bindparam("its_product"),
)
_DELETE: Final = sa.delete(items).where(*_THIS)
_CHANGE: Final = (
    sa.update(items)
    .where(*_THIS)
    .values(
        state=sa.bindparam("new_state", type_=sa.String),
        reason=sa.bindparam("new_reason"),
        # What is ready has none, whatever it had awaited.
        processing_id=sa.case(
            (sa.bindparam("new_state", type_=sa.String) == ItemState.READY, None),
            else_=sa.func.coalesce(sa.bindparam("new_id", type_=sa.String), items.c.processing_id),
        ),
        at=sa.bindparam("new_at"),
    )
)
_DROP_PART: Final = sa.delete(parts).where(
    parts.c.campaign == sa.bindparam("n"),
    parts.c.dropped == sa.bindparam("d"),
    parts.c.first == sa.bindparam("f"),
)


def _add_counts(
    connection: sa.Connection, number: int, added: Mapping[tuple[str, ItemState], int]
) -> None:
    if added:
        connection.execute(
            _count_statement(connection.dialect.name),
            [
                {"campaign": number, "product": product, "state": state, "number": more}
                for (product, state), more in sorted(added.items())
            ],
        )


@cache
def _count_statement(dialect: str) -> Any:
    statement = insert(dialect, counts)
    return statement.on_conflict_do_update(
        index_elements=["campaign", "product", "state"],
        set_={"number": counts.c.number + statement.excluded.number},
    )
