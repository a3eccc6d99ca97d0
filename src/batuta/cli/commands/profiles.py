"""`batuta profile`: show and compare profiles, draw flame graphs of memory."""

from pathlib import Path
from typing import Annotated

import typer

from batuta.cli.output import AsJson, print_json
from batuta.profiling.capture.factory import check_available
from batuta.profiling.capture.layout import PROFILE_FOLDER
from batuta.profiling.capture.options import ProfileOptions

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
    profiles.command("memory-report")(memory_report)


def show(directory: Folder, *, html: Html = None, as_json: AsJson = False) -> None:
    """Show the profile of a run that has ended, is running, or was killed."""
    # pandas and Arrow take half a second to import: other commands do without.
    from batuta.profiling.analysis.analyse import analyse_profile  # noqa: PLC0415
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415
    from batuta.profiling.merge.merge import read_profiler_files  # noqa: PLC0415
    from batuta.profiling.report.document import profile_document  # noqa: PLC0415
    from batuta.profiling.report.text import profile_text  # noqa: PLC0415

    analysis = analyse_profile(read_profile(directory))
    if html is not None:
        from batuta.profiling.report.page import profile_page  # noqa: PLC0415  needs bokeh

        profilers = read_profiler_files(analysis.folder / PROFILE_FOLDER)
        html.write_text(profile_page(analysis, profilers), encoding="utf-8")
    if as_json:
        print_json(profile_document(analysis))
    else:
        typer.echo(profile_text(analysis), nl=False)


def compare(first: Folder, second: Folder, *, as_json: AsJson = False) -> None:
    """Compare the profiles of two runs, task name by task name; the biggest change first."""
    from batuta.profiling.analysis.analyse import analyse_profile  # noqa: PLC0415
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415
    from batuta.profiling.report.comparison import comparison_text  # noqa: PLC0415
    from batuta.profiling.report.document import comparison_document  # noqa: PLC0415

    runs = analyse_profile(read_profile(first)), analyse_profile(read_profile(second))
    if as_json:
        print_json(comparison_document(*runs))
    else:
        typer.echo(comparison_text(*runs), nl=False)


def memory_report(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run.", metavar="DIR")],
    *,
    most: Annotated[
        int, typer.Option(min=1, help="Draw at most this many: those of the highest peaks.")
    ] = 20,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Also draw what was not freed until the end.")
    ] = False,
) -> None:
    """Draw flame graphs of who allocated memory in a run profiled by memray."""
    check_available(ProfileOptions(mode="memray"))
    from batuta.profiling.report.flamegraphs import draw_flame_graphs  # noqa: PLC0415  needs memray

    typer.echo(f"open {draw_flame_graphs(folder, most=most, leaks=leaks)}")
