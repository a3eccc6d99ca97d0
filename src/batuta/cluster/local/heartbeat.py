"""What a worker is doing, told in a few bytes of memory that the main process maps too.

The worker writes which order it runs, which step of it, and since when. The main process writes
which orders it takes back, those that the worker has not begun. A lock on the file settles who
came first.
"""

import fcntl
import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

# Native: each number is stored at one go, so that nobody reads half of it.
_TAKEN_BACK: Final = struct.Struct("@qq")
_DOING: Final = struct.Struct("@qq")
_SINCE: Final = struct.Struct("@d")
_SINCE_AT: Final = _TAKEN_BACK.size
_DOING_AT: Final = _SINCE_AT + _SINCE.size
_SIZE: Final = _DOING_AT + _DOING.size

RESTING: Final = -1
"""The step of a worker that runs nothing."""


class Doing(NamedTuple):
    """What a worker does: the number of the order (-1: none yet), its step, for how long in s."""

    number: int
    step: int
    for_s: float


class Pulse:
    """The shared bytes of one worker, from either side.

    Parameters
    ----------
    path : str
        The file; `create` makes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # Opened by each side for itself: locks belong to whoever opened.
        self._stream = Path(path).open("r+b")  # noqa: SIM115 - held until `close`
        self._map = mmap.mmap(self._stream.fileno(), _SIZE)

    @classmethod
    def create(cls, path: str) -> "Pulse":
        """Make the file of a worker that has begun nothing."""
        content = bytearray(_SIZE)
        _SINCE.pack_into(content, _SINCE_AT, time.monotonic())
        _DOING.pack_into(content, _DOING_AT, -1, RESTING)
        Path(path).write_bytes(content)
        return cls(path)

    def remove(self) -> None:
        """Close it and delete the file."""
        self._map.close()
        self._stream.close()
        Path(self.path).unlink(missing_ok=True)

    # The worker

    def begin(self, number: int) -> bool:
        """Tell that order `number` begins; False if it was taken back."""
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        try:
            first, end = _TAKEN_BACK.unpack_from(self._map, 0)
            if first <= number < end:
                return False
            self._write(number, 0)
            return True
        finally:
            fcntl.flock(self._stream, fcntl.LOCK_UN)

    def step(self, number: int, step: int) -> None:
        """Tell that a step of order `number` begins, or that it rests."""
        self._write(number, step)

    def _write(self, number: int, step: int) -> None:
        # The time before the step: a reader never sees a new step with an old time.
        _SINCE.pack_into(self._map, _SINCE_AT, time.monotonic())
        _DOING.pack_into(self._map, _DOING_AT, number, step)

    # The main process

    def doing(self) -> Doing:
        """Return what the worker does."""
        number, step = _DOING.unpack_from(self._map, _DOING_AT)
        (since,) = _SINCE.unpack_from(self._map, _SINCE_AT)
        return Doing(number, step, time.monotonic() - since)

    def take_back(self, end: int) -> int | None:
        """Forbid to begin the orders after the one that runs, up to number `end`, excluded.

        Returns
        -------
        int or None
            The number of the first order taken back; None if the worker is choosing just now.
        """
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        try:
            first: int = _DOING.unpack_from(self._map, _DOING_AT)[0] + 1
            # It holds what was taken back before, if the worker has not gone beyond.
            _TAKEN_BACK.pack_into(self._map, 0, first, end)
            return first
        finally:
            fcntl.flock(self._stream, fcntl.LOCK_UN)


def pulse_path(folder: str, name: str) -> str:
    """Name the file of the pulse of a worker, in the folder of results."""
    return os.path.join(folder, f"pulse-{name}")  # noqa: PTH118 - as the store names its files
