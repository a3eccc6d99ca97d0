"""``python -m tools.install FOLDER CONSTRAINTS PIP_ARGUMENT...``: a virtual environment, soon.

uv takes a third of pip's time, as it loads and compiles packages at the same time. It does not read
pip's configuration: where that names an index, packages are to come from there, and pip installs
them. So it does where uv fails, such as behind a proxy that only pip is told of.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

UV_PIN: Final = Path(__file__).parents[1] / "constraints.txt"
_OWN_INDEX: Final = re.compile(r"^[\w:-]*\.(index-url|no-index)=", re.MULTILINE)
_PIP: Final = ("-m", "pip", "--disable-pip-version-check")


def install(folder: Path, constraints: Path, what: Sequence[str]) -> None:
    """Create an environment, and install what pip's arguments say in the versions of a file.

    Raises
    ------
    subprocess.CalledProcessError
        If it cannot be installed; pip has said why.
    """
    _run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    given = ["--quiet", "--constraint", str(constraints), *what]
    if _has_uv(python):
        uv = [str(folder / "bin" / "uv"), "pip", "install", "--compile-bytecode"]
        if _succeeds(*uv, "--python", python, *given):
            return
        sys.stderr.write("uv could not install it: now pip, which takes some minutes\n")
    _run(python, *_PIP, "install", *given)


def names_an_index(configuration: str) -> bool:
    """Return whether ``pip config list`` tells where packages are to come from."""
    return _OWN_INDEX.search(configuration) is not None


def _has_uv(python: str) -> bool:
    """Install uv, unless it may not be used; return whether it is there."""
    told = subprocess.run([python, *_PIP, "config", "list"], capture_output=True, text=True)  # noqa: PLW1510  pip says it again where it matters
    if told.returncode or names_an_index(told.stdout):
        return False
    return _succeeds(python, *_PIP, "install", "--quiet", "--constraint", str(UV_PIN), "uv")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main(arguments: Sequence[str]) -> int:
    """Install; return the exit code."""
    folder, constraints, *what = arguments
    try:
        install(Path(folder), Path(constraints), what)
    except subprocess.CalledProcessError as exc:
        return int(exc.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
