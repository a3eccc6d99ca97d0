"""`batuta profile show` and `batuta profile compare`."""

from pathlib import Path
from typing import Annotated

import typer

from batuta.cli import memory
from batuta.cli.output import AsJson, print_json
from batuta.profiling.capture.layout import PROFILE_FOLDER

Folder = Annotated[
    Path, typer.Argument(help="The output folder of a run, or its folder `profile`.")
]
Html = Annotated[Path | None, typer.Option("--html", help="Write the page into this file.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    profiles = typer.Typer(help="Show where time and memory went.", no_args_is_help=True)
    app.add_typer(profiles, name="profile")
    profiles.command("show")(show)
    profiles.command("compare")(compare)
    memory.register(profiles)


def show(directory: Folder, *, html: Html = None, as_json: AsJson = False) -> None:
    """Show the profile of a run: one that has ended, goes on, or was killed."""
    # pandas and Arrow take half a second to import: other commands do without.
    from batuta.profiling.analysis.figures import figures_of  # noqa: PLC0415
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415
    from batuta.profiling.merge.merge import read_profiler_files  # noqa: PLC0415
    from batuta.profiling.report.document import profile_document  # noqa: PLC0415
    from batuta.profiling.report.text import profile_text  # noqa: PLC0415

    figures = figures_of(read_profile(directory))
    if html is not None:
        from batuta.profiling.report.page import profile_page  # noqa: PLC0415  needs bokeh

        modes = read_profiler_files(figures.folder / PROFILE_FOLDER)
        html.write_text(profile_page(figures, modes), encoding="utf-8")
    if as_json:
        print_json(profile_document(figures))
    else:
        typer.echo(profile_text(figures), nl=False)


def compare(first: Folder, second: Folder, *, as_json: AsJson = False) -> None:
    """Compare the profiles of two runs, task name by task name; the biggest change first."""
    from batuta.profiling.analysis.figures import figures_of  # noqa: PLC0415
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415
    from batuta.profiling.report.compared import comparison_text  # noqa: PLC0415
    from batuta.profiling.report.document import comparison_document  # noqa: PLC0415

    figures = figures_of(read_profile(first)), figures_of(read_profile(second))
    if as_json:
        print_json(comparison_document(*figures))
    else:
        typer.echo(comparison_text(*figures), nl=False)
