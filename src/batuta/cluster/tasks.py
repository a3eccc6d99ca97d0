"""Tasks as they are declared: a function, its arguments, and the results that it depends on."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from batuta.datasets.cars_dataset import CarsDataset
from batuta.datasets.tiles import CarsDict
from batuta.errors import ConfigurationError, describe_value

_NO_KWARGS: Final[Mapping[str, Any]] = {}


class Task:
    """One call of a function, to be made later.

    A million of them may be declared, so they are small.

    Parameters
    ----------
    function : callable
        Any that can be sent to workers: see `batuta.cluster.by_value`.
    args, kwargs
        What it is called with; delayed objects may be anywhere in lists, tuples, dictionaries,
        CarsDicts and CarsDatasets.
    nout : int
        How many results it returns.
    """

    __slots__ = (
        "args",
        "attempts",
        "dependencies",
        "function",
        "job",
        "kwargs",
        "number",
        "outputs",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        nout: int,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs or _NO_KWARGS
        self.dependencies = tuple(dict.fromkeys(find_delayed((args, kwargs))))
        self.outputs = tuple(Delayed(self, index) for index in range(nout))
        self.job: Any = None
        """The job that it is a step of, in the current plan: see `batuta.cluster.graph`."""
        self.number: int | None = None
        """Its number in profiles: see `batuta.cluster.task_metrics`."""
        self.attempts = 0
        """How many attempts at it were recorded, failed and lost ones included."""

    @property
    def nout(self) -> int:
        """How many results it returns."""
        return len(self.outputs)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return name_of(self.function)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function in messages."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)


class ResultHandle(Protocol):
    """A value that was computed, stored where tasks can read it."""

    def load(self) -> Any:
        """Return the value, in the main process."""

    def discard(self) -> None:
        """Free it."""


class Delayed:
    """A result that is to come: one output of a task.

    It stands for its value wherever it is pickled: who reads the pickle finds the value.
    """

    __slots__ = ("index", "stored", "task", "tile", "uses")

    def __init__(self, task: Task, index: int) -> None:
        self.task = task
        self.index = index
        self.stored: ResultHandle | None = None
        """Where its value is, from when it is computed until its last consumer is done."""
        self.uses = 0
        """How many times its value will still be used: by tasks of the plan, and by the caller."""
        self.tile: object = None
        """The tile that it will be, for messages: a dataset's name, a row and a column, as text."""

    def __repr__(self) -> str:
        return f"<Delayed {self.task.name}[{self.index}] at {id(self):#x}>"

    def __reduce__(self) -> tuple[Callable[[ResultHandle], Any], tuple[ResultHandle]]:
        if self.stored is None:
            raise TypeError(
                f"{self!r} is not computed: it was put in an argument after the task was declared"
            )
        return _load, (self.stored,)


def _load(result: ResultHandle) -> Any:
    return result.load()


class Scattered:
    """A value put once where every task can read it, instead of travelling with each.

    Tasks receive the value itself.
    """

    def __init__(self, value: Any, stored: ResultHandle) -> None:
        self.value = value
        self.stored: ResultHandle | None = stored
        """None once the cluster is closed: the value travels with the tasks again."""

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return (_itself, (self.value,)) if self.stored is None else (_load, (self.stored,))


def _itself(value: Any) -> Any:
    return value


def declare(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], nout: int
) -> Delayed | tuple[Delayed, ...]:
    """Declare a call: one delayed object, or as many as it has outputs."""
    outputs = Task(function, args, kwargs, nout).outputs
    return outputs[0] if nout == 1 else outputs


def check_task(function: object, nout: object) -> None:
    """Refuse what cannot be called, and a number of outputs that makes no sense."""
    if not callable(function):
        raise ConfigurationError(f"func: {describe_value(function)} given, a function expected")
    if not isinstance(nout, int) or isinstance(nout, bool) or nout < 1:
        raise ConfigurationError(f"nout: {nout!r} given, a whole number of at least 1 expected")


def find_delayed(value: Any) -> Iterator[Delayed]:
    """Find every delayed object in `value`, in order, in time linear in its size."""
    waiting = [iter((value,))]
    while waiting:
        for item in waiting[-1]:
            if isinstance(item, Delayed):
                yield item
            elif (inside := content_of(item)) is not None:
                waiting.append(inside)
                break
        else:
            waiting.pop()


def content_of(value: Any) -> Iterator[Any] | None:
    """Return what is in a value that may hold delayed objects; None for others."""
    if isinstance(value, (list, tuple)):
        return iter(value)
    if isinstance(value, (dict, CarsDict)):
        return iter(value.values())
    if isinstance(value, CarsDataset):
        return iter(value.tiles)
    return None
