"""How a pipeline is declared: its name, and for each product the function that makes it."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

from batuta.errors import ConfigurationError
from batuta.graph.document import key_problems
from batuta.names import name_problem, service_problem
from batuta.spelling import NameSuggester

if TYPE_CHECKING:
    from batuta.pipeline.context import Context

DEFAULT_TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True)
class Output:
    """A file that a processing made, to be archived.

    Parameters
    ----------
    path : str or Path
        A file inside the processing's `work_dir`; relative paths start there.
    product : str, optional
        Its product; the requested one by default.
    media_type : str, optional
        Such as ``application/fits``; by default derived from the file's extension.
    metadata : mapping, optional
        Stored with the product: names and JSON values. Values of NumPy, dates and paths are
        converted; what cannot be stored is replaced (by None, or its text) with a warning in the
        log.
    quicklook : str or Path, optional
        A picture of it inside `work_dir`: PNG, JPEG or WebP, of at most 2 MiB. Without one, the
        sdb draws files of the kinds that it knows. One that cannot be used is left out, with a
        warning in the log.
    """

    path: str | Path
    product: str | None = None
    media_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    quicklook: str | Path | None = None


FunctionResult = Output | str | Path | Iterable[Output | str | Path]
"""What a product's function returns, or yields: files."""

ProductFunction = Callable[["Context"], FunctionResult]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class ProductSpec:
    """A product that a pipeline makes, and how.

    Attributes
    ----------
    name : str
        The product.
    function : callable
        Makes it: takes a `Context`, returns or yields what is to be archived.
    inputs, optional : tuple of str
        The products that it may read: required ones, optional ones.
    also_makes : tuple of str
        By-products that it may archive besides.
    timeout_s : float
        A processing that lasts longer is stopped, in seconds.
    max_attempts, priority, o_wait_s, o_wait_from, o_min, on_update, on_late,
    approval, late_result, stages
        For a graph that is derived from the declaration: its keys of these names (`o_wait_s` is
        ``o_wait``); `work_class` is ``class``. None: the graph's default.
    """

    name: str
    function: ProductFunction
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    also_makes: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_attempts: int | None = None
    priority: int | None = None
    o_wait_s: float | None = None
    o_wait_from: str | None = None
    o_min: int | None = None
    on_update: str | None = None
    on_late: str | None = None
    approval: str | None = None
    late_result: str | None = None
    work_class: str | None = None
    stages: str | None = None

    @property
    def graph_keys(self) -> dict[str, Any]:
        """What it states of the keys of a graph, besides its inputs."""
        stated = {
            "timeout": None if self.timeout_s == DEFAULT_TIMEOUT_S else self.timeout_s,
            "max_attempts": self.max_attempts,
            "priority": self.priority,
            "o_wait": self.o_wait_s,
            "o_wait_from": self.o_wait_from,
            "o_min": self.o_min,
            "on_update": self.on_update,
            "on_late": self.on_late,
            "approval": self.approval,
            "late_result": self.late_result,
            "class": self.work_class,
            "stages": self.stages,
        }
        return {key: value for key, value in stated.items() if value is not None}

    @property
    def makes(self) -> tuple[str, ...]:
        """All that it may archive."""
        return (self.name, *self.also_makes)

    @property
    def interface(self) -> tuple[frozenset[Any], ...]:
        """What others may rely on: its inputs, optional inputs, by-products, keys of the graph."""
        return (
            frozenset(self.inputs),
            frozenset(self.optional),
            frozenset(self.also_makes),
            frozenset(self.graph_keys.items()),
        )

    def problems(self) -> list[str]:
        """Return the mistakes in names and numbers, one line each."""
        where = f"product {self.name!r}"
        names = {
            "inputs": self.inputs,
            "optional": self.optional,
            "also_makes": self.also_makes,
        }
        found = [name_problem("product", self.name)]
        for key, values in names.items():
            found += [name_problem(f"{where}: {key}", value) for value in values]
        found += _repeated(f"{where}: inputs, optional", self.inputs + self.optional)
        found += _repeated(f"{where}: also_makes", self.makes)
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            found.append(f"{where}: timeout_s: {self.timeout_s!r} (accepted: seconds above 0)")
        else:
            found += [f"{where}: {problem}" for problem in key_problems(self.graph_keys)]
        return [problem for problem in found if problem]


