"""`batuta graph diff`: what a new version of a graph changes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, echo, print_json

if TYPE_CHECKING:
    from batuta.graph import Graph, GraphComparison
    from batuta.graph.comparison import GraphChange


def diff(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[OLD] NEW",
            help="Two graphs, JSON or YAML; NEW alone is compared with the conductor's graph.",
        ),
    ],
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a new graph changes, key by key, and what it starts, makes stale or orphans."""
    from batuta.graph import compare, read_graph  # noqa: PLC0415  for --help to be fast

    if len(files) > 2:
        message = f"{len(files)} graphs given; accepted are OLD NEW, or NEW alone"
        raise typer.BadParameter(message)
    new = read_graph(files[-1])
    old = read_graph(files[0]) if len(files) > 1 else _graph_in_force(conductor_url)
    comparison = compare(old, new)
    if as_json:
        print_json({"old": old.digest, "new": new.digest, **asdict(comparison)})
        return
    for line in _lines(comparison):
        echo(line)


def _graph_in_force(conductor_url: str) -> "Graph":
    from batuta.graph import Graph  # noqa: PLC0415  for --help to be fast

    with conductor_at(conductor_url) as conductor:
        return Graph.parse(conductor.graph(), "the conductor's graph")


def _lines(comparison: "GraphComparison") -> list[str]:
    if not comparison.changes:
        return ["no difference"]
    lines = [_line(change) for change in comparison.changes]
    for words, names in (
        ("can be made from now on", comparison.startable),
        ("stale, as made by the old graph", comparison.stale),
        ("orphans, which nobody makes any more", comparison.orphans),
    ):
        if names:
            lines.append(f"{words}: {', '.join(names)}")
    return lines


def _line(change: "GraphChange") -> str:
    subject = f"{change.part} {change.name}"
    if change.key is None:
        return f"{subject}: {change.kind}"
    old, new = (json.dumps(value, ensure_ascii=False) for value in (change.old, change.new))
    return f"{subject}: {change.key} {old} -> {new}"
