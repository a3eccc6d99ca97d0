"""Loads the pipeline that a user names, from a module or a configuration file."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from batuta.importing import Reference, import_module
from batuta.pipeline.command import read_pipeline
from batuta.pipeline.declaration import Pipeline

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
    given = Reference(kind="pipeline", text=reference, accepted=ACCEPTED, example="pipeline")
    module_name, colon, name = reference.partition(":")
    if not module_name or (colon and not name):
        raise given.error(f"not a pipeline's name ({ACCEPTED})")
    module = import_module(given, module_name)
    known = _pipelines_of(module)
    if name in known:
        return known[name]
    if not colon:
        raise given.error(f"no pipeline named; {_describe_available(module_name, known)}")
    if hasattr(module, name):
        what = f"{name!r} is of type {type(getattr(module, name)).__name__}, not a Pipeline"
    else:
        what = f"module {module_name!r} has no {name!r}"
    raise given.error(f"{what}; {_describe_available(module_name, known)}")


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
