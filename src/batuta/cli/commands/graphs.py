"""`batuta graph`: checking, showing, comparing and deriving graphs, and those in force."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from batuta.cli.commands.graph_changes import apply, diff
from batuta.cli.commands.graph_versions import versions
from batuta.cli.output import AsJson, print_json
from batuta.formatting import format_count

File = Annotated[Path, typer.Argument(help="The graph, JSON or YAML.")]


class GraphFormat(StrEnum):
    """Output formats of a graph."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    graphs = typer.Typer(help="Check and show product graphs.", no_args_is_help=True)
    app.add_typer(graphs, name="graph")
    graphs.command("check")(check)
    graphs.command("show")(show_graph)
    graphs.command("diff")(diff)
    graphs.command("apply")(apply)
    graphs.command("versions")(versions)
    graphs.command("from")(from_pipelines)


def check(file: File, *, as_json: AsJson = False) -> None:
    """List every mistake in a graph, one line each; the exit code is 2 if there is any."""
    from batuta.graph import GraphError, read_graph  # noqa: PLC0415  for --help to be fast

    try:
        graph = read_graph(file)
    except GraphError as exc:
        if not as_json:
            raise
        print_json({"file": str(file), "problems": exc.problems})
        raise typer.Exit(2) from exc
    if as_json:
        print_json({"file": str(file), "problems": []})
    else:
        typer.echo(
            f"{file}: {format_count(len(graph.inputs), 'input')}, "
            f"{format_count(len(graph.products), 'product')} over "
            f"{format_count(len(graph.levels()) - 1, 'level')}, "
            f"{format_count(len(graph.providers), 'provider')}; no mistakes"
        )


def show_graph(
    file: File,
    form: Annotated[
        GraphFormat, typer.Option("--format", "-f", help="Output format.")
    ] = GraphFormat.TEXT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Show a graph: text for a terminal, Mermaid, SVG or JSON."""
    from batuta.graph import read_graph, show  # noqa: PLC0415  for --help to be fast

    draw = {
        GraphFormat.TEXT: show.as_text,
        GraphFormat.MERMAID: show.as_mermaid,
        GraphFormat.SVG: show.as_svg,
        GraphFormat.JSON: show.as_json,
    }
    drawn = draw[form](read_graph(file))
    if output is None:
        typer.echo(drawn)
    else:
        output.write_text(drawn)


def from_pipelines(
    uses: Annotated[
        list[str], typer.Argument(metavar="MODULE:NAME...", help="Pipelines, or files of commands.")
    ],
    override: Annotated[
        Path | None,
        typer.Option(help="JSON or YAML with keys that the pipelines do not state."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Derive the graph in which these pipelines make all that they declare, as JSON."""
    from batuta.cli.deployment.pipeline_checks import load_declarations  # noqa: PLC0415  for --help to be fast
    from batuta.errors import ConfigurationError  # noqa: PLC0415
    from batuta.graph import Graph, derive_document, load_override  # noqa: PLC0415
    from batuta.yaml_text import read_text  # noqa: PLC0415

    declared, problems = load_declarations(uses, Path.cwd())
    if problems:
        raise ConfigurationError(problems)
    keys = load_override(read_text(override), str(override)) if override is not None else None
    document = derive_document(declared, keys)
    Graph.parse(document, "the derived graph")
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if output is None:
        typer.echo(text)
    else:
        output.write_text(f"{text}\n", encoding="utf-8")
