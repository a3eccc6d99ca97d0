"""Why a call cannot be sent to a worker: which variable of which function, and what it is."""

import functools
import inspect
import io
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, GeneratorType, ModuleType
from typing import Any, Final
from weakref import WeakSet

from batuta.cluster.by_value import dumps, is_by_name
from batuta.cluster.errors import TaskFailedError
from batuta.cluster.graph import Job
from batuta.cluster.main_script import NO_NAMES, MainNames
from batuta.cluster.remote_error import failed_task
from batuta.cluster.tasks import Task, find_delayed, name_of
from batuta.errors import ConfigurationError, describe_error

_SENDABLE: Final["WeakSet[FunctionType]"] = WeakSet()
_KINDS: Final = (
    (io.IOBase, "an open file"),
    (GeneratorType, "a generator"),
    (ModuleType, "a module"),
)
_MAX_DEPTH: Final = 5


def check_function(function: Callable[..., Any], *, main_by_value: bool) -> None:
    """Refuse a function that cannot be sent to workers, each once.

    Parameters
    ----------
    function : callable
        Of a task. Only functions are looked into: other callables may be as large as data.
    main_by_value : bool
        Whether workers find nothing of the main script by its name.

    Raises
    ------
    ConfigurationError
        Naming the function, its variable and the reason.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, FunctionType) or function in _SENDABLE:
        return
    main = NO_NAMES if main_by_value else MainNames.now()
    if not is_by_name(function, main):
        try:
            dumps(function, [], main)
        except Exception as exc:
            raise ConfigurationError(f"func: {_explain(function, main, exc)}") from exc
    _SENDABLE.add(function)


def unsendable(job: Job, main: MainNames, exc: Exception) -> TaskFailedError:
    """Return the exception of a job of which a call could not be pickled.

    Parameters
    ----------
    job : Job
        The job.
    main : MainNames
        What workers find of the main script.
    exc : Exception
        What pickling raised.
    """
    reasons = (reason for task in job.steps if (reason := _explain_call(task, main, exc)))
    reason = next(reasons, f"its call cannot be sent to a worker: {describe_error(exc)}")
    return failed_task(job.first.name, reason, exc)


def _explain_call(task: Task, main: MainNames, exc: Exception) -> str | None:
    """Say in a line what of a call cannot be pickled; None if that is not found."""
    if _problem(task.function, main) is not None:
        return _explain(task.function, main, exc)
    for name, value in (*_by_parameter(task.function, task.args), *task.kwargs.items()):
        # What waits for a result that stays in its worker cannot be pickled here.
        if next(find_delayed(value), None) is None and (problem := _problem(value, main)):
            return _sentence(task.function, f"argument {name!r}", value, problem)
    return None


def _by_parameter(function: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of a builtin
        names = []
    for rank, value in enumerate(args):
        yield names[rank] if rank < len(names) else str(rank), value


def _explain(function: Any, main: MainNames, exc: Exception, depth: int = 0) -> str:
    for name, value in _variables(function):
        problem = _problem(value, main)
        if problem is None:
            continue
        if isinstance(value, FunctionType) and depth < _MAX_DEPTH:
            return _explain(value, main, problem, depth + 1)
        return _sentence(function, f"variable {name!r}", value, problem)
    return f"{name_of(function)} cannot be sent to a worker: {describe_error(exc)}"


def _sentence(function: Any, what: str, value: Any, problem: Exception) -> str:
    return (
        f"{name_of(function)} cannot be sent to a worker: its {what} is {_kind_of(value)}"
        f" ({describe_error(problem)})"
    )


def _kind_of(value: Any) -> str:
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    name = type(value).__name__
    if type(value).__module__ in {"_thread", "threading"}:
        return f"a {name}"
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _problem(value: Any, main: MainNames) -> Exception | None:
    try:
        dumps(value, [], main)
    except Exception as exc:  # noqa: BLE001 - what pickling raises is what is asked for
        return exc
    return None


def _variables(function: Any) -> Iterator[tuple[str, Any]]:
    """Iterate over what goes with a function: its closure, defaults, and globals that it names."""
    if isinstance(function, functools.partial):
        yield from _by_parameter(function.func, function.args)
        yield from function.keywords.items()
        function = function.func
    if not isinstance(function, FunctionType):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # empty
            continue
    defaults = {
        name: each.default
        for name, each in inspect.signature(function).parameters.items()
        if each.default is not each.empty
    }
    yield from defaults.items()
    for name in dict.fromkeys(_names_of(function.__code__)):
        value = function.__globals__.get(name)
        if value is not None and not isinstance(value, ModuleType | BuiltinFunctionType):
            yield name, value


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names_of(each)
