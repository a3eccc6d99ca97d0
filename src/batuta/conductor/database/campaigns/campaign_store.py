"""Campaigns in the database: planned, ordered about, and listed as open.

Each method is one small transaction. What a running campaign does next is in
`batuta.conductor.database.campaigns.campaign_rounds`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.campaign_schema import OPEN_CAMPAIGN, campaigns, parts
from batuta.conductor.database.campaigns.campaign_parts import Part
from batuta.conductor.database.holds.hold_store import end_pause, place_pause
from batuta.conductor.database.orders import record_command
from batuta.conductor.database.records import Row
from batuta.conductor.decisions.campaigns import (
    CampaignOrder,
    CampaignState,
    after_order,
    after_planning,
)
from batuta.errors import BatutaError
from batuta.service.database import reading
from batuta.service.operators import UNNAMED, Operator

PLANNING_TIMEOUT_S: Final = 60.0
"""A plan of which nothing was heard for so long was interrupted, in seconds."""


NO_REASONS: Final[Mapping[str, Any]] = {"reasons": []}
"""The report of a campaign of which nothing was left unmade."""


class CampaignError(BatutaError):
    """What was ordered for a campaign is not possible; the reason is one line."""


class CampaignStore:
    """Plans and orders of campaigns.

    Parameters
    ----------
    engine : sa.Engine
        The conductor's database.
    clock : callable
        Returns the time, in seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    # ------------------------------------------------------------------ planning

    def begin_plan(self, values: Mapping[str, Any], by: Operator = UNNAMED) -> int:
        """Record a campaign that is going to be planned, and return its number."""
        now = self._clock()
        row = {
            **values,
            "state": CampaignState.PLANNING,
            "total": 0,
            "created": now,
            "touched": now,
            "ran_s": 0.0,
        }
        with self._engine.begin() as connection:
            (number,) = connection.execute(
                sa.insert(campaigns).values(row).returning(campaigns.c.number)
            ).one()
            about = {"campaign": number, **values["selection"]}
            record_command(connection, by, now, "campaign plan", about)
        return int(number)

    def add_parts(self, number: int, planned: Sequence[Part]) -> bool:
        """Record some of a plan; return whether it is still wanted."""
        with self._engine.begin() as connection:
            wanted = self._touch(connection, number)
            if wanted and planned:
                connection.execute(sa.insert(parts), [each.as_row(number) for each in planned])
        return wanted

    def end_plan(self, number: int, plan: Mapping[str, Any], total: int) -> bool:
        """Record that a plan is whole; return whether it was still wanted.

        One that makes nothing has ended then, with an empty report.
        """
        state, reason = after_planning(total)
        values: dict[str, Any] = {"state": state, "reason": reason, "plan": plan, "total": total}
        if state.ended:
            values |= {"ended": self._clock(), "report": NO_REASONS}
        with self._engine.begin() as connection:
            wanted = self._touch(connection, number)
            if wanted:
                connection.execute(_update(number).values(values))
        return wanted

    def abandon_plan(self, number: int, reason: str) -> None:
        """Record that a plan was not made, unless something was heard of it meanwhile."""
        now = self._clock()
        # Judged by the row as it is now: the conductor that plans may have been paused, and have
        # gone on since another one found that it was silent.
        silent = _update(number).where(
            campaigns.c.state == CampaignState.PLANNING, campaigns.c.touched < _heard_by(now)
        )
        values = {"state": CampaignState.CANCELLED, "reason": reason, "ended": now, "touched": now}
        with self._engine.begin() as connection:
            connection.execute(silent.values(values))

    def _touch(self, connection: sa.Connection, number: int) -> bool:
        """Note that a plan is being made; return whether it is."""
        being_planned = _update(number).where(campaigns.c.state == CampaignState.PLANNING)
        return bool(connection.execute(being_planned.values(touched=self._clock())).rowcount)

    # ------------------------------------------------------------------ orders

    def order(
        self,
        number: int,
        order: CampaignOrder,
        graph: str,
        reason: str | None = None,
        by: Operator = UNNAMED,
    ) -> Row:
        """Start, pause, resume or cancel a campaign; return it.

        Parameters
        ----------
        graph : str
            The digest of the graph in force.

        Raises
        ------
        KeyError
            If there is none of that number.
        CampaignError
            If it cannot be ordered in its state, or under this graph.
        """
        now = self._clock()
        with self._engine.begin() as connection:
            row = lock_campaign(connection, number)
            if row is None:
                raise KeyError(number)
            state = CampaignState(row.state)
            after = after_order(state, order)
            if after is None:
                raise CampaignError(_refusal(row, state, order))
            if order is CampaignOrder.START and row.graph != graph:
                raise CampaignError(
                    f"campaign {number} was planned with graph {row.graph[:12]}, and "
                    f"{graph[:12]} is in force: put that one in force, or plan it again"
                )
            # The reason is that of the state: why it was paused ends when it is resumed.
            changes = {"state": after, "reason": reason, **_times(row, after, now)}
            connection.execute(_update(number).values(changes))
            about = {"campaign": number}
            record_command(connection, by, now, f"campaign {order}", about, reason)
            if order is CampaignOrder.PAUSE:
                place_pause(connection, number, by, reason, now)
            elif order is CampaignOrder.RESUME:
                end_pause(connection, number, by, now)
            return connection.execute(_select(number)).one()

    # ------------------------------------------------------------------ reading

    def open_campaigns(self) -> list[Row]:
        """Return the campaigns that have not ended, the oldest first."""
        query = sa.select(campaigns).where(sa.text(OPEN_CAMPAIGN)).order_by(campaigns.c.number)
        with reading(self._engine) as connection:
            return list(connection.execute(query))

    def is_interrupted(self, row: Row) -> bool:
        """Return whether the conductor that planned a campaign no longer does."""
        late: bool = row.touched < _heard_by(self._clock())
        return late and row.state == CampaignState.PLANNING


def _heard_by(now: float) -> float:
    """Return since when something must have been heard of a plan that is still being made."""
    return now - PLANNING_TIMEOUT_S


def lock_campaign(connection: sa.Connection, number: int) -> Row | None:
    """Return a campaign, which no other transaction changes until this one ends."""
    return connection.execute(_select(number).with_for_update()).one_or_none()


def _times(row: Row, after: CampaignState, now: float) -> dict[str, Any]:
    """Return the times that change as a campaign enters a state."""
    changes: dict[str, Any] = {}
    if after is CampaignState.RUNNING:
        changes = {"running_since": now, "started": row.started or now}
    elif row.running_since is not None:
        changes = {
            "running_since": None,
            "ran_s": row.ran_s + max(0.0, now - row.running_since),
        }
    if after.ended:
        changes["ended"] = now
    return changes


def times_at_end(row: Row, now: float) -> dict[str, Any]:
    """Return the times of a campaign that ends now."""
    return _times(row, CampaignState.DONE, now)


def _refusal(row: Row, state: CampaignState, order: CampaignOrder) -> str:
    accepted = [each.value for each in CampaignOrder if after_order(state, each) is not None]
    ended = f"it has ended: {row.reason}" if row.reason else "it has ended"
    what = f"accepted: {', '.join(accepted)}" if accepted else ended
    if state is CampaignState.CANCELLING:
        what = "it is being cancelled"
    return f"campaign {row.number} is {state}: cannot {order} it ({what})"


def _select(number: int) -> "sa.Select[Any]":
    return sa.select(campaigns).where(campaigns.c.number == number)


def _update(number: int) -> sa.Update:
    return sa.update(campaigns).where(campaigns.c.number == number)
