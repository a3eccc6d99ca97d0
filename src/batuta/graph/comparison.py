"""What differs between two versions of a product graph, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

from batuta.graph.graph import Graph

SECTIONS: Final = {"products": "product", "providers": "provider"}
"""Sections of a graph's document that hold entries with keys, and what an entry is called."""
MAKING_KEYS: Final = frozenset({"m_input", "o_input", "provider"})
"""Keys of a product that say from what, and by whom, it is made."""


class ChangeKind(StrEnum):
    """What happens to a part of a graph from one version to the next."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class GraphChange:
    """One difference between two versions of a graph.

    Attributes
    ----------
    part : str
        ``input``, ``product``, ``provider`` or ``class``.
    name : str
        Of the input, product, provider or class of work.
    kind : ChangeKind
        What happens to it.
    key : str or None
        The key that is changed; None where the whole part is added or removed.
    old, new : object
        Its values in JSON, defaults written out; None where the whole part is added or removed.
    """

    part: str
    name: str
    kind: ChangeKind
    key: str | None = None
    old: object = None
    new: object = None


@dataclass(frozen=True, slots=True)
class GraphComparison:
    """All that differs from an old graph to a new one; each list in the order of its graph.

    Attributes
    ----------
    changes : tuple of GraphChange
        Inputs, then products, providers and classes; empty if the graphs mean the same.
    startable : tuple of str
        Products that only the new graph has: it can make them.
    stale : tuple of str
        Products of both graphs that the new one makes from other inputs or by another provider,
        and those of both that follow from them, or from a product added or removed.
    orphans : tuple of str
        Products that only the old graph has: nobody makes them any more.
    """

    changes: tuple[GraphChange, ...]
    startable: tuple[str, ...]
    stale: tuple[str, ...]
    orphans: tuple[str, ...]


def compare(old: Graph, new: Graph) -> GraphComparison:
    """Return what differs from `old` to `new`.

    Documents with every key written out are compared: a default that is stated, or the order of
    products, is no difference; the order of a list of inputs is one.
    """
    before, after = old.as_document(), new.as_document()
    changes = _input_changes(old, new)
    for section, part in SECTIONS.items():
        changes += _entry_changes(part, _mapping(before[section]), _mapping(after[section]))
    changes += [
        GraphChange("class", name, ChangeKind.CHANGED, "share", share, shares[name])
        for shares in [_mapping(after["classes"])]
        for name, share in _mapping(before["classes"]).items()
        if share != shares[name]
    ]
    return GraphComparison(
        changes=tuple(changes),
        startable=tuple(name for name in new.products if name not in old.products),
        stale=_stale(new, old, changes),
        orphans=tuple(name for name in old.products if name not in new.products),
    )


def _input_changes(old: Graph, new: Graph) -> list[GraphChange]:
    changes = [
        GraphChange("input", name, ChangeKind.REMOVED)
        for name in old.inputs
        if name not in new.inputs
    ]
    for name in new.inputs:
        if name not in old.inputs:
            changes.append(GraphChange("input", name, ChangeKind.ADDED))
        was, is_now = name in old.expected, name in new.expected
        if was != is_now:
            changes.append(GraphChange("input", name, ChangeKind.CHANGED, "expected", was, is_now))
    return changes


def _entry_changes(part: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[GraphChange]:
    changes = [GraphChange(part, name, ChangeKind.REMOVED) for name in old if name not in new]
    for name, entry in new.items():
        if name not in old:
            changes.append(GraphChange(part, name, ChangeKind.ADDED))
            continue
        changes += [
            GraphChange(part, name, ChangeKind.CHANGED, key, old[name][key], value)
            for key, value in entry.items()
            if value != old[name][key]
        ]
    return changes


def _stale(new: Graph, old: Graph, changes: list[GraphChange]) -> tuple[str, ...]:
    made_otherwise = {
        change.name for change in changes if change.part == "product" and _makes_otherwise(change)
    }
    stale = set(made_otherwise)
    for name in made_otherwise:
        stale |= new.after(name)
    return tuple(name for name in new.products if name in stale and name in old.products)


def _makes_otherwise(change: GraphChange) -> bool:
    if change.key is None:
        return True
    if isinstance(change.old, list) and isinstance(change.new, list):
        return change.key in MAKING_KEYS and set(change.old) != set(change.new)
    return change.key in MAKING_KEYS


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value)
