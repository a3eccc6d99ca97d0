"""The wall clock of one service, off by what a test wants, where there is a compiler of C.

`clock.c` is preloaded by the service: the clock of this machine stays as it is, and the product
knows nothing of it.
"""

import struct
from pathlib import Path
from typing import Final

from tests.support.preloading import build_library, can_preload

SOURCE: Final = Path(__file__).with_name("clock.c")


def build(folder: Path) -> Path | None:
    """Compile what changes clocks, into `folder`; None where nothing can be compiled."""
    return build_library(SOURCE, folder) if can_preload() else None


class Clock:
    """The clock of a service and of all that it starts."""

    def __init__(self, path: Path, preloaded: Path) -> None:
        self._path = path
        self.environment = {"LD_PRELOAD": str(preloaded), "CHAOS_CLOCK": str(path)}
        path.write_bytes(struct.pack("=q", 0))

    def set(self, offset_s: float) -> None:
        """Set it to the right time and so many seconds."""
        # In place: services have mapped the file.
        with self._path.open("r+b") as file:
            file.write(struct.pack("=q", round(offset_s)))
