"""Measures a row on Batuta and its peers, one after the other and in turns."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.orchestra_peers.rows import Line, Row
from benchmarks.orchestra_peers.scenario import session
from benchmarks.orchestra_peers.systems.contract import System
from benchmarks.support.figures import Figure, not_measured


@dataclass(frozen=True)
class Variant:
    """A system, and whether its steps write files."""

    system: System
    archive: bool = True

    @property
    def name(self) -> str:
        """What it is called in the table."""
        files = "" if self.archive else "no files"
        parts = [f"{self.system.name} {self.system.version()}", self.system.how, files]
        return ", ".join(filter(None, parts))


async def measure(row: Row, batuta: Variant, peers: Sequence[Variant]) -> list[Figure]:
    """Return the lines of the row; a system that fails is named there, the others are measured.

    Raises
    ------
    RuntimeError
        If Batuta fails, or all of its peers.
    """
    found: dict[Variant, list[Any]] = {variant: [] for variant in (batuta, *peers)}
    failures: dict[Variant, str] = {}
    for _ in range(row.turns):
        for variant in [each for each in found if each not in failures]:
            try:
                found[variant].append(await _turn(row, variant))
            except RuntimeError as exc:
                if variant == batuta:
                    raise
                print(exc, file=sys.stderr)
                failures[variant] = f"{variant.system.name}: {str(exc).splitlines()[0]}"
    if len(failures) == len(peers):
        raise RuntimeError("\n".join(failures.values()))
    return [
        _figure(line, found[batuta], peer, found[peer])
        if peer not in failures
        else not_measured(line.what, failures[peer], line.target)
        for line in row.lines
        for peer in peers
    ]


async def _turn(row: Row, variant: Variant) -> Any:
    print(f"  {variant.name}: ", end="", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as name:
        folder = _opened_to_all(Path(name))
        async with session(variant.system, folder, archive=variant.archive) as opened:
            found = await row.measure(opened)
            await opened.check()
    print(", ".join(line.text([found]) for line in row.lines), file=sys.stderr)
    return found


def _opened_to_all(folder: Path) -> Path:
    """Let others read `folder`: PostgreSQL has a user of its own where the benchmark is root's."""
    folder.chmod(0o755)
    return folder


def _figure(line: Line, ours: list[Any], peer: Variant, theirs: list[Any]) -> Figure:
    theirs_value = line.value(theirs)
    return Figure(
        what=line.what,
        measured=line.text(ours),
        against=f"{peer.name}: {line.text(theirs)}",
        ratio=line.value(ours) / theirs_value if theirs_value else None,
        unit="x",
        target=line.target,
    )
