"""What the scenario asks of a system."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.orchestra_peers.ledger import Key
from benchmarks.orchestra_peers.step import ARCHIVE, EVENTS


@dataclass(frozen=True)
class Place:
    """Where a system runs: an empty folder for its data, and the named pipe for its steps."""

    folder: Path
    events: Path
    archive: bool
    """Whether steps write files."""

    @property
    def files(self) -> Path:
        """Where steps write files."""
        return self.folder / "files"

    @property
    def environment(self) -> dict[str, str]:
        """What workers are told by their environment."""
        temporary = self.folder / "temporary"
        for folder in (self.files, temporary):
            folder.mkdir(exist_ok=True)
        return {
            EVENTS: str(self.events),
            ARCHIVE: str(self.files) if self.archive else "",
            "TMPDIR": str(temporary),
        }

    async def files_written(self) -> set[Key]:
        """Return the products whose files are there."""
        names = [path.name.rsplit(".", 1) for path in self.files.iterdir()]
        return {(product, obs_id) for obs_id, product in names}


@dataclass(frozen=True)
class Started:
    """A system that runs."""

    announce: Callable[[str], Awaitable[None]]
    """Announce an observation; return once the system has acknowledged it durably."""
    archived: Callable[[], Awaitable[set[Key]]]
    """Return the products that are archived."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One of those compared."""

    name: str
    how: str = ""
    """What sets it apart from the same system used otherwise."""
    version: Callable[[], str]
    start: Callable[[Place], AbstractAsyncContextManager[Started]]
