"""The main script of a program, which workers import before they run its tasks.

Workers that are forked need not: they have all that the program has. Dask sends the functions of a
script whole, and its workers only import it where `multiprocessing` starts them. What workers do
not find by name goes whole everywhere: see `batuta.cluster.by_value`.
"""

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import process
from pathlib import Path
from types import FunctionType
from typing import Any, Final

from batuta.cluster.errors import ClusterError

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


@dataclass(frozen=True)
class MainNames:
    """What workers find by name in the main script, once they have imported it.

    Parameters
    ----------
    found : frozenset of str or None
        The names that its top level binds; None where that is not known: all of them.
    """

    found: frozenset[str] | None

    @classmethod
    def now(cls) -> "MainNames":
        """Return those of the main script of this process."""
        if not workers_can_import_main():
            return cls(frozenset())
        return cls(_bound_names(getattr(sys.modules[_MAIN], "__file__", None)))

    def has(self, obj: Any) -> bool:
        """Return whether workers find a function or a class; those of other modules, always."""
        if self.found is None or getattr(obj, "__module__", None) != _MAIN:
            return True
        code = getattr(obj, "__code__", None)
        if code is not None and code.co_filename.startswith("<"):
            return False  # typed at a prompt, after the script has run (python -i)
        return obj.__qualname__.partition(".")[0] in self.found

    def if_any_lacks(self) -> "MainNames | None":
        """Return None where workers find all that the main script has defined by now."""
        defined = list(vars(sys.modules[_MAIN]).values())
        lacks = any(not self.has(each) for each in defined if isinstance(each, type | FunctionType))
        return self if lacks or (self.found is not None and not self.found) else None


NO_NAMES: Final = MainNames(frozenset())
"""Where all of the main script goes to workers by value."""


@functools.lru_cache(maxsize=8)
def _bound_names(file: str | None) -> frozenset[str] | None:
    """List the names that a script binds when a worker imports it; None if it cannot be read.

    What is under ``if __name__ == "__main__":`` is not among them.
    """
    if file is None:
        return None
    try:
        tree = ast.parse(Path(process.ORIGINAL_DIR or "", file).read_bytes())  # type: ignore[attr-defined]  # as above
    except (OSError, SyntaxError, ValueError):
        return None
    return frozenset(_names_in(tree.body))


def _names_in(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.If) and _is_guard(statement.test):
            yield from _names_in(statement.orelse)
        else:
            yield from _names_in(_blocks_of(statement))
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                yield from (each.id for each in ast.walk(statement) if isinstance(each, ast.Name))


def _blocks_of(node: ast.AST) -> Iterator[ast.stmt]:
    """Iterate over the statements right inside one: of its branches, handlers and cases."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.stmt):
            yield each
        elif isinstance(each, ast.excepthandler | ast.match_case):
            yield from _blocks_of(each)


def _is_guard(test: ast.expr) -> bool:
    nodes = list(ast.walk(test))
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in nodes) and any(
        isinstance(each, ast.Constant) and each.value == _MAIN for each in nodes
    )
