"""Which line of a program an allocation is named after."""

import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import batuta

_OURS: Final = str(Path(batuta.__file__).parent)
_LIBRARIES: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {_OURS}
)

Frame: TypeAlias = tuple[str, str, int]
"""Function, file, line: as memray gives them."""


class Line(NamedTuple):
    """A line of a source file."""

    file: str
    line: int
    function: str


class Blame:
    """Finds the innermost line of the program: not of a library, of Python or of Batuta.

    Parameters
    ----------
    task : callable, optional
        The package that it comes from is of the program too, installed or not.
    """

    def __init__(self, task: Callable[..., Any] | None = None) -> None:
        package = getattr(task, "__module__", "").partition(".")[0]
        file = Path(getattr(sys.modules.get(package), "__file__", None) or "")
        self._own = str(file.parent if file.name == "__init__.py" else file)

    def is_program(self, frame: Frame) -> bool:
        """Whether a frame is one of the program."""
        file = frame[1]
        if self._own != "." and file.startswith(self._own):
            return True
        return not file.startswith((*_LIBRARIES, "<"))

    def line(self, stack: Sequence[Frame]) -> Line | None:
        """Name a line of a stack, innermost frame first; the first where none is the program's."""
        frame = next(filter(self.is_program, stack), None) or next(iter(stack), None)
        return None if frame is None else Line(frame[1], frame[2], frame[0])
