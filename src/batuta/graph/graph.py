"""The product graph: which products can be made from which, and by whom."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from batuta.errors import ConfigurationError
from batuta.formatting import format_count
from batuta.graph.check import check
from batuta.graph.document import GraphDocument, ProductDocument, ProviderDocument
from batuta.graph.errors import GraphError
from batuta.graph.model import Approval, Product, Provider, WaitFrom
from batuta.graph.order import dependents, find_levels
from batuta.graph.text import load_text
from batuta.work_classes import DEFAULT_SHARES, WorkClass, most_urgent
from batuta.yaml_text import read_text


@dataclass(frozen=True, repr=False)
class Graph:
    """A product graph, checked as a whole; immutable.

    Made by `read_graph` or `Graph.parse`, which refuse what is wrong.

    Attributes
    ----------
    inputs : tuple of str
        Names of the products that arrive from outside, in the order of the document.
    products : mapping of str to Product
        What can be made, by name, in the order of the document.
    providers : mapping of str to Provider
        Who makes it, by name, in the order of first mention.
    expected : tuple of str
        The inputs that are taken to be on their way as long as they have not arrived.
    shares : mapping of WorkClass to int
        The weight of each class of work.
    """

    inputs: tuple[str, ...]
    products: Mapping[str, Product]
    providers: Mapping[str, Provider]
    expected: tuple[str, ...] = ()
    shares: Mapping[WorkClass, int] = field(default_factory=lambda: DEFAULT_SHARES)

    @classmethod
    def parse(
        cls, text_or_document: str | dict[str, object], source: str = "graph.json"
    ) -> "Graph":
        """Check a graph given as text, or as the document that the text stands for.

        Parameters
        ----------
        text_or_document : str or dict
            JSON, YAML where `source` ends in .yaml or .yml, or a document already read.
        source : str
            Named at the start of every problem.

        Raises
        ------
        GraphError
            With every mistake, one line each.
        """
        document: object = text_or_document
        problems: list[str] = []
        if isinstance(text_or_document, str):
            document, problems = load_text(text_or_document, source)
        typed, mistakes = check(document)
        problems += mistakes
        if typed is None or problems:
            raise GraphError(f"{source}: {problem}" for problem in problems)
        return _build(typed)

    def knows(self, name: str) -> bool:
        """Return whether `name` is an input or a product of this graph."""
        return name in self.products or name in self._input_set

    def fed_by(self, name: str) -> tuple[Product, ...]:
        """Return the products that have `name` among their inputs, mandatory or optional.

        They come in the order of the document; none for an unknown name. The time taken does
        not depend on the size of the graph.
        """
        return self._fed.get(name, ())

    def after(self, name: str) -> frozenset[str]:
        """Return every product that is made from `name`, directly or through others."""
        found: set[str] = set()
        waiting = [name]
        for each in waiting:  # grows as it goes
            new = {product.name for product in self.fed_by(each)} - found
            found |= new
            waiting += new
        return frozenset(found)

    def reachable(self, available: Iterable[str]) -> frozenset[str]:
        """Return every product that can be made, in the end, from the `available` names.

        A product that is available already is among them only if its own mandatory inputs are,
        or can be made. Unknown names are ignored.
        """
        have = set(available)
        lacking = {
            name: sum(source not in have for source in product.m_input)
            for name, product in self.products.items()
        }
        optional = {
            name: self.products[name].o_min
            - sum(source in have for source in self.products[name].o_input)
            for name in self._needing_optional
        }
        made = [
            name for name, count in lacking.items() if count == 0 and optional.get(name, 0) <= 0
        ]
        for name in made:  # grows as it goes
            if name in have:
                continue
            for product_name in self._fed_mandatory.get(name, ()):
                lacking[product_name] -= 1
                if lacking[product_name] == 0 and optional.get(product_name, 0) <= 0:
                    made.append(product_name)
            for product_name in self._fed_needed_optional.get(name, ()):
                optional[product_name] -= 1
                if lacking[product_name] == 0 and optional[product_name] == 0:
                    made.append(product_name)
        return frozenset(made)

    def missing_for(self, product_name: str, available: Iterable[str]) -> tuple[str, ...]:
        """Return the inputs of the graph that lack for `product_name` to be made.

        Mandatory inputs are followed back to what arrives, stopping at what is available or can be
        made; so are optional ones where fewer are so than are needed: any of them may do. Empty
        means that it can be made; for an input, the answer is itself unless it is there.

        Raises
        ------
        KeyError
            The graph does not know `product_name`.
        """
        if not self.knows(product_name):
            raise KeyError(product_name)
        have = set(available)
        if product_name in self._input_set:
            return () if product_name in have else (product_name,)
        if self._needing_optional:
            # What can be made counts as well: with it there may be enough of the optional ones.
            reachable = self.reachable(have)
            if product_name in reachable:
                return ()
            have |= reachable
        needed = dict.fromkeys([product_name])
        waiting = [product_name]
        for name in waiting:  # grows as it goes
            product = self.products.get(name)
            lacks = product.lacks(have) if product else ()
            fresh = [source for source in lacks if source not in needed]
            needed.update(dict.fromkeys(fresh))
            waiting += fresh
        return tuple(name for name in self.inputs if name in needed)

    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Return the names by level, each level in the order of the document.

        Level 0 holds the inputs; a product is one level above the highest of all that it is
        made from, mandatory or optional.
        """
        return self._levels

    def as_document(self) -> dict[str, object]:
        """Return the graph as a JSON-able document with every key written out.

        `Graph.parse` makes an equal graph of it.
        """
        return {
            "inputs": list(self.inputs),
            "expected": list(self.expected),
            "products": {name: _entry(product) for name, product in self.products.items()},
            "providers": {
                name: {
                    "max_concurrent": provider.max_concurrent,
                    "max_concurrent_by_class": {
                        each.value: limit
                        for each, limit in provider.max_concurrent_by_class.items()
                    },
                    "callback": provider.callback,
                    "max_concurrent_per_instance": provider.max_concurrent_per_instance,
                    "lost_after": provider.lost_after_s,
                }
                for name, provider in self.providers.items()
            },
            "classes": {each.value: share for each, share in self.shares.items()},
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the document in canonical JSON.

        Keys are sorted and defaults written out, so that only a change of meaning, or of the
        order of a list, changes it.
        """
        canonical = json.dumps(self.as_document(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What is allowed but may be a mistake, one line each: an input that feeds nothing."""
        idle = tuple(
            f"inputs: {name!r} feeds no product" for name in self.inputs if name not in self._fed
        )
        return idle if self.products else ("products: empty, nothing will ever be made", *idle)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle as a document: read-only mappings cannot be pickled."""
        return Graph.parse, (self.as_document(),)

    def __repr__(self) -> str:
        return (
            f"<Graph of {format_count(len(self.inputs), 'input')},"
            f" {format_count(len(self.products), 'product')}>"
        )

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def _input_set(self) -> frozenset[str]:
        return frozenset(self.inputs)

    @cached_property
    def _fed(self) -> dict[str, tuple[Product, ...]]:
        fed = dependents({name: product.sources for name, product in self.products.items()})
        return {name: tuple(self.products[each] for each in names) for name, names in fed.items()}

    @cached_property
    def _fed_mandatory(self) -> dict[str, list[str]]:
        return dependents({name: product.m_input for name, product in self.products.items()})

    @cached_property
    def _needing_optional(self) -> tuple[str, ...]:
        return tuple(name for name, product in self.products.items() if product.o_min)

    @cached_property
    def _fed_needed_optional(self) -> dict[str, list[str]]:
        return dependents({name: self.products[name].o_input for name in self._needing_optional})

    @cached_property
    def waiting_from_last_input(self) -> tuple[Product, ...]:
        """The products whose wait for optional inputs begins anew with each input."""
        return tuple(
            product
            for product in self.products.values()
            if product.o_wait_s > 0 and product.o_wait_from is WaitFrom.LAST_INPUT
        )

    @cached_property
    def asking(self) -> frozenset[str]:
        """The products of which versions may wait for a person before they are available."""
        return frozenset(name for name, product in self.products.items() if product.asks)

    @cached_property
    def approved_before(self) -> frozenset[str]:
        """The products that are not requested until a person approves it."""
        return frozenset(
            name for name, product in self.products.items() if product.approval is Approval.BEFORE
        )

    @cached_property
    def with_deadlines(self) -> frozenset[str]:
        """The products that are due, or expire, at a time."""
        return frozenset(
            name
            for name, product in self.products.items()
            if product.due_s is not None or product.expires_s is not None
        )

    def with_deadlines_after(self, name: str) -> tuple[Product, ...]:
        """Return the products with deadlines that are made from `name`, directly or not."""
        found = self._deadlines_after.get(name)
        if found is None:
            names = sorted(self.after(name) & self.with_deadlines) if self.with_deadlines else []
            found = self._deadlines_after[name] = tuple(self.products[each] for each in names)
        return found

    @cached_property
    def _deadlines_after(self) -> dict[str, tuple[Product, ...]]:
        return {}

    @cached_property
    def _levels(self) -> tuple[tuple[str, ...], ...]:
        found = find_levels({name: product.sources for name, product in self.products.items()})
        levels: list[list[str]] = [[] for _ in range(1 + max(found.values(), default=0))]
        levels[0] = list(self.inputs)
        for name in self.products:
            levels[found[name]].append(name)
        return tuple(tuple(level) for level in levels)


def read_graph(path: str | Path) -> Graph:
    """Read a graph from a file, YAML where its name ends in .yaml or .yml, else JSON.

    Raises
    ------
    GraphError
        The file cannot be read, or holds mistakes: all of them, one line each.
    """
    try:
        text = read_text(Path(path))
    except ConfigurationError as exc:
        raise GraphError(exc.problems) from exc
    return Graph.parse(text, source=str(path))


def _build(document: GraphDocument) -> Graph:
    products = {name: _product(name, entry) for name, entry in document.products.items()}
    urls = {product.provider: product.urls for product in products.values()}
    default = ProviderDocument()
    providers = {
        name: _provider(name, its, document.providers.get(name, default))
        for name, its in urls.items()
    }
    return Graph(
        tuple(document.inputs),
        MappingProxyType(_with_classes(products)),
        MappingProxyType(providers),
        tuple(document.expected),
        MappingProxyType({**DEFAULT_SHARES, **document.classes}),
    )


def _with_classes(products: dict[str, Product]) -> dict[str, Product]:
    """Return the products with their classes, which what is made from them inherits."""
    if all(product.stated_class is None for product in products.values()):
        return products
    levels = find_levels({name: product.sources for name, product in products.items()})
    classes: dict[str, WorkClass | None] = {}
    for name in sorted(products, key=lambda name: levels[name]):
        product = products[name]
        classes[name] = product.stated_class or most_urgent(map(classes.get, product.sources))
    return {
        name: replace(product, work_class=classes[name] or WorkClass.LIVE)
        for name, product in products.items()
    }


def _product(name: str, entry: ProductDocument) -> Product:
    return Product(
        name=name,
        m_input=tuple(entry.m_input),
        o_input=tuple(entry.o_input),
        provider=entry.provider,
        urls=tuple(entry.url),
        timeout_s=entry.timeout,
        max_attempts=entry.max_attempts,
        priority=entry.priority,
        o_wait_s=entry.o_wait,
        on_update=entry.on_update,
        o_wait_from=entry.o_wait_from,
        o_min=entry.o_min,
        on_late=entry.on_late,
        due_s=entry.due,
        expires_s=entry.expires,
        due_from=entry.due_from,
        approval=entry.approval,
        late_result=entry.late_result,
        stated_class=entry.work_class,
        stages=entry.stages,
    )


def _provider(name: str, urls: tuple[str, ...], entry: ProviderDocument) -> Provider:
    return Provider(
        name=name,
        urls=urls,
        max_concurrent=entry.max_concurrent,
        callback=entry.callback,
        max_concurrent_by_class=entry.max_concurrent_by_class,
        max_concurrent_per_instance=entry.max_concurrent_per_instance,
        lost_after_s=entry.lost_after,
    )


def _entry(product: Product) -> dict[str, object]:
    return {
        "m_input": list(product.m_input),
        "o_input": list(product.o_input),
        "provider": product.provider,
        "url": product.urls[0] if len(product.urls) == 1 else list(product.urls),
        "timeout": product.timeout_s,
        "max_attempts": product.max_attempts,
        "priority": product.priority,
        "o_wait": product.o_wait_s,
        "on_update": product.on_update.value,
        "o_wait_from": product.o_wait_from.value,
        "o_min": product.o_min,
        "on_late": None if product.on_late is None else product.on_late.value,
        "due": product.due_s,
        "expires": product.expires_s,
        "due_from": product.due_from.value,
        "approval": None if product.approval is None else product.approval.value,
        "late_result": product.late_result.value,
        "stages": product.stages.value,
        "class": None if product.stated_class is None else product.stated_class.value,
    }
