"""Claims from versions that replace others: after their inputs, and in the place of older claims.

Of observations of which no version was replaced, none of it is executed; but for what a campaign
that runs has claimed and not requested.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import sqlalchemy as sa

from batuta.conductor.database.history import record_superseded
from batuta.conductor.database.records import (
    MAX_IN,
    Row,
    locked_rows,
    record_of,
    write_changes,
)
from batuta.conductor.database.schema import processings as table
from batuta.conductor.decisions.commands import supersede
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.rules import MANUAL, Arrival, Claim, inputs_text
from batuta.conductor.decisions.stages import Ranks, Staged
from batuta.conductor.decisions.staleness import NOTHING_STALE, Staleness, awaited_inputs
from batuta.graph import Approval, Graph, OnUpdate
from batuta.messaging import ProcessingState as State
from batuta.stages import FINAL_RANK

UNSENT: Final = sa.and_(
    table.c.state.in_([State.UNAPPROVED, State.WAITING, State.HELD]), table.c.attempt == 0
)

ASKED_BEFORE: Final = sa.and_(
    table.c.state.in_([State.WAITING, State.RETRYING]), table.c.attempt > 0
)
"""What waits to be asked for again: it failed, or its provider is left alone."""

_other = table.alias("other")
_OVERTAKEN: Final = (
    sa.select(table.c.id, table.c.inputs, _other.c.inputs.label("others"))
    .join(
        _other,
        sa.and_(
            _other.c.obs_id == table.c.obs_id,
            _other.c.product == table.c.product,
            _other.c.id != table.c.id,
            _other.c.state != State.CANCELLED,
            _other.c.claim.not_like(f"{MANUAL}%"),
            _other.c.stage.is_not_distinct_from(table.c.stage),
        ),
    )
    .where(
        table.c.id.in_(sa.bindparam("ids", expanding=True)),
        table.c.claim.not_like(f"{MANUAL}%"),
    )
)
"""Pairs of what is due again, and another claim of the same product."""

_UNSENT_OF_CAMPAIGNS: Final[sa.Select[Any]] = sa.select(
    table.c.id, table.c.obs_id, table.c.product, table.c.inputs
).where(
    table.c.obs_id.in_(sa.bindparam("observations", expanding=True)),
    table.c.campaign.is_not(None),
    UNSENT,
)


def asked_again(claim: Claim) -> dict[str, Any]:
    """Return what changes of a claim besides its inputs: what was approved is not these."""
    if claim.product.approval is not Approval.BEFORE:
        return {}
    return {"state": State.UNAPPROVED, "held_by": None, "approved": False}


def renew_unsent_of_campaigns(
    connection: sa.Connection,
    graph: Graph,
    arrived: Mapping[str, AbstractSet[str]],
    versions: Mapping[str, Mapping[str, int]],
    staged: Mapping[str, Staged],
) -> None:
    """Replace the inputs of unsent claims of campaigns by what has arrived since.

    It takes the key of the claim from the new versions, where that is free: an arrival that is
    announced again claims nothing then, and neither does what follows from it.
    """
    rows: list[Row] = []
    names = sorted(arrived)
    for start in range(0, len(names), MAX_IN):
        some = {"observations": names[start : start + MAX_IN]}
        rows += connection.execute(_UNSENT_OF_CAMPAIGNS, some)
    for row in rows:
        product = graph.products.get(row.product)
        if product is None or arrived[row.obs_id].isdisjoint(product.sources):
            continue
        usable, stage = versions[row.obs_id], None
        if (known := staged.get(row.obs_id)) is not None:
            usable = known.usable(product, usable)
            stage = known.stage_from(product, usable)
        inputs = {name: usable[name] for name in product.sources if name in usable}
        if inputs == row.inputs or not product.ready(usable):
            continue
        claim = Claim(product, row.obs_id, inputs, stage=stage)
        values = {"inputs": inputs, "stage": stage, **asked_again(claim)}
        same = (table.c.obs_id == row.obs_id, table.c.product == row.product)
        taken = sa.select(table.c.id).where(*same, table.c.claim == claim.key, table.c.id != row.id)
        if connection.execute(taken).first() is None:
            values["claim"] = claim.key
        connection.execute(sa.update(table).where(table.c.id == row.id).values(values))


def supersede_older(
    connection: sa.Connection, claims: Iterable[Claim], now: float
) -> tuple[str, ...]:
    """Cancel what waits to be asked for again, from older inputs than claims; return the ids.

    What is of a lower stage is superseded by that.
    """
    changes = []
    for claim in claims:
        if claim.product.on_update is OnUpdate.IGNORE:
            continue
        found = connection.scalars(
            sa.select(table.c.id).where(
                table.c.obs_id == claim.obs_id,
                table.c.product == claim.product.name,
                ASKED_BEFORE,
                table.c.claim != claim.key,
                table.c.claim.not_like(f"{MANUAL}%"),
                table.c.stage.is_not_distinct_from(claim.stage),
            )
        )
        for row in locked_rows(connection, list(found)).values():
            before = record_of(row)
            after = supersede(before, claim.inputs_text, now)
            if after is not None:
                changes.append((before, after))
    write_changes(connection, changes)
    record_superseded(connection, changes, now)
    return tuple(after.id for _, after in changes)


def supersede_overtaken(
    connection: sa.Connection,
    graph: Graph,
    due: Iterable[ProcessingRecord],
    versions_of: Callable[[AbstractSet[str]], Mapping[str, Mapping[str, int]]],
    now: float,
) -> bool:
    """Cancel what is due again from older inputs than those of a later claim; return if any was.

    It was at its provider, or on its way, when the later claim was made, and has failed or was
    refused since: an attempt that was refused does not count. What holds again, since newer
    versions were withdrawn, is made from what is available, and is not cancelled.
    """
    again = {
        each.id: each
        for each in due
        if each.requested is not None
        and (product := graph.products.get(each.product)) is not None
        and product.on_update is OnUpdate.REPROCESS
    }
    pairs = connection.execute(_OVERTAKEN, {"ids": list(again)}).all() if again else []
    versions = versions_of({again[row.id].obs_id for row in pairs}) if pairs else {}
    changes: dict[str, tuple[ProcessingRecord, ProcessingRecord]] = {}
    for row in pairs:
        record = again[row.id]
        product, available = graph.products[record.product], versions[record.obs_id]
        # By its inputs, not by its time: clocks are set back.
        names = product.sources if product.improves else product.m_input
        newest = {name: available[name] for name in names if name in available}
        made_from, others = ({n: each[n] for n in names if n in each} for each in row[1:])
        if made_from != newest == others:
            after = supersede(record, inputs_text(newest), now)
            if after is not None:
                changes[record.id] = (record, after)
    write_changes(connection, list(changes.values()))
    record_superseded(connection, changes.values(), now)
    return bool(changes)


def same_bytes(
    arrivals: Iterable[Arrival],
    versions: Mapping[str, Mapping[str, int]],
    ranks: Mapping[str, Ranks],
) -> frozenset[tuple[str, str, int]]:
    """Return which of the arrivals are versions whose bytes an earlier one, used for them, has."""
    return frozenset(
        (each.obs_id, each.product, each.version)
        for each in arrivals
        if each.archived
        and each.version > versions[each.obs_id].get(each.product, each.version)
        and _rank(each.stage) == _rank(ranks.get(each.obs_id, {}).get(each.product))
    )


def _rank(told: int | None) -> int:
    return FINAL_RANK if told is None else told


def after_their_inputs(
    claims: Iterable[Claim], stale: Mapping[str, Staleness]
) -> tuple[list[Claim], dict[tuple[str, str], tuple[str, ...]]]:
    """Return the claims whose inputs are as they will be, and what the others wait for."""
    kept: list[Claim] = []
    awaiting: dict[tuple[str, str], tuple[str, ...]] = {}
    for claim in claims:
        names = awaited_inputs(claim.product, stale.get(claim.obs_id, NOTHING_STALE))
        if names:
            awaiting[claim.obs_id, claim.product.name] = names
        else:
            kept.append(claim)
    return kept, awaiting


def without_outdated(
    versions: Mapping[str, Mapping[str, int]], stale: Mapping[str, Staleness]
) -> dict[str, Mapping[str, int]]:
    """Return what is available, but for what is made again: it is waited for as if it lacked."""
    return {
        obs_id: {
            name: version
            for name, version in available.items()
            if name not in stale.get(obs_id, NOTHING_STALE).outdated
        }
        for obs_id, available in versions.items()
    }