class GraphKeys(TypedDict, total=False):
    """Keys of the graph that a product's declaration may state."""

    max_attempts: int
    priority: int
    o_wait_s: float
    o_wait_from: str
    o_min: int
    on_update: str
    on_late: str
    approval: str
    late_result: str
    work_class: str
    stages: str


class Pipeline:
    """A provider of products: what `batuta pipeline` serves.

    Parameters
    ----------
    name : str
        The provider's name in the product graph, and its subject: ``activity.<name>``.

    Raises
    ------
    ConfigurationError
        If `name` cannot be a service's.
    """

    def __init__(self, name: str) -> None:
        problem = service_problem("pipeline", name)
        if problem:
            raise ConfigurationError(problem)
        self.name = name
        self._products: dict[str, ProductSpec] = {}

    @property
    def products(self) -> Mapping[str, ProductSpec]:
        """What it makes, by name, in the order of declaration."""
        return MappingProxyType(self._products)

    def product(
        self,
        name: str,
        *,
        inputs: Iterable[str] = (),
        optional: Iterable[str] = (),
        also_makes: Iterable[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **graph_keys: Unpack[GraphKeys],
    ) -> Callable[[F], F]:
        """Declare that the function below makes the product `name`.

        Parameters
        ----------
        name : str
            The product.
        inputs, optional : iterable of str
            The products that the function may read through its `Context`.
        also_makes : iterable of str
            By-products that it may archive besides.
        timeout_s : float
            A processing that lasts longer is stopped, in seconds.
        **graph_keys
            What else a graph that is derived from the declaration states of the product:
            `max_attempts`, `priority`, `o_wait_s` (in seconds), `o_wait_from`, `o_min`,
            `on_update`, `on_late`, `approval`, `late_result`, `stages` and
            `work_class` (``class``).

        Raises
        ------
        ConfigurationError
            With every mistake, such as invalid names or a product declared twice.
        """
        lists = {"inputs": inputs, "optional": optional, "also_makes": also_makes}
        texts = [key for key, value in lists.items() if isinstance(value, str)]
        if texts:
            raise ConfigurationError(
                f"product {name!r}: {key}: {lists[key]!r} given, a list of names expected"
                for key in texts
            )
        known = list(GraphKeys.__annotations__)
        if unknown := [key for key in graph_keys if key not in known]:
            suggest = NameSuggester(known).hint
            raise ConfigurationError(
                f"product {name!r}: the key {key!r} is unknown{suggest(key)} "
                f"(accepted: inputs, optional, also_makes, timeout_s, {', '.join(known)})"
                for key in unknown
            )

        def declare(function: F) -> F:
            spec = ProductSpec(
                name=name,
                function=function,
                inputs=tuple(inputs),
                optional=tuple(optional),
                also_makes=tuple(also_makes),
                timeout_s=timeout_s,
                **graph_keys,
            )
            self.declare(spec)
            return function

        return declare

    def declare(self, spec: ProductSpec) -> None:
        """Add a product; what the decorator does.

        Raises
        ------
        ConfigurationError
            With every mistake.
        """
        problems = [*spec.problems(), *_signature_problems(spec)]
        if spec.name in self._products:
            problems.append(f"product {spec.name!r}: declared twice in pipeline {self.name!r}")
        if problems:
            raise ConfigurationError(problems)
        self._products[spec.name] = spec

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r}: {', '.join(self._products) or 'no product yet'}>"


def _repeated(where: str, names: tuple[str, ...]) -> list[str | None]:
    return [f"{where}: {name!r} twice" for name in dict.fromkeys(names) if names.count(name) > 1]


def _signature_problems(spec: ProductSpec) -> list[str]:
    shown = getattr(spec.function, "__qualname__", repr(spec.function))
    if inspect.iscoroutinefunction(spec.function) or inspect.isasyncgenfunction(spec.function):
        return [f"product {spec.name!r}: {shown} is async (accepted: an ordinary function)"]
    try:
        inspect.signature(spec.function).bind(None)
    except TypeError:
        return [f"product {spec.name!r}: {shown} must take one argument, the context"]
    return []
