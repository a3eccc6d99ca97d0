"""What is told of a run of chaos: to whoever started it, and to a file."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.chaos.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run, and what it has found.

    Attributes
    ----------
    executions : int
        How often a function was run, whatever became of it.
    attempts : int
        The attempts that the conductor has counted.
    faults : dict
        How many there were, by kind and by what they hit.
    left_out : dict
        The faults that this machine does not allow, and why.
    ended : list of str
        The services that have ended by themselves, and were started again.
    violations : list of str
        What does not hold.
    """

    plan: Plan
    lasted_s: float
    made: int
    executions: int
    attempts: int
    repeated_imports: int
    faults: dict[str, int]
    left_out: dict[str, str]
    ended: list[str]
    violations: list[str]
    explained: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """What runs the same again."""
        size = self.plan.size
        return (
            f"make chaos SEED={self.plan.seed} N={size.observations} PRODUCTS={size.products} "
            f"FAULTS={size.faults} DATABASE={self.plan.topology.database}"
        )

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        told = {**asdict(self), "command": self.command}
        path.write_text(json.dumps(told, indent=1))

    def lines(self, folder: Path) -> Iterator[str]:
        """Yield it as text; `folder` has the logs, where something does not hold."""
        size = self.plan.size
        yield f"chaos, seed {self.plan.seed}: {self.command}"
        yield (
            f"  {size.observations} observations, {self.made} of {size.to_make} products in "
            f"{self.lasted_s:.0f} s: {self.attempts} attempts, {self.executions} executions, "
            f"{self.repeated_imports} imports repeated"
        )
        yield f"  {sum(self.faults.values())} faults:"
        yield from (f"    {number:4} {name}" for name, number in sorted(self.faults.items()))
        yield from (f"  NOT TRIED: {kind}: {why}" for kind, why in self.left_out.items())
        yield f"  {len(self.ended)} services ended by themselves, and were started again"
        yield from (f"    {each}" for each in self.ended)
        yield from (f"VIOLATED: {each}" for each in self.violations)
        yield from self.explained
        if self.violations:
            yield f"logs, databases and the report: {folder}"
        else:
            yield "  everything is there once, from the right inputs, with the right bytes"
