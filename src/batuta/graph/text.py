"""Parsing the text of a graph, JSON or YAML, without losing duplicate keys.

The standard parsers silently keep the last of two equal keys: a product defined twice would lose
its first definition unnoticed.
"""

import json
from collections.abc import Hashable, Iterator
from pathlib import PurePath
from typing import Any

import yaml

from batuta.errors import one_line
from batuta.graph.document import path
from batuta.graph.errors import GraphError
from batuta.graph.spelling import duplicates, quote


def load_text(text: str, source: str) -> tuple[object, list[str]]:
    """Parse `text`: YAML where the name `source` ends in .yaml or .yml, else JSON.

    Returns
    -------
    tuple of object and list of str
        The document, and one line per key given twice.

    Raises
    ------
    GraphError
        The text is not JSON, or not YAML: line, column and reason.
    """
    twice = _DuplicateKeys()
    is_yaml = PurePath(source).suffix.lower() in {".yaml", ".yml"}
    try:
        document = _load_yaml(text, twice) if is_yaml else _load_json(text, twice)
    except RecursionError as exc:
        raise GraphError(f"{source}: too deeply nested to be a graph") from exc
    except _TextError as exc:
        raise GraphError(f"{source}: {exc}") from exc
    return document, twice.problems(document)


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


def _load_json(text: str, twice: _DuplicateKeys) -> object:
    try:
        return json.loads(text, object_pairs_hook=twice.build)
    except json.JSONDecodeError as exc:
        raise _TextError(f"line {exc.lineno}, column {exc.colno}: not JSON: {exc.msg}") from exc
    except ValueError as exc:  # a number of more digits than Python converts
        raise _TextError(f"not JSON: {exc}") from exc


def _load_yaml(text: str, twice: _DuplicateKeys) -> object:
    try:
        loader = _Loader(text)
        loader.twice = twice
        return loader.get_single_data()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _TextError(f"{place}not YAML: {exc.problem}") from exc
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: the 31st of February
        reason = one_line(exc)
        raise _TextError(f"not YAML: {reason}") from exc


class _Loader(yaml.SafeLoader):
    """The safe loader, which records keys given twice instead of dropping them."""

    twice: _DuplicateKeys

    def construct_object_of(self, node: yaml.MappingNode) -> dict[Any, Any]:
        # Keys that a merge (<<) brings may be given again: that is what merges are for.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        self.flatten_mapping(node)
        built = self.construct_mapping(node, deep=True)
        self.twice.record(built, [self.construct_object(key, deep=True) for key in own])
        return built


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_object_of)
