"""`batuta graph check` and `batuta graph show`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from batuta.cli.output import AsJson, print_json
from batuta.graph import GraphError, read_graph, show

File = Annotated[Path, typer.Argument(help="The graph, JSON or YAML.")]


class GraphFormat(StrEnum):
    """Output formats of a graph."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


_DRAW = {
    GraphFormat.TEXT: show.as_text,
    GraphFormat.MERMAID: show.as_mermaid,
    GraphFormat.SVG: show.as_svg,
    GraphFormat.JSON: show.as_json,
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    graphs = typer.Typer(help="Check and show product graphs.", no_args_is_help=True)
    app.add_typer(graphs, name="graph")
    graphs.command("check")(check)
    graphs.command("show")(show_graph)


def check(file: File, *, as_json: AsJson = False) -> None:
    """List every mistake in a graph, one line each; the exit code is 2 if there is any."""
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
            f"{file}: {len(graph.inputs)} inputs, {len(graph.products)} products over "
            f"{len(graph.levels()) - 1} levels, {len(graph.providers)} providers; no mistakes"
        )


def show_graph(
    file: File,
    form: Annotated[
        GraphFormat, typer.Option("--format", "-f", help="Output format.")
    ] = GraphFormat.TEXT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Show a graph: text for a terminal, Mermaid, SVG or JSON."""
    drawn = _DRAW[form](read_graph(file))
    if output is None:
        typer.echo(drawn)
    else:
        output.write_text(drawn)
