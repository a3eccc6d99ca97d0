"""Disks that fill, and folders that cannot be written."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import eventually_sync


@contextmanager
def mounted_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """Mount a disk of `size_mb` in memory; skip the test where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    if (problem := mount_in_memory(disk, size_mb)) is not None:
        pytest.skip(problem)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def mount_in_memory(folder: Path, size_mb: int) -> str | None:
    """Mount a disk of `size_mb` in memory at `folder`; return why it cannot be."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        return f"a small disk cannot be mounted here: {mounted.stderr.strip()}"
    return None


@contextmanager
def unwritable(folder: Path) -> Iterator[str]:
    """Let nothing be written in `folder`, not by root either; yield the reason."""
    if os.geteuid() != 0:
        mode = folder.stat().st_mode
        folder.chmod(0o500)
        yield "Permission denied"
        folder.chmod(mode)
        return
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        # Busy while a service writes there, as its health check does from time to time.
        remount = ["mount", "-o", "remount,bind,ro", str(folder)]
        eventually_sync(lambda: subprocess.run(remount, check=False).returncode == 0)
        yield "Read-only file system"
    finally:
        subprocess.run(["umount", str(folder)], check=True)
