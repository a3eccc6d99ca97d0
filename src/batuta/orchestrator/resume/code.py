"""What functions and classes are made of, as far as their code tells.

What belongs to an installed package or to Python itself is not looked into.
"""

import dis
import functools
import importlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

Definition = FunctionType | type

_PYTHON: Final = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib"))
_PACKAGE_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_OF_MODULES: Final = frozenset(
    f"__{name}__"
    for name in (
        *("annotations", "builtins", "cached", "debug", "dict", "doc"),
        *("file", "loader", "name", "package", "path", "spec"),
    )
)
_OF_CLASSES: Final = frozenset(
    {
        *("__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__"),
        *("__static_attributes__", "__weakref__", "_abc_impl"),
    }
)
_GENERIC: Final[Any] = functools.singledispatch(len)
"""All functions that ``singledispatch`` makes share its code."""


def code_parts(code: CodeType) -> tuple[Any, ...]:
    """Return what code does; not where it is written: a few lines below it is the same."""
    inside = tuple(
        code_parts(each) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars)
    return code.co_code, code.co_exceptiontable, inside, names, arguments


def closed_over(function: FunctionType) -> list[tuple[str, Any]]:
    """Return what a function was made with, by name."""
    if function.__code__ is _GENERIC.__code__:
        return []  # its cache: what it dispatches to is in its attributes
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell.cell_contents) for name, cell in cells if _is_filled(cell)]


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def named_by(function: FunctionType) -> list[tuple[str, Any]]:
    """Return the globals that a function names, what it names in modules, and what it imports.

    Not the globals that it assigns itself: these are what it remembers, not what it is.
    """
    names = {name for code in _codes(function.__code__) for name in code.co_names} - _OF_MODULES
    assigned = set(_assigned(function.__code__))
    found: dict[str, Any] = {}
    for name in names - assigned:
        if name in function.__globals__:
            _add(found, name, function.__globals__[name], names)
    for module in _imported(function):
        _add(found, module.__name__, module, names)
    return sorted(found.items(), key=lambda item: item[0])


def _add(found: dict[str, Any], path: str, value: Any, names: set[str]) -> None:
    if path in found or any(
        value is each for each in found.values() if isinstance(each, ModuleType)
    ):
        return
    found[path] = value
    if isinstance(value, ModuleType) and is_ours(value.__name__):
        inside = vars(value)
        for name in names.intersection(inside):
            _add(found, f"{path}.{name}", inside[name], names)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _assigned(code: CodeType) -> Iterator[str]:
    for each in _codes(code):
        yield from (
            step.argval for step in dis.get_instructions(each) if step.opname == "STORE_GLOBAL"
        )


def _imported(function: FunctionType) -> Iterator[ModuleType]:
    """Return the modules that a function imports as it runs, and that are looked into."""
    package = function.__globals__.get("__package__") or ""
    for code in _codes(function.__code__):
        steps = list(dis.get_instructions(code))
        for rank, step in enumerate(steps):
            if step.opname != "IMPORT_NAME":
                continue
            level, wanted = steps[rank - 2].argval, steps[rank - 1].argval or ()
            name = resolve_name("." * level + step.argval, package) if level else step.argval
            yield from _modules(name)
            for each in wanted:
                yield from _modules(f"{name}.{each}")


def _modules(name: str) -> Iterator[ModuleType]:
    """Import a module and the packages that it is in, if they are looked into."""
    top = name.partition(".")[0]
    if top not in sys.modules:
        spec = find_spec(top)
        if spec is None or _is_installed_at(spec.origin or ""):
            return
    if not is_ours(name):
        return
    try:
        importlib.import_module(name)
    except ImportError:
        return  # not a module but what one holds, or the task does without it
    parts = name.split(".")
    yield from (sys.modules[".".join(parts[: rank + 1])] for rank in range(len(parts)))


def members_of(cls: type) -> list[tuple[str, Any]]:
    """Return what the body of a class defines, but for what other attributes tell."""
    return sorted(
        (name, value)
        for name, value in vars(cls).items()
        if name not in _OF_CLASSES and (name == "__pydantic_fields__" or "__pydantic" not in name)
    )


def is_generated(definition: Definition) -> bool:
    """Tell whether attrs wrote it: with a number of its own in each process.

    The fields of its class tell the same.
    """
    code = getattr(definition, "__code__", None)
    return isinstance(code, CodeType) and code.co_filename.startswith("<attrs generated")


def is_ours(module: str | None) -> bool:
    """Tell whether what a module defines is looked into."""
    package = _package_of(module)
    # Batuta is as good as installed, wherever it lies.
    if package in sys.stdlib_module_names or package == _package_of(__name__):
        return False
    # By its module: code that a library generates names no file.
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return not _is_installed_at(file or "")


@functools.cache
def _is_installed_at(file: str) -> bool:
    is_package = not _PACKAGE_FOLDERS.isdisjoint(Path(file).parts)
    return is_package or file.startswith(_PYTHON) or file in {"built-in", "frozen"}


def package_of_task(function: Any) -> Path | None:
    """Return the folder, or the only file, of the installed package that a task comes from.

    None if it comes from none, or from Python itself.
    """
    while isinstance(function, functools.partial):
        function = function.func
    module: str = getattr(function, "__module__", None) or type(function).__module__
    name = _package_of(module)
    if name in sys.stdlib_module_names or is_ours(module):
        return None
    # Of a package that several distributions share, the module alone.
    file = getattr(sys.modules.get(name), "__file__", None) or sys.modules[module].__file__ or ""
    return Path(file).parent if Path(file).stem == "__init__" else Path(file)


def _package_of(module: str | None) -> str:
    """Name the package at the top of a module, which may be that of a program run with -m."""
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__package__", None) or module
    return (module or "").partition(".")[0]


def sources_of(package: Path) -> Iterator[tuple[str, bytes | int]]:
    """Return the sources of an installed package in their order, and the sizes of what is compiled.

    Not their dates: the same package, installed again, is the same.
    """
    for path in sorted(package.rglob("*")) if package.is_dir() else [package]:
        if path.suffix in {".py", ".so", ".pyd"}:
            content = path.read_bytes() if path.suffix == ".py" else path.stat().st_size
            yield os.fspath(path.relative_to(package)), content
