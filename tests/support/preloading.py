"""Libraries of C that are loaded into a process before its own: compiled where they are needed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

MISSING: Final = "no compiler of C (cc) is installed, or this is not Linux"
REQUIRED_VARIABLE: Final = "BATUTA_TESTS_REQUIRE"


def can_preload() -> bool:
    """Return whether libraries can be compiled, and loaded before others."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def require_preloading() -> None:
    """Skip where nothing can be preloaded; fail where that is required to be possible."""
    if can_preload():
        return
    if "cc" in os.environ.get(REQUIRED_VARIABLE, "").split(","):
        pytest.fail(f"{MISSING}, and {REQUIRED_VARIABLE} has cc")
    pytest.skip(MISSING)


def build_library(source: Path, folder: Path) -> Path:
    """Compile `source` into `folder`."""
    path = folder / source.with_suffix(".so").name
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(path), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return path
