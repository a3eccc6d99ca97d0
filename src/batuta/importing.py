"""Imports the module that a user names in a reference such as ``module:name``."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from batuta.errors import ConfigurationError
from batuta.tracebacks import describe_failure


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a user named, and how messages call it.

    Parameters
    ----------
    kind : str
        What it should be, such as ``pipeline``.
    text : str
        As it was given.
    accepted : str
        What is accepted.
    example : str
        The usual name in a module, such as ``pipeline`` in ``module:pipeline``.
    """

    kind: str
    text: str
    accepted: str
    example: str

    def error(self, problem: str) -> ConfigurationError:
        """Return the error that names it."""
        return ConfigurationError(f"{self.kind} {self.text!r}: {problem}")


def import_module(reference: Reference, module_name: str) -> ModuleType:
    """Import a module, also from the current folder.

    Raises
    ------
    ConfigurationError
        In one line: what the module, or what it imports, raised, and where.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ConfigurationError as exc:
        raise ConfigurationError(
            f"{reference.kind} {reference.text!r}: {line}" for line in exc.problems
        ) from exc
    except Exception as exc:
        raise reference.error(_reason(exc, module_name, reference)) from exc


def _reason(exc: Exception, module_name: str, reference: Reference) -> str:
    accepted = reference.accepted
    parents = [module_name.rsplit(".", depth)[0] for depth in range(module_name.count(".") + 1)]
    if isinstance(exc, ModuleNotFoundError) and exc.name in parents:
        if exc.name.endswith(".py"):
            usual = f"{exc.name.removesuffix('.py')}:{reference.example}"
            return f"a file given, a module expected, as in {usual} ({accepted})"
        return f"no module {exc.name!r} found in {Path.cwd()} or installed ({accepted})"
    if isinstance(exc, (TypeError, ValueError)) and not module_name.isidentifier():
        return f"{module_name!r} is not the name of a module ({accepted})"
    if isinstance(exc, SyntaxError) and exc.filename:
        # Its words repeat the place, and its traceback ends in the compiler.
        text = f"{type(exc).__name__}: {exc.msg} ({Path(exc.filename).name}:{exc.lineno})"
    else:
        text = describe_failure(exc, module_name)
    return f"module {module_name!r} cannot be imported: {text}"
