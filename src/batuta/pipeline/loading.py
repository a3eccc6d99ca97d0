"""Loads the pipeline that a user names, from a module or a configuration file."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from batuta.errors import ConfigurationError
from batuta.pipeline.command import read_pipeline
from batuta.pipeline.declaration import Pipeline
from batuta.tracebacks import describe_failure

FILE_SUFFIXES: Final = (".json", ".yaml", ".yml")
ACCEPTED: Final = "accepted: MODULE:NAME, or a .yaml, .yml or .json file"


def load(reference: str) -> Pipeline:
    """Load the pipeline `reference`, from ``module:name`` or from a configuration file.

    Modules are looked for in the current folder too.

    Raises
    ------
    ConfigurationError
        If it is not found; names the pipelines that are.
    """
    if reference.endswith(FILE_SUFFIXES):
        return read_pipeline(Path(reference))
    module_name, colon, name = reference.partition(":")
    if not module_name or (colon and not name):
        raise ConfigurationError(f"pipeline {reference!r}: not a pipeline's name ({ACCEPTED})")
    module = _import(reference, module_name)
    known = _pipelines_of(module)
    if name in known:
        return known[name]
    if not colon:
        raise ConfigurationError(
            f"pipeline {reference!r}: no pipeline named; {_describe_available(module_name, known)}"
        )
    if hasattr(module, name):
        what = f"{name!r} is of type {type(getattr(module, name)).__name__}, not a Pipeline"
    else:
        what = f"module {module_name!r} has no {name!r}"
    raise ConfigurationError(
        f"pipeline {reference!r}: {what}; {_describe_available(module_name, known)}"
    )


def _import(reference: str, module_name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ConfigurationError as exc:
        raise ConfigurationError(
            f"pipeline {reference!r}: {line}" for line in exc.problems
        ) from exc
    except Exception as exc:
        reason = _reason(exc, module_name)
        raise ConfigurationError(f"pipeline {reference!r}: {reason}") from exc


def _reason(exc: Exception, module_name: str) -> str:
    parents = [module_name.rsplit(".", depth)[0] for depth in range(module_name.count(".") + 1)]
    if isinstance(exc, ModuleNotFoundError) and exc.name in parents:
        if exc.name.endswith(".py"):
            stem = exc.name.removesuffix(".py")
            return f"a file given, a module expected, as in {stem}:pipeline ({ACCEPTED})"
        return f"no module {exc.name!r} found in {Path.cwd()} or installed ({ACCEPTED})"
    if isinstance(exc, (TypeError, ValueError)) and not module_name.isidentifier():
        return f"{module_name!r} is not the name of a module ({ACCEPTED})"
    if isinstance(exc, SyntaxError) and exc.filename:
        # Its words repeat the place, and its traceback ends in the compiler.
        text = f"{type(exc).__name__}: {exc.msg} ({Path(exc.filename).name}:{exc.lineno})"
    else:
        text = describe_failure(exc, module_name)
    return f"module {module_name!r} cannot be imported: {text}"


def _pipelines_of(module: ModuleType) -> dict[str, Pipeline]:
    return {name: each for name, each in vars(module).items() if isinstance(each, Pipeline)}


def _describe_available(module_name: str, known: dict[str, Pipeline]) -> str:
    module = sys.modules[module_name]
    if getattr(module, "__file__", None) is None and hasattr(module, "__path__"):
        # A folder without modules is imported as an empty package: one is above the project.
        return (
            f"{module_name!r} is the folder {next(iter(module.__path__))}, without an __init__.py"
        )
    if not known:
        return _without_pipelines(module_name, module)
    return "found " + ", ".join(f"{module_name}:{name}" for name in known)


def _without_pipelines(module_name: str, module: ModuleType) -> str:
    """Say that a module has no Pipeline, and which file it is, which may not be the one meant."""
    file = getattr(module, "__file__", None)
    place = f" ({file})" if file else ""
    is_ours = file is not None and Path(file).is_relative_to(Path.cwd())
    if module_name.partition(".")[0] in sys.stdlib_module_names and not is_ours:
        return (
            f"module {module_name!r} was found in Python's own library{place}, and has no "
            "Pipeline: give the module of yours another name"
        )
    return f"module {module_name!r}{place} has no Pipeline"
