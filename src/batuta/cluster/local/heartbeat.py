"""What a worker runs, in a few bytes of memory that the main process maps too.

The worker writes the request that it runs, the step and since when; the main process reads that at
any moment, even while a task holds the interpreter. The main process writes the requests that it
withdraws; the worker reads that before it begins one.

Two kinds of access need two kinds of care. What runs is read and written without a lock: the
request and its step are one number, which is stored at once. Beginning a request and withdrawing
requests exclude each other by a lock on the file: otherwise a request might begin in its worker
just when it is withdrawn, and run twice.
"""

import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

# Places of the numbers, each of 8 bytes. They are written through a memoryview, which copies a
# number at once: `struct.pack_into` clears its bytes first, and the other side may read zeros.
_WITHDRAWN_FROM: Final = 0
_WITHDRAWN_TO: Final = 1
_SINCE: Final = 2
_STATE: Final = 3
_SIZE: Final = 4 * 8

_STEP_BITS: Final = 32
IDLE: Final = -1
"""The step of a worker that runs nothing."""


def _encode(number: int, step: int) -> int:
    return number << _STEP_BITS | (step - IDLE)


class HeartbeatState(NamedTuple):
    """What a worker runs."""

    number: int
    """Of the request that runs, or ran last; -1 before the first."""
    step: int
    for_s: float
    """How long it has run the step."""


class Heartbeat:
    """The shared bytes of one worker, from either side.

    Parameters
    ----------
    path : str
        The file; `create` makes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # Each side opens the file for itself: a lock of flock(2) belongs to the open file, and a
        # descriptor that was inherited would share it instead of waiting for it.
        self._stream = Path(path).open("r+b")  # noqa: SIM115 - held until `close`
        self._map = mmap.mmap(self._stream.fileno(), _SIZE)
        self._bytes = memoryview(self._map)
        self._integers = self._bytes.cast("q")
        self._floats = self._bytes.cast("d")

    @classmethod
    def create(cls, path: str) -> "Heartbeat":
        """Create the file of a worker that has begun nothing."""
        Path(path).write_bytes(bytes(_SIZE))
        heartbeat = cls(path)
        heartbeat.record_step(-1, IDLE)
        return heartbeat

    def close(self) -> None:
        """Close and delete the file."""
        for view in (self._floats, self._integers, self._bytes):
            view.release()
        self._map.close()
        self._stream.close()
        Path(self.path).unlink(missing_ok=True)

    # The worker

    def begin(self, number: int) -> bool:
        """Record that request `number` begins; return False if it was withdrawn.

        Under the lock, `withdraw` happens before or after, whole: before, and the request is
        in the range that is read here; after, and it reads this number as begun.
        """
        fcntl.flock(self._stream, fcntl.LOCK_EX)
        try:
            if self._integers[_WITHDRAWN_FROM] <= number < self._integers[_WITHDRAWN_TO]:
                return False
            self.record_step(number, 0)
            return True
        finally:
            fcntl.flock(self._stream, fcntl.LOCK_UN)

    def record_step(self, number: int, step: int) -> None:
        """Record that a step of request `number` begins, or that the worker is `IDLE`.

        No lock: the number of the request, the only thing that `withdraw` reads, stays the same.
        """
        # The time first: `read` takes it last, and so never sees a new step with an old time, which
        # would look as if the step were over its time limit.
        self._floats[_SINCE] = time.monotonic()
        self._integers[_STATE] = _encode(number, step)

    # The main process

    def read(self) -> HeartbeatState:
        """Return what the worker runs."""
        state = self._integers[_STATE]
        for_s = time.monotonic() - self._floats[_SINCE]
        step = (state & ((1 << _STEP_BITS) - 1)) + IDLE
        return HeartbeatState(state >> _STEP_BITS, step, for_s)

    def withdraw(self, end: int) -> int | None:
        """Withdraw the requests after the one that runs, up to number `end`, excluded.

        Returns
        -------
        int or None
            The number of the first request withdrawn; None if the worker is about to begin one.
            The main process does not wait for that: a worker that was stopped in between would
            hold the lock for ever.
        """
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        try:
            first = self.read().number + 1
            # The range before this one may be overwritten: its end was lower, and as far as the
            # worker has not passed it, it lies after the request that runs, and so in this one.
            self._integers[_WITHDRAWN_FROM], self._integers[_WITHDRAWN_TO] = first, end
            return first
        finally:
            fcntl.flock(self._stream, fcntl.LOCK_UN)


def heartbeat_path(folder: str, name: str) -> str:
    """Return the path of the heartbeat of a worker, in the folder of results."""
    return os.path.join(folder, f"heartbeat-{name}")  # noqa: PTH118 - as the store names its files
