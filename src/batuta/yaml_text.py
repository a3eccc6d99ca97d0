"""YAML from outside, bounded: aliases must not make much of little; and what is wrong with it."""

from os import strerror
from pathlib import Path
from typing import Final

import yaml

from batuta.errors import ConfigurationError, one_line

MIN_VALUES: Final = 100_000
MAX_GROWTH: Final = 10
"""A document may have `MIN_VALUES` values, or `MAX_GROWTH` times those that it has in writing."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8.

    Raises
    ------
    ConfigurationError
        If it cannot be read: its path, and why.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        raise ConfigurationError(f"{path}: not found") from exc
    except OSError as exc:
        reason = strerror(exc.errno).lower() if exc.errno else one_line(exc)
        raise ConfigurationError(f"{path}: cannot be read: {reason}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path}: not a text in UTF-8: byte {exc.start}") from exc


def yaml_problem(exc: Exception) -> str:
    """Return where a text is not YAML, and why, in one line."""
    if isinstance(exc, YamlAliasError):
        return one_line(exc)
    if isinstance(exc, RecursionError):
        return "too deeply nested"
    if not isinstance(exc, yaml.MarkedYAMLError) or exc.problem is None:
        return f"not YAML: {one_line(exc)}"
    mark = exc.problem_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}not YAML: {exc.problem}"


class YamlAliasError(yaml.YAMLError):
    """A document whose aliases contain themselves, or make too much of it."""


class BoundedLoader(yaml.SafeLoader):
    """The safe loader, which refuses what its aliases (``*name``) expand without a bound.

    An alias is the same object again: ten levels of ten aliases each are a hundred objects, and
    ten thousand million for whoever visits them ("billion laughs").
    """

    def get_single_node(self) -> yaml.Node | None:
        """Compose the document, and check it before anything is constructed of it.

        Raises
        ------
        YamlAliasError
            If its aliases contain themselves, or make too much of it.
        """
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check_growth(node)
        return node


def _check_growth(root: yaml.Node) -> None:
    """Count the values below each node once, from the leaves up."""
    counts: dict[int, int] = {}
    entered: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        children = _children(node)
        if id(node) not in entered:
            entered.add(id(node))
            waiting += [child for child in children if id(child) not in counts]
            if any(id(child) in entered and id(child) not in counts for child in children):
                raise YamlAliasError(f"{_place(node)}an alias contains itself")
            continue
        waiting.pop()
        counts[id(node)] = 1 + sum(counts[id(child)] for child in children)
    values = counts[id(root)]
    if values > max(MIN_VALUES, MAX_GROWTH * len(counts)):
        raise YamlAliasError(
            f"its aliases make {_shown(values)} values of {len(counts)} "
            f"(accepted: {MAX_GROWTH} times as many)"
        )


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _place(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}: "


def _shown(values: int) -> str:
    return f"{values:,}" if values < 10**12 else "more than a million million"
