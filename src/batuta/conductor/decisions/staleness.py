"""What is stale: made from versions that are not those available now. Pure functions.

A product is stale if an input that it was made from is available in another version since, is not
available any more, or is itself stale. What is stale and made again (`OnUpdate.REPROCESS`) is
*outdated*: what needs it waits for it, so that each product is made again once, after its inputs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from batuta.conductor.decisions.events import Archived
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.decisions.stages import Staged
from batuta.graph import Graph, OnUpdate, Product


@dataclass(frozen=True, slots=True)
class Available:
    """A product as it is available of an observation.

    Attributes
    ----------
    version : int
        That of its bytes: of versions that follow each other with the same bytes, the first.
    made_from : mapping
        The versions of its inputs, by name; empty of what arrived, or was imported by hand.
    """

    version: int
    made_from: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Staleness:
    """What is stale of an observation.

    Attributes
    ----------
    because : mapping
        Why each product that is stale is so, in one line.
    outdated : frozenset of str
        Those of them that are made again.
    """

    because: Mapping[str, str] = field(default_factory=dict)
    outdated: frozenset[str] = frozenset()


NOTHING_STALE: Final = Staleness()
NOTHING_AWAITED: Final[Mapping[tuple[str, str], tuple[str, ...]]] = MappingProxyType({})


def staleness_of(
    graph: Graph, available: Mapping[str, Available], staged: Staged | None = None
) -> Staleness:
    """Return what is stale of an observation, of which this is `available`.

    `staged` is what is known of its stages; None if none was told.
    """
    versions = {name: each.version for name, each in available.items()}
    because: dict[str, str] = {}
    outdated: set[str] = set()
    for name in (name for level in graph.levels() for name in level if name in available):
        definition = graph.products.get(name)
        if definition is None:
            continue
        changed: list[str] = []
        follows: list[str] = []
        for source, used in available[name].made_from.items():
            if not graph.knows(source):
                continue
            if (change := _change(source, used, available.get(source))) is not None:
                changed.append(change)
            elif source in because:
                follows.append(source)
        if changed or follows:
            because[name] = "; ".join([*changed, *(f"{each} is stale" for each in follows)])
        if (changed or not outdated.isdisjoint(follows)) and _is_remade(
            definition, versions, staged
        ):
            outdated.add(name)
    return Staleness(because, frozenset(outdated))


def _is_remade(product: Product, versions: Mapping[str, int], staged: Staged | None) -> bool:
    """Return whether a product, whose inputs have changed, is made again by itself."""
    by_update = product.on_update is OnUpdate.REPROCESS
    if staged is None:
        return by_update
    stage = staged.stage_from(product, staged.usable(product, versions))
    return staged.allows(product, stage) and (by_update or staged.rises(product, stage))


def _change(source: str, used: int, now: Available | None) -> str | None:
    """Return how an input differs from the version that was used; None if it does not.

    A version that its source did not number (0) cannot be told from another.
    """
    if now is None:
        which = f" v{used}" if used else ""
        return f"made from {source}{which}, which is not available any more"
    if used in (0, now.version):
        return None
    return f"made from {source} v{used}, and v{now.version} is available"


def awaited_inputs(product: Product, staleness: Staleness) -> tuple[str, ...]:
    """Return the mandatory inputs that are made again first: `product` is made after them."""
    return tuple(name for name in product.m_input if name in staleness.outdated)


@dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A version that was archived too late: what it was made from had been withdrawn."""

    product: str
    obs_id: str
    version: int
    reason: str


def tell_makers(
    arrivals: Sequence[Arrival], made: Iterable[Archived], makers: Collection[ProcessingRecord]
) -> tuple[list[Arrival], list[RefusedVersion]]:
    """Return the arrivals, each with the processing that made it, and those that are refused.

    What a processing makes after it was stopped, because its input was withdrawn, is refused: it
    would be taken for newer than what is made from the inputs that are left.

    Parameters
    ----------
    arrivals : sequence of Arrival
        What is said to be available.
    made : iterable of Archived
        Which processing made which version.
    makers : collection of ProcessingRecord
        The processings that are known, as they were.
    """
    known = {record.id: record for record in makers}
    named = {
        (each.product, each.obs_id, each.version): known[each.processing_id]
        for each in made
        if each.processing_id in known
    }
    # Those that name no processing of ours are attributed to the one that was under way.
    open_ = {(each.product, each.obs_id): each for each in makers if not each.state.ended}
    kept: list[Arrival] = []
    refused: list[RefusedVersion] = []
    for each in arrivals:
        maker = named.get((each.product, each.obs_id, each.version))
        if maker is not None and maker.withdrawn_input is not None:
            reason = f"made from {maker.withdrawn_input}, which was withdrawn meanwhile"
            refused.append(RefusedVersion(each.product, each.obs_id, each.version, reason))
            continue
        maker = maker or open_.get((each.product, each.obs_id))
        kept.append(each if maker is None else replace(each, made_by=maker.id))
    return kept, refused
