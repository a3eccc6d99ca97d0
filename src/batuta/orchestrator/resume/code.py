"""The parts of functions and classes, as found in their code.

Functions and classes of installed packages and of Python itself are not inspected.
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

_STDLIB_FOLDERS: Final = tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib"))
_PACKAGE_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_MODULE_ATTRIBUTES: Final = frozenset(
    f"__{name}__"
    for name in (
        *("annotations", "builtins", "cached", "debug", "dict", "doc"),
        *("file", "loader", "name", "package", "path", "spec"),
    )
)
_CLASS_ATTRIBUTES: Final = frozenset(
    {
        *("__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__"),
        *("__static_attributes__", "__weakref__", "_abc_impl"),
    }
)
_SINGLEDISPATCH: Final[Any] = functools.singledispatch(len)
"""Any function that ``singledispatch`` makes: all of them share one code object."""


def code_parts(code: CodeType) -> tuple[Any, ...]:
    """Return what code does, without its line numbers: moving a function is no change."""
    inside = tuple(
        code_parts(each) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_names, code.co_varnames, code.co_freevars)
    return code.co_code, code.co_exceptiontable, inside, names, arguments


def closure_values(function: FunctionType) -> list[tuple[str, Any]]:
    """Return the values that a function closes over, by name."""
    if function.__code__ is _SINGLEDISPATCH.__code__:
        return []  # its cache; what it dispatches to is in its attributes
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell.cell_contents) for name, cell in cells if _is_filled(cell)]


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def referenced_globals(function: FunctionType) -> list[tuple[str, Any]]:
    """Return the globals, the attributes of modules and the imports that a function refers to.

    Globals that the function assigns itself are left out: they are its state, not its code.
    """
    names = {
        name for code in _nested_codes(function.__code__) for name in code.co_names
    } - _MODULE_ATTRIBUTES
    assigned = set(_assigned_globals(function.__code__))
    values: dict[str, Any] = {}
    for name in names - assigned:
        if name in function.__globals__:
            _add(values, name, function.__globals__[name], names)
    for module in _imported_modules(function):
        _add(values, module.__name__, module, names)
    return sorted(values.items(), key=lambda item: item[0])


def _add(values: dict[str, Any], path: str, value: Any, names: set[str]) -> None:
    if path in values or any(
        value is each for each in values.values() if isinstance(each, ModuleType)
    ):
        return
    values[path] = value
    if isinstance(value, ModuleType) and is_user_code(value.__name__):
        inside = vars(value)
        for name in names.intersection(inside):
            _add(values, f"{path}.{name}", inside[name], names)


def _nested_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _nested_codes(each)


def _assigned_globals(code: CodeType) -> Iterator[str]:
    for each in _nested_codes(code):
        yield from (
            step.argval for step in dis.get_instructions(each) if step.opname == "STORE_GLOBAL"
        )


def _imported_modules(function: FunctionType) -> Iterator[ModuleType]:
    """Return the modules of the user's code that a function imports when it runs."""
    package = function.__globals__.get("__package__") or ""
    for code in _nested_codes(function.__code__):
        steps = list(dis.get_instructions(code))
        for rank, step in enumerate(steps):
            if step.opname != "IMPORT_NAME":
                continue
            level, wanted = steps[rank - 2].argval, steps[rank - 1].argval or ()
            name = resolve_name("." * level + step.argval, package) if level else step.argval
            yield from _load_user_modules(name)
            for each in wanted:
                yield from _load_user_modules(f"{name}.{each}")


def _load_user_modules(name: str) -> Iterator[ModuleType]:
    """Import a module and the packages that contain it, if they are the user's code."""
    top = name.partition(".")[0]
    if top not in sys.modules:
        spec = find_spec(top)
        if spec is None or _is_installed_at(spec.origin or ""):
            return
    if not is_user_code(name):
        return
    try:
        importlib.import_module(name)
    except ImportError:
        return  # an attribute of a module, or an import that the task does without
    parts = name.split(".")
    yield from (sys.modules[".".join(parts[: rank + 1])] for rank in range(len(parts)))


def class_members(cls: type) -> list[tuple[str, Any]]:
    """Return what the body of a class defines, without what follows from its other members."""
    return sorted(
        (name, value)
        for name, value in vars(cls).items()
        if name not in _CLASS_ATTRIBUTES
        and (name == "__pydantic_fields__" or "__pydantic" not in name)
    )


def is_attrs_generated(definition: Definition) -> bool:
    """Whether attrs generated a function: its name has a number that differs in each process.

    Nothing is lost by leaving it out: it follows from the fields of its class.
    """
    code = getattr(definition, "__code__", None)
    return isinstance(code, CodeType) and code.co_filename.startswith("<attrs generated")


def is_user_code(module: str | None) -> bool:
    """Whether a module is the user's code, and so is inspected."""
    package = _package_of(module)
    # Batuta counts as installed, even in a checkout.
    if package in sys.stdlib_module_names or package == _package_of(__name__):
        return False
    # The file of its module: code that a library generates has none of its own.
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return not _is_installed_at(file or "")


@functools.cache
def _is_installed_at(file: str) -> bool:
    is_package = not _PACKAGE_FOLDERS.isdisjoint(Path(file).parts)
    return is_package or file.startswith(_STDLIB_FOLDERS) or file in {"built-in", "frozen"}


def package_of_task(function: Any) -> Path | None:
    """Return the folder, or the only file, of the installed package that a task comes from.

    None for the user's code and for Python itself.
    """
    while isinstance(function, functools.partial):
        function = function.func
    module: str = getattr(function, "__module__", None) or type(function).__module__
    name = _package_of(module)
    if name in sys.stdlib_module_names or is_user_code(module):
        return None
    # A namespace package, which several distributions share, has no file: the module alone.
    file = getattr(sys.modules.get(name), "__file__", None) or sys.modules[module].__file__ or ""
    return Path(file).parent if Path(file).stem == "__init__" else Path(file)


def _package_of(module: str | None) -> str:
    """Return the top-level package of a module, also of a program run with ``python -m``."""
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__package__", None) or module
    return (module or "").partition(".")[0]


def sources_of(package: Path) -> Iterator[tuple[str, bytes | int]]:
    """Return the sources of an installed package, sorted, and the sizes of its compiled files.

    Dates are left out: the same package, installed again, is no change.
    """
    for path in sorted(package.rglob("*")) if package.is_dir() else [package]:
        if path.suffix in {".py", ".so", ".pyd"}:
            content = path.read_bytes() if path.suffix == ".py" else path.stat().st_size
            yield os.fspath(path.relative_to(package)), content
