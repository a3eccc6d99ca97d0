"""`batuta graph diff` and `graph apply`: what a graph changes, and putting it in force."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.output import CONDUCTOR_URL, AsJson, ConductorUrl, Operator, echo, print_json
from batuta.errors import ConfigurationError
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.graph import GraphComparison
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
    """Show what a new graph changes, key by key, and what it starts, makes stale or orphans.

    With the numbers of the records, where a conductor can be reached.
    """
    from batuta.graph import compare, read_graph  # noqa: PLC0415  for --help to be fast
    from batuta.service.client import ServiceError  # noqa: PLC0415

    if len(files) > 2:
        message = f"{len(files)} graphs given; accepted are OLD NEW, or NEW alone"
        raise typer.BadParameter(message)
    new = read_graph(files[-1])
    old = read_graph(files[0]) if len(files) > 1 else None
    order: dict[str, Any] = {"graph": new.as_document()}
    if old is not None:
        order["old"] = old.as_document()
    try:
        with conductor_at(conductor_url) as conductor:
            _show(conductor.preview_graph(order), as_json=as_json)
    except ServiceError as exc:
        # Two files can be compared without a conductor: only the numbers are missing.
        if old is None or exc.status is not None:
            raise
        comparison = compare(old, new)
        values = {"old": old.digest, "new": new.digest, **asdict(comparison)}
        _show({**values, "in_force": None, "counts": None}, as_json=as_json)


def apply(  # noqa: PLR0913  each is an option
    file: Annotated[Path | None, typer.Argument(help="The graph, JSON or YAML.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="In the place of FILE: a version that it was.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why; kept with the version.")] = None,
    work_class: Annotated[
        WorkClass | None,
        typer.Option("--class", help="Class of what it starts; by default that of each product."),
    ] = None,
    operator: Operator = None,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it would change, and how much.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a graph in force in the running conductor, without a restart."""
    from batuta.graph import Graph, compare, read_graph  # noqa: PLC0415  for --help to be fast

    if (file is None) == (version is None):
        given = "neither" if file is None else f"{file} and --version {version}"
        raise ConfigurationError(f"{given} given (accepted: FILE, or --version NUMBER)")
    order: dict[str, Any] = {"version": version}
    if file is not None:
        order = {"graph": read_graph(file).as_document()}
    with conductor_at(conductor_url, operator) as conductor:
        if dry_run:
            _show(conductor.preview_graph(order), as_json=as_json)
            return
        in_force = conductor.graph_version_in_force()
        document = order.get("graph") or conductor.graph_version(version or 0)["graph"]
        comparison = compare(Graph.parse(in_force["graph"]), Graph.parse(document))
        order |= {"note": note, "class": work_class, "instead_of": in_force["number"]}
        applied = conductor.apply_graph(order)
    if as_json:
        print_json({**applied, **asdict(comparison)})
        return
    if applied["number"] == in_force["number"]:
        echo(f"no difference: version {applied['number']} stays in force")
        return
    for line in _lines(comparison):
        echo(line)
    echo(
        f"version {applied['number']} is in force; batuta graph apply --version "
        f"{in_force['number']} goes back"
    )


def _show(preview: Mapping[str, Any], *, as_json: bool) -> None:
    from batuta.graph import GraphComparison  # noqa: PLC0415  for --help to be fast
    from batuta.graph.comparison import GraphChange  # noqa: PLC0415

    if as_json:
        print_json(preview)
        return
    comparison = GraphComparison(
        changes=tuple(GraphChange(**each) for each in preview["changes"]),
        startable=tuple(preview["startable"]),
        stale=tuple(preview["stale"]),
        orphans=tuple(preview["orphans"]),
    )
    for line in _lines(comparison):
        echo(line)
    if preview["counts"] is not None:
        for line in _count_lines(preview["counts"]):
            echo(line)


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


def _count_lines(counts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the numbers say, a line for each kind of consequence."""
    orphans: Mapping[str, Mapping[str, int]] = counts["orphans"]
    for words, numbers in (
        ("to be recorded from the sdb", counts["recorded"]),
        ("to be started at once", counts["starts"]),
        ("to follow from that, or from what is being made", counts["follows"]),
        ("to go on, set aside before", counts["continues"]),
        ("to be set aside, lacking inputs", counts["set_aside"]),
        ("to be set aside, made by nobody", _of_orphans(orphans, "set_aside")),
        ("to be followed to the end", _of_orphans(orphans, "followed")),
        ("available, and stale", counts["stale"]),
        ("available, and made by nobody", _of_orphans(orphans, "available")),
    ):
        told = [f"{name} {number}" for name, number in sorted(numbers.items()) if number]
        if told:
            yield f"{words}: {', '.join(told)}"
    yield f"in all of {counts['observations']} observations"


def _of_orphans(orphans: Mapping[str, Mapping[str, int]], key: str) -> dict[str, int]:
    return {name: each[key] for name, each in orphans.items()}
