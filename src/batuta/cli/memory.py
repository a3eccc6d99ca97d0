"""`batuta profile memory-report` and `batuta profile memory-all`: pictures of the memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from batuta.cli.demo import examples_folder
from batuta.errors import BatutaError
from batuta.profiling.capture.factory import check_available
from batuta.profiling.capture.layout import ARROW_POOL
from batuta.profiling.capture.options import ProfileOptions

_MEMRAY: Final = ProfileOptions(mode="memray")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("memory-report")(memory_report)
    app.command("memory-all")(memory_all)


def memory_report(
    folder: Annotated[Path, typer.Argument(help="The output folder of a run.", metavar="DIR")],
    *,
    most: Annotated[
        int, typer.Option(min=1, help="Flame graphs to draw: those of the highest peaks.")
    ] = 20,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Draw also what was not freed until the end.")
    ] = False,
) -> None:
    """Draw who allocated the memory in a run that memray profiled, worker by worker."""
    check_available(_MEMRAY)
    from batuta.profiling.report.flamegraphs import draw_report  # noqa: PLC0415 - needs memray

    typer.echo(f"open {draw_report(folder, most=most, leaks=leaks)}")


def memory_all(
    program: Annotated[
        list[str] | None,
        typer.Argument(
            help="A script and its arguments, or -m and a module; the example terrain if none."
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures.")] = Path(
        "memory-all"
    ),
) -> None:
    """Draw who allocates the memory in the main process of a program, workers left out.

    Give the program after `--`, with profiling disabled in it.
    """
    check_available(_MEMRAY)
    from batuta.orchestrator import Orchestrator  # noqa: PLC0415 - loads much
    from batuta.profiling.capture.attribution import Attribution  # noqa: PLC0415 - goes with it
    from batuta.profiling.merge.memray import read_peak  # noqa: PLC0415 - needs memray
    from batuta.profiling.merge.text import peak_text  # noqa: PLC0415 - goes with it
    from batuta.profiling.report.flamegraphs import draw  # noqa: PLC0415 - needs memray

    output.mkdir(parents=True, exist_ok=True)
    file = output / "main.bin"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "memray", "run", "--quiet", "--output", str(file)]
    ended = subprocess.run(
        [*command, *(program or _terrain(output))],
        check=False,
        env={ARROW_POOL: "system", **os.environ},
    )
    if not file.exists():
        raise BatutaError("memory-all: the program was not started; see what memray says above")
    # Lines of the orchestrator count as the program's: they are what its main process runs.
    peak = read_peak(file, Attribution(Orchestrator))
    pages = [output / "main.html", output / "main-leaks.html"]
    draw(file, pages[0])
    draw(file, pages[1], leaks=True)
    typer.echo(peak_text(peak))
    typer.echo(f"open {pages[0]}, or {pages[1]} for what was not freed")
    if ended.returncode != 0:
        raise typer.Exit(1)


def _terrain(output: Path) -> list[str]:
    script = examples_folder() / "terrain" / "terrain.py"
    return [str(script), "--output", str(output / "terrain")]
