"""The main script of a program, which workers import before they run its tasks.

Workers that are forked need not: they have all that the program has. Dask sends the functions of a
script whole, and its workers only import it where `multiprocessing` starts them.
"""

import functools
import io
import pickle
import sys
from collections.abc import Callable
from multiprocessing import process
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from batuta.cluster.errors import ClusterError
from batuta.errors import ConfigurationError

GUARD_HINT: Final = 'a script that computes needs `if __name__ == "__main__":` around what it does'
_MAIN: Final = "__main__"
_UNNAMED: Final = "<stdin>"


def leave_if_imported_by_worker() -> None:
    """End a worker that imports the main script, and finds that it computes.

    Without a word: the program that started the worker says that the script lacks its guard, once.
    """
    if getattr(process.current_process(), "_inheriting", False):  # as `multiprocessing` does
        raise SystemExit(1)


def prepare_main_script() -> None:
    """Prepare the main script for workers, which import it when they start.

    Raises
    ------
    ClusterError
        If its file does not exist any more.
    """
    main = sys.modules[_MAIN]
    file = getattr(main, "__file__", None)
    if file is None or main.__spec__ is not None:
        return
    if file == _UNNAMED:
        # A program from standard input has the name of no file. Workers would look for it, where
        # they import nothing from a program that has no name at all (python -c).
        del main.__file__
    elif not Path(process.ORIGINAL_DIR or "", file).exists():  # type: ignore[attr-defined]  # not among the types
        raise ClusterError(f"{file} does not exist any more: workers import their main script")


def workers_can_import_main() -> bool:
    """Return whether workers that are not forked find the functions of the main script."""
    main = sys.modules[_MAIN]
    if main.__spec__ is not None:  # python -m, or a folder or an archive
        name = main.__spec__.name
        return name != _MAIN and not name.endswith(f".{_MAIN}")
    return getattr(main, "__file__", _UNNAMED) != _UNNAMED


def check_importable(func: Callable[..., Any]) -> None:
    """Refuse a function that workers cannot import.

    Raises
    ------
    ConfigurationError
        With the way out.
    """
    while isinstance(func, functools.partial):
        func = func.func
    if getattr(func, "__module__", None) == _MAIN and not workers_can_import_main():
        raise ConfigurationError(f"func: {_refusal(func)}")


def check_content(value: Any) -> None:
    """Refuse a value that needs a function or a class that workers cannot import.

    Raises
    ------
    ClusterError
        With the way out.
    """
    _Checker(io.BytesIO(), protocol=5, buffer_callback=lambda _: None).dump(value)


class _Checker(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType) and obj.__module__ == _MAIN:
            raise ClusterError(_refusal(obj))
        return NotImplemented


def _refusal(obj: Any) -> str:
    name = getattr(obj, "__qualname__", type(obj).__qualname__)
    return (
        f"{name} is of a program that workers cannot import (standard input, python -c, a notebook,"
        " or python -m of a package or archive): move it to a module; or use mp_mode: fork, or"
        " mode: local_dask"
    )
