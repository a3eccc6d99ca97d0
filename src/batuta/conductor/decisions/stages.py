"""At which stages a product is made: functions without database, network or clock.

A product has the lowest stage of what it is made from, and never goes back to a lower one: what is
of a lower stage than the product has reached is not used for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from batuta.conductor.decisions.processing_record import AT_PROVIDER, ProcessingRecord
from batuta.graph import MadeAt, Product
from batuta.messaging import ProcessingState as State
from batuta.stages import FINAL_RANK, lowest, stage_of

Ranks = Mapping[str, int]
"""The ranks of the stages that were told of what is available of an observation, by product."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The ranks of the stages at which a product of an observation was claimed."""

    first: int
    highest: int


@dataclass(frozen=True, slots=True)
class Staged:
    """What is known of the stages of one observation, where any was told.

    Attributes
    ----------
    ranks : mapping
        Of what is available, where told; what is not in it is final.
    reached : mapping
        Of the products that were claimed, and have not failed.
    """

    ranks: Ranks
    reached: Mapping[str, Reached] = field(default_factory=dict)

    def rank(self, name: str) -> int:
        """Return the rank of what is available."""
        return self.ranks.get(name, FINAL_RANK)

    def usable(self, product: Product, available: Mapping[str, int]) -> Mapping[str, int]:
        """Return what is available of a high enough stage for `product`."""
        floor = self._floor(product, available)
        return {name: version for name, version in available.items() if self.rank(name) >= floor}

    def stage_from(self, product: Product, usable: Mapping[str, int]) -> int | None:
        """Return the rank that `product` has, made from what is `usable`; None if none is told."""
        return lowest(self.ranks.get(name) for name in product.sources if name in usable)

    def rises(self, product: Product, rank: int | None) -> bool:
        """Return whether `product`, which is available, is of a lower stage than `rank`."""
        return _told(rank) > self.rank(product.name)

    def allows(self, product: Product, rank: int | None) -> bool:
        """Return whether `product` is made at a stage, as the graph says."""
        reached = self.reached.get(product.name)
        told = _told(rank)
        match product.stages:
            case MadeAt.EACH:
                return True
            case MadeAt.FINAL:
                return told == FINAL_RANK
            case MadeAt.FIRST:
                return reached is None or told == reached.first
            case MadeAt.FIRST_AND_FINAL:
                return reached is None or told in {reached.first, FINAL_RANK}

    def _floor(self, product: Product, available: Mapping[str, int]) -> int:
        if product.stages is MadeAt.FINAL:
            return FINAL_RANK
        reached = self.reached.get(product.name)
        floor = 0 if reached is None else reached.highest
        return max(floor, self.rank(product.name)) if product.name in available else floor


def too_low(
    product: Product, available: Mapping[str, int], staged: Staged | None
) -> tuple[str, ...]:
    """Return the inputs of `product` that are available, and of too low a stage for it."""
    if staged is None:
        return ()
    usable = staged.usable(product, available)
    return tuple(name for name in product.sources if name in available and name not in usable)


def lacking(
    product: Product, versions: Mapping[str, int], staged: Staged | None
) -> tuple[str, ...]:
    """Return the inputs that keep `product` from being made: not available, or not final yet."""
    return product.lacks(counted(product, versions, staged))


def counted(
    product: Product, versions: Mapping[str, int], staged: Staged | None
) -> Mapping[str, int]:
    """Return what is available as far as `product` does not wait for it to be final."""
    if staged is None or product.stages is not MadeAt.FINAL:
        return versions
    return staged.usable(product, versions)


def waited_for(product: Product, versions: Mapping[str, int], staged: Staged | None) -> str | None:
    """Return which final inputs a product waits for, and what there is of them; None if none."""
    if staged is None:
        return None
    wanted = [
        f"the final {name}; has {version_text(versions[name], staged.rank(name))}"
        for name in lacking(product, versions, staged)
        if name in versions
    ]
    return ", and ".join(wanted) or None


def rises_text(product: Product, versions: Mapping[str, int], staged: Staged | None) -> str | None:
    """Return what becomes of a product that is not final; None if it is, or is not available."""
    if staged is None or product.name not in versions or staged.rank(product.name) == FINAL_RANK:
        return None
    now = f"it is {stage_text(staged.rank(product.name))}"
    if product.stages is MadeAt.FIRST:
        return f"{now}, and made at no higher stage (stages: first)"
    lower = below_final(product, versions, staged)
    return f"{now}, and made once more from the final {', '.join(lower)}" if lower else now


def below_final(product: Product, versions: Mapping[str, int], staged: Staged) -> tuple[str, ...]:
    """Return the inputs of `product` that are available, and not final."""
    return tuple(
        name for name in product.sources if name in versions and staged.rank(name) < FINAL_RANK
    )


def version_text(version: int, rank: int) -> str:
    """Return a version, 0 where its source keeps none, with its stage: ``preliminary v2``."""
    return f"{stage_text(rank)} v{version}" if version else stage_text(rank)


def stage_text(rank: int) -> str:
    """Return a stage in a sentence."""
    stage = stage_of(rank)
    return f"stage {stage}" if isinstance(stage, int) else stage


def no_claim_text(product: Product, versions: Mapping[str, int], staged: Staged) -> str | None:
    """Return why stages keep a product, whose inputs are there, from being made; None if not."""
    lower = too_low(product, versions, staged)
    usable = staged.usable(product, versions)
    if lower and not product.ready(usable):
        return f"{product.name} is {_reached_text(product, versions, staged)} already"
    rank = staged.stage_from(product, usable)
    if not staged.allows(product, rank):
        return f"{product.name} is not made at {_at(_told(rank))} (stages: {product.stages})"
    if lower:
        return f"{product.name} uses no {', '.join(lower)} of a lower stage than it has"
    return None


def supersede(record: ProcessingRecord, by: int, now: float) -> ProcessingRecord | None:
    """Return `record`, now that its product is claimed at a higher stage; None if nothing changes.

    What was not requested yet is not made: its product would be replaced at once. What its pipeline
    has begun may end, but is not tried again, since it would come after the better one.

    Parameters
    ----------
    by : int
        The rank of the higher stage.
    """
    if record.state.ended:
        return None
    if record.state in AT_PROVIDER:
        last = replace(record, max_attempts=record.attempt)
        return last if last != record else None
    reason = f"superseded: {record.product} is made at {_at(by)}"
    return replace(record, state=State.CANCELLED, error=reason, ended=now)


def _reached_text(product: Product, versions: Mapping[str, int], staged: Staged) -> str:
    reached = staged.reached.get(product.name)
    ranks = [] if reached is None else [reached.highest]
    if product.name in versions:
        ranks.append(staged.rank(product.name))
    return stage_text(max(ranks, default=FINAL_RANK))


def _told(rank: int | None) -> int:
    return FINAL_RANK if rank is None else rank


def _at(rank: int) -> str:
    text = stage_text(rank)
    return text if text.startswith("stage ") else f"the {text} stage"
