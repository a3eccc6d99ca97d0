"""Records what a program does to the files beneath a folder, and what it says, in one order.

`recorder.c` is preloaded by the program and its children, and writes the log that is read here. The
product knows nothing of it.
"""

import enum
import fcntl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("recorder.c")
_HEAD: Final = struct.Struct("=IIIIQQ")


class Kind(enum.IntEnum):
    """What was done, as `recorder.c` numbers it."""

    OPENED = 1
    WRITTEN = 2
    RESIZED = 3
    SYNCED = 4
    RENAMED = 5
    LINKED = 6
    UNLINKED = 7
    MADE = 8
    SYMLINKED = 9
    SAID = 10


@dataclass(frozen=True)
class Event:
    """One call.

    Parameters
    ----------
    kind : Kind
        What it did.
    inode : int
        Of the file or folder.
    position : int
        Where it wrote, or the new length, in bytes.
    flag : bool
        Whether an opened file was emptied, a resized one may only have grown, or two renamed ones
        were exchanged.
    first, second : bytes
        Names, or what was written or said.
    """

    kind: Kind
    inode: int
    position: int
    flag: bool
    first: bytes
    second: bytes


class Recorder:
    """Records into a log.

    Parameters
    ----------
    preloaded : Path
        `SOURCE`, compiled.
    root : Path
        The folder that is recorded, without links in its path.
    log : Path
        A new file, outside of it.
    """

    def __init__(self, preloaded: Path, root: Path, log: Path) -> None:
        self._preloaded = preloaded
        self.root = root
        self.log = log
        log.touch()
        self.environment = {
            "LD_PRELOAD": str(preloaded),
            "POWER_LOSS_LOG": str(log),
            "POWER_LOSS_ROOT": str(self.root),
        }
        """For the process that is recorded."""

    def again(self) -> "Recorder":
        """Return one of the same folder, with a log of its own."""
        return Recorder(self._preloaded, self.root, self.log.with_name(f"{self.log.name}-again"))

    @contextmanager
    def between_calls(self) -> Iterator[None]:
        """Hold all that is recorded between two calls: who is killed has half recorded none."""
        with self.log.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def events(self) -> Iterator[Event]:
        """Read what was recorded."""
        with self.log.open("rb") as file:
            while head := file.read(_HEAD.size):
                kind, first, second, flag, inode, position = _HEAD.unpack(head)
                yield Event(
                    kind=Kind(kind),
                    inode=inode,
                    position=position,
                    flag=bool(flag),
                    first=file.read(first),
                    second=file.read(second),
                )
