"""Parsing the text of a graph, JSON or YAML, without losing duplicate keys.

The standard parsers silently keep the last of two equal keys: a product defined twice would lose
its first definition unnoticed.
"""

import json
from collections.abc import Hashable, Iterator
from pathlib import PurePath
from typing import Any, Final

import yaml

from batuta.graph.document import path
from batuta.graph.errors import GraphError
from batuta.graph.spelling import duplicates, quote
from batuta.yaml_text import BoundedLoader, yaml_problem


def load_text(text: str, source: str) -> tuple[object, list[str]]:
    """Parse `text`: YAML where the name `source` ends in .yaml or .yml, else JSON.

    Returns
    -------
    tuple of object and list of str
        The document, and one line per key given twice and per name that YAML takes for another
        value.

    Raises
    ------
    GraphError
        The text is not JSON, or not YAML: line, column and reason.
    """
    twice = _DuplicateKeys()
    is_yaml = PurePath(source).suffix.lower() in {".yaml", ".yml"}
    try:
        document, unquoted = _load_yaml(text, twice) if is_yaml else _load_json(text, twice)
    except RecursionError as exc:
        raise GraphError(f"{source}: too deeply nested to be a graph") from exc
    except _TextError as exc:
        raise GraphError(f"{source}: {exc}") from exc
    return document, unquoted + twice.problems(document)


class _TextError(ValueError):
    """Not JSON, or not YAML."""


class _DuplicateKeys:
    """Keys given twice, with the object that they are in, until its place is known."""

    def __init__(self) -> None:
        # By identity. The object is stored too: once freed, its identity could be reused.
        self._found: dict[int, tuple[dict[Any, Any], list[Hashable]]] = {}

    def build(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Return the object of `pairs`, and record those of its keys that occur twice."""
        built = dict(pairs)
        if len(built) < len(pairs):
            self.record(built, [key for key, _ in pairs])
        return built

    def record(self, built: dict[Any, Any], keys: list[Hashable]) -> None:
        """Record those of the `keys` of an object that occur twice."""
        if twice := duplicates(keys):
            self._found[id(built)] = (built, twice)

    def problems(self, document: object) -> list[str]:
        """Return one line per repeated key, with its place in the document."""
        if not self._found:
            return []
        return [
            f"{path(*place)}: the key {quote(key)} is given more than once (accepted: once)"
            for place, part in _objects(document)
            for key in self._found.get(id(part), (part, []))[1]
        ]


def _objects(document: object) -> Iterator[tuple[tuple[object, ...], dict[Any, Any]]]:
    """Yield every object that a graph can hold, down to the entries, with its place."""
    waiting: list[tuple[tuple[object, ...], object]] = [((), document)]
    for place, part in waiting:
        if isinstance(part, dict):
            yield place, part
            waiting += [((*place, key), value) for key, value in part.items()]


def _load_json(text: str, twice: _DuplicateKeys) -> tuple[object, list[str]]:
    try:
        return json.loads(text, object_pairs_hook=twice.build), []
    except json.JSONDecodeError as exc:
        raise _TextError(f"line {exc.lineno}, column {exc.colno}: not JSON: {exc.msg}") from exc
    except ValueError as exc:  # a number of more digits than Python converts
        raise _TextError(f"not JSON: {exc}") from exc


def _load_yaml(text: str, twice: _DuplicateKeys) -> tuple[object, list[str]]:
    try:
        loader = _Loader(text)
        loader.twice = twice
        return loader.get_single_data(), loader.unquoted
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: the 31st of February
        raise _TextError(yaml_problem(exc)) from exc


class _Loader(BoundedLoader):
    """Records keys given twice instead of dropping them, and names that YAML takes for values."""

    twice: _DuplicateKeys

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.unquoted: list[str] = []

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        self.unquoted += [_as_text(place, name) for place, name in _names(node) if _is_value(name)]
        return node

    def construct_object_of(self, node: yaml.MappingNode) -> dict[Any, Any]:
        # Keys that a merge (<<) brings may be given again: that is what merges are for.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        self.flatten_mapping(node)
        built = self.construct_mapping(node, deep=True)
        self.twice.record(built, [self.construct_object(key, deep=True) for key in own])
        return built


def _names(document: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the nodes of a document where a name belongs, each with its place."""
    for key, value in _pairs(document):
        if key.value == "inputs":
            yield from _items("inputs", value)
        elif key.value in {"products", "providers"}:
            for name, entry in _pairs(value):
                yield key.value, name
                yield from _names_of_entry(path(key.value, name.value), entry)


def _names_of_entry(place: str, entry: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    for key, value in _pairs(entry):
        if key.value in {"m_input", "o_input"}:
            yield from _items(f"{place}.{key.value}", value)
        elif key.value == "provider":
            yield f"{place}.provider", value


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return the pairs of a mapping, but for those whose key is no name at all."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [(key, value) for key, value in pairs if isinstance(key, yaml.ScalarNode)]


def _items(place: str, node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        yield from ((place, item) for item in node.value)


def _is_value(node: yaml.Node) -> bool:
    """Return whether YAML takes the text of `node`, without quotes, for something else."""
    return isinstance(node, yaml.ScalarNode) and node.value != "" and node.tag in _VALUES


def _as_text(place: str, node: yaml.Node) -> str:
    """Describe the mistake, and read the name as it was meant: it is told once."""
    taken_for, node.tag = _VALUES[node.tag], "tag:yaml.org,2002:str"
    return (
        f"{place}: {node.value} is {taken_for} in YAML (accepted: a name; in quotes: "
        f'"{node.value}")'
    )


_VALUES: Final = {
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:int": "a number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:timestamp": "a date",
}

_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_object_of)
