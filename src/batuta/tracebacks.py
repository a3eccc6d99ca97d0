"""Where in its author's code an exception was raised.

The last frame of a traceback is often deep inside a library, which says little to whoever wrote the
function that called it. What they look for is the last line of their own.
"""

import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from batuta.errors import BatutaError, describe_error

_INSTALLED: Final = {"site-packages", "dist-packages"}
"""Folders of installed libraries (site(3))."""
_PACKAGE: Final = str(Path(__file__).parent)
_KERNEL_FOLDER: Final = "ipykernel_"
"""Begin of the name of the temporary folder of a kernel of Jupyter, with the files of its cells."""
_COMPILED: Final = (".pyx", ".pxd", ".pxi")
_GENERATED_BY_AUTHORS: Final = ("<stdin>", "<ipython-", "<doctest", "<console>")


@dataclass(frozen=True, slots=True)
class AuthorLine:
    """A line of a program, and the function that it is in."""

    path: str
    line: int
    function: str

    def __str__(self) -> str:
        name = self.path if self.path.startswith("<") else Path(self.path).name
        if Path(self.path).parent.name.startswith(_KERNEL_FOLDER):
            name = "cell"  # of a notebook: its file is named by a digest
        where = f"{name}:{self.line}"
        return where if self.function == "<module>" else f"{where} in {self.function}"


def author_line(exc: BaseException, module: str | None = None) -> AuthorLine | None:
    """Return the last line, outside Python and installed libraries, that `exc` passed through.

    Parameters
    ----------
    exc : BaseException
        Once it was raised. If it passed through no such line, its cause is looked at.
    module : str, optional
        A module of the author's: all of its package is theirs, though it be installed.

    Returns
    -------
    AuthorLine or None
        None if only libraries are in its traceback.
    """
    package = _package_of(module)
    for each in _causes(exc):
        found = None
        for frame, line in traceback.walk_tb(each.__traceback__):
            if _is_of_author(frame, package):
                code = frame.f_code
                found = AuthorLine(code.co_filename, line, code.co_name)
        if found is not None:
            return found
    return None


def frames_after_author(exc: BaseException, module: str | None = None) -> int:
    """Return how many frames `exc` passed through after the last one of its author's code.

    0 if there is none of the author's; see `author_line`.
    """
    package = _package_of(module)
    ours = [_is_of_author(frame, package) for frame, _ in traceback.walk_tb(exc.__traceback__)]
    return ours[::-1].index(True) if True in ours else 0


def without_callers(exc: BaseException, module: str | None = None) -> TracebackType | None:
    """Return the traceback of `exc` from the first line of its author's on.

    The whole one if there is none of the author's; see `author_line`.
    """
    package = _package_of(module)
    step = exc.__traceback__
    while step is not None and not _is_of_author(step.tb_frame, package):
        step = step.tb_next
    return step or exc.__traceback__


def describe_failure(exc: BaseException, module: str | None = None) -> str:
    """Describe an exception of an author's code in one line: its words, and the author's line.

    Parameters
    ----------
    exc : BaseException
        Once it was raised; of a group, each of its exceptions is described.
    module : str, optional
        A module of the author's: see `author_line`.
    """
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(describe_failure(inner, module) for inner in exc.exceptions))
    # The class of an error that is raised on purpose adds nothing to its words.
    text = exc.summary() if isinstance(exc, BatutaError) else describe_error(exc)
    where = author_line(exc, module)
    return text if where is None else f"{text} ({where})"


def _package_of(module: str | None) -> str | None:
    package = module.partition(".")[0] if module else None
    return None if package in {"__main__", "batuta"} else package


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that one, and so on."""
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__


def is_author_file(path: str, package: str | None, module: str) -> bool:
    """Return whether the file of a module is its author's, and not that of a library.

    Parameters
    ----------
    path, module : str
        The file, and the name of the module.
    package : str or None
        A package of the author's, though it be installed.
    """
    return (package is not None and module.partition(".")[0] == package) or not _is_library(path)


def _is_of_author(frame: FrameType, package: str | None) -> bool:
    name = frame.f_globals.get("__name__")
    if package is not None and isinstance(name, str) and name.partition(".")[0] == package:
        return True
    path = frame.f_code.co_filename
    if path.startswith("<"):
        return path.startswith(_GENERATED_BY_AUTHORS) or (path, name) == ("<string>", "__main__")
    # Compiled code has the path that it was compiled from, relative to its project.
    return not path.endswith(_COMPILED) and not _is_library(path)


@cache
def _is_library(path: str) -> bool:
    folders = (_PACKAGE, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")))
    return bool(_INSTALLED.intersection(Path(path).parts)) or any(
        Path(path).is_relative_to(folder) for folder in folders
    )
