"""A product graph derived from what pipelines declare."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from batuta.errors import ConfigurationError
from batuta.graph.text import load_text
from batuta.spelling import NameSuggester

DEFAULT_URL: Final = "http://127.0.0.1:5000/pipeline"
"""Of a pipeline service that is started without options; `batuta up` says where each really is."""


@dataclass(frozen=True, kw_only=True)
class DeclaredProduct:
    """What a pipeline says of a product: its inputs, its by-products, keys of the graph."""

    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    also_makes: tuple[str, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)
    """As in a graph's document: ``timeout``, ``max_attempts`` and so on."""


@dataclass(frozen=True, kw_only=True)
class DeclaredPipeline:
    """A pipeline as it declares itself; `use` is how it is referred to, ``MODULE:NAME``."""

    use: str
    name: str
    products: Mapping[str, DeclaredProduct]


def derive_document(
    pipelines: Sequence[DeclaredPipeline], override: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the document of a graph in which these pipelines make all that they declare.

    What no pipeline makes arrives from outside. By-products do too: they are archived by a
    processing that was asked for another product.

    Parameters
    ----------
    pipelines : sequence of DeclaredPipeline
        Each under a name of its own.
    override : mapping, optional
        What the pipelines do not state, in the form of a graph's document: the keys of each entry
        of ``products`` and ``providers`` replace those derived; ``inputs`` are added, ``expected``
        and ``classes`` are as given.

    Raises
    ------
    ConfigurationError
        If two pipelines make one product, or `override` names what none makes; one line each.
    """
    override = override or {}
    problems = [*_made_twice(pipelines)]
    entries = {
        name: _entry(pipeline, product)
        for pipeline in pipelines
        for name, product in pipeline.products.items()
    }
    providers: dict[str, Any] = {}
    known = {"products": list(entries), "providers": [each.name for each in pipelines]}
    for key, target in (("products", entries), ("providers", providers)):
        for name, values in _mapping(override, key, problems).items():
            if name in known[key]:
                target[name] = {**target.get(name, {}), **_mapping({name: values}, name, problems)}
                continue
            hint = NameSuggester(known[key]).hint(str(name))
            problems.append(f"override: {key}: no pipeline here is or makes {name!r}{hint}")
    unknown = sorted(map(str, override.keys() - {"inputs", "expected", "classes", *known}))
    accepted = "inputs, expected, classes, products, providers"
    problems += [f"override: the key {key!r} is unknown (accepted: {accepted})" for key in unknown]
    if problems:
        raise ConfigurationError(problems)
    document: dict[str, Any] = {
        "inputs": list(dict.fromkeys([*_arriving(entries), *override.get("inputs", ())])),
        "products": entries,
    }
    document |= {key: override[key] for key in ("expected", "classes") if key in override}
    return {**document, "providers": providers} if providers else document


def load_override(text: str, source: str) -> Mapping[str, Any]:
    """Parse an override, JSON or YAML as `source` is named.

    Raises
    ------
    ConfigurationError
        If it is neither, or no object.
    """
    document, problems = load_text(text, source)
    if not problems and not isinstance(document, dict):
        problems = ["not an object (accepted: keys of a graph)"]
    if problems or not isinstance(document, dict):
        raise ConfigurationError(f"{source}: {line}" for line in problems)
    return document


def _entry(pipeline: DeclaredPipeline, product: DeclaredProduct) -> dict[str, Any]:
    return {
        "m_input": list(product.inputs),
        "o_input": list(product.optional),
        "provider": pipeline.name,
        "url": DEFAULT_URL,
        **product.keys,
    }


def _arriving(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the inputs that no pipeline makes, in the order in which they are needed."""
    for entry in entries.values():
        for name in (*entry["m_input"], *entry["o_input"]):
            if name not in entries:
                yield name


def _made_twice(pipelines: Sequence[DeclaredPipeline]) -> Iterator[str]:
    first: dict[str, str] = {}
    for pipeline in pipelines:
        for name in pipeline.products:
            if name in first:
                yield f"{name}: made by {first[name]} and by {pipeline.use} (accepted: by one)"
            first.setdefault(name, pipeline.use)


def _mapping(document: Mapping[str, Any], key: str, problems: list[str]) -> Mapping[str, Any]:
    value = document.get(key, {})
    if isinstance(value, Mapping):
        return value
    problems.append(f"override: {key}: {value!r:.80} given, an object expected")
    return {}
