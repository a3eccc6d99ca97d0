"""The wall clock of one service, off by what a test wants, where there is a compiler of C.

`clock.c` is preloaded by the service: the clock of this machine stays as it is, and the product
knows nothing of it.
"""

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("clock.c")
MISSING: Final = "no compiler of C (cc) is installed"


def build(folder: Path) -> Path | None:
    """Compile what changes clocks, into `folder`; None where nothing can be compiled."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    path = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(path), str(SOURCE), "-ldl"]
    return path if subprocess.run(command, check=False).returncode == 0 else None


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
