"""What a function does, as far as its code tells, and which other functions it names.

What belongs to an installed package or to Python itself is not followed, unless the function
belongs to the same package.
"""

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

CONSTANT_TYPES: Final = (int, float, complex, str, bytes, bool, type(None))

_INSTALLED: Final = tuple(
    f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def code_parts(function: FunctionType) -> tuple[Any, ...]:
    """Give what the code of a function is made of, and the values that it was made with.

    Not where it is written: the same function a few lines below is the same.
    """
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed_over = [(name, cell.cell_contents) for name, cell in cells if _is_filled(cell)]
    constants = sorted(
        (name, repr(value)) for name, value in _named(function) if _is_constant(value)
    )
    return _parts(function.__code__), closed_over, constants


def _parts(code: CodeType) -> tuple[Any, ...]:
    inside = tuple(_parts(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return code.co_code, inside, code.co_names, code.co_varnames, code.co_freevars, arguments


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def named_by(function: FunctionType) -> list[FunctionType]:
    """List the functions that `function` names, and those that they name, each once."""
    root = _root(function.__module__)
    found: dict[FunctionType, None] = {}
    waiting = [function]
    while waiting:
        for _, value in _named(waiting.pop()):
            for each in _functions_in(value):
                if each not in found and each is not function and _is_followed(each, root):
                    found[each] = None
                    waiting.append(each)
    return list(found)


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Give the globals that a function names, and what it may name in modules among them."""
    names = set(_names(function.__code__))
    for name in sorted(names):
        value = function.__globals__.get(name)
        if name.startswith("__") or value is None:
            continue
        yield name, value
        if isinstance(value, ModuleType):
            inside = vars(value)
            yield from ((f"{name}.{each}", inside[each]) for each in names if each in inside)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _functions_in(value: Any) -> Iterable[FunctionType]:
    if isinstance(value, type):
        return [each for method in vars(value).values() for each in _functions_in_member(method)]
    return _functions_in_member(value)


def _functions_in_member(value: Any) -> list[FunctionType]:
    for each in (value, *(getattr(value, name, None) for name in ("__wrapped__", "__func__"))):
        if isinstance(each, FunctionType):
            return [each]
    return []


def _is_followed(function: FunctionType, root: str) -> bool:
    if _root(function.__module__) == root:
        return True
    # By its module: code that a library generates, as attrs does, names no file, and may differ
    # from one process to the next.
    module = sys.modules.get(function.__module__ or "")
    file = getattr(module, "__file__", None) or function.__code__.co_filename
    return not file.startswith(_INSTALLED)


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return type(value) in CONSTANT_TYPES
