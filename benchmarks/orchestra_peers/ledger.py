"""What the steps of a system reported: when each product began and was made, and how often."""

import asyncio
import fcntl
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

PIPE_BYTES: Final = 2**20
READ_BYTES: Final = 2**16

Key = tuple[str, str]
"""A product and an observation."""


class Ledger:
    """Reads the named pipe that steps are reported to.

    Attributes
    ----------
    begun, made : dict
        For each product of an observation, each time that it happened, in ns of the monotonic
        clock.
    """

    def __init__(self) -> None:
        self.begun: dict[Key, list[int]] = defaultdict(list)
        self.made: dict[Key, list[int]] = defaultdict(list)
        self._kinds = {"begun": self.begun, "made": self.made}
        self._rest = b""
        self._heard = asyncio.Event()

    def read(self, pipe: int) -> None:
        """Read what there is."""
        *lines, self._rest = (self._rest + os.read(pipe, READ_BYTES)).split(b"\n")
        for line in lines:
            kind, product, obs_id, time_ns = line.decode().split()
            self._kinds[kind][product, obs_id].append(int(time_ns))
        self._heard.set()

    async def until_made(self, keys: Iterable[Key], timeout_s: float) -> bool:
        """Wait until all of `keys` are made, and return whether they were in time."""
        missing = list(keys)
        try:
            async with asyncio.timeout(timeout_s):
                while self._drop_made(missing):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return not self._drop_made(missing)
        return True

    def _drop_made(self, missing: list[Key]) -> bool:
        """Drop what is made from the end, so that each is looked at once; whether any is left."""
        while missing and missing[-1] in self.made:
            missing.pop()
        return bool(missing)

    def repeated(self) -> list[Key]:
        """Return what began or was made more than once."""
        return [
            key for kind in self._kinds.values() for key, times in kind.items() if len(times) != 1
        ]


@asynccontextmanager
async def reading(path: Path) -> AsyncIterator[Ledger]:
    """Make the named pipe `path`, and read what workers write to it."""
    os.mkfifo(path, 0o600)
    # For writing too: without a writer, the end of the file would be read.
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    ledger, loop = Ledger(), asyncio.get_running_loop()
    loop.add_reader(pipe, ledger.read, pipe)
    try:
        yield ledger
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
