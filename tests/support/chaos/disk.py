"""Small disks, one for each service, that fill."""

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.support.disks import mount_in_memory

STEPS: Final = (2**24, 2**20, 2**16, 2**12)


class Disk:
    """A disk in memory of `size_mb`; a folder without bounds where none may be mounted."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.problem = mount_in_memory(folder, size_mb)
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Fill the disk."""
        with self._ballast.open("ab") as file:
            for step in STEPS:
                self._add(file.fileno(), step)

    def free(self) -> None:
        """Free the space that `fill` took."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it."""
        if self.problem is None:
            subprocess.run(["umount", str(self.folder)], check=True)

    @staticmethod
    def _add(file: int, step: int) -> None:
        try:
            while True:
                os.posix_fallocate(file, os.fstat(file).st_size, step)
        except OSError:
            return  # full: by the next smaller step
