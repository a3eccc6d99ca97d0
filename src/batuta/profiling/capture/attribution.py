"""Which line of the program an allocation is attributed to."""

import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import batuta

_BATUTA: Final = str(Path(batuta.__file__).parent)
_LIBRARIES: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {_BATUTA}
)

Frame: TypeAlias = tuple[str, str, int]
"""Function, file, line: as memray reports them."""


class Line(NamedTuple):
    """A line of a source file."""

    file: str
    line: int
    function: str


class Attribution:
    """Finds the innermost line of the program: not of a library, of Python or of Batuta.

    Parameters
    ----------
    task : callable, optional
        The package that defines it belongs to the program too, even if it is installed.
    """

    def __init__(self, task: Callable[..., Any] | None = None) -> None:
        package = getattr(task, "__module__", "").partition(".")[0]
        file = Path(getattr(sys.modules.get(package), "__file__", None) or "")
        self._package = str(file.parent if file.name == "__init__.py" else file)

    def is_program(self, frame: Frame) -> bool:
        """Whether a frame belongs to the program."""
        file = frame[1]
        if self._package != "." and file.startswith(self._package):
            return True
        return not file.startswith((*_LIBRARIES, "<"))

    def line_of(self, stack: Sequence[Frame]) -> Line | None:
        """Return the innermost line of the program in a stack.

        Parameters
        ----------
        stack : sequence of Frame
            Innermost frame first.

        Returns
        -------
        Line or None
            The innermost line of all where no frame belongs to the program; None for an empty
            stack.
        """
        frame = next(filter(self.is_program, stack), None) or next(iter(stack), None)
        return None if frame is None else Line(frame[1], frame[2], frame[0])
