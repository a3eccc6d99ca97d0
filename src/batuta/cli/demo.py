"""`batuta demo`: the whole orchestra plays real observations, and shows what it made."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from batuta.cli.signals import until_stopped

OUTPUT: Final = Path("demo-out")
LIMIT_S: Final = 300.0


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("demo")(demo)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the quicklook pictures.")
    ] = OUTPUT,
    limit_s: Annotated[
        float,
        typer.Option(
            "--limit",
            "--limit-s",
            min=1,
            help="Give up after so many seconds, naming what is missing.",
        ),
    ] = LIMIT_S,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the services running, until Ctrl-C.")
    ] = False,
    chaos: Annotated[
        bool,
        typer.Option(help="Kill one processing half-way, to show that it is made all the same."),
    ] = True,
) -> None:
    """Play real observations, from their arrival to the archived products."""
    from batuta.cli.demo_run import Performance, Wishes  # noqa: PLC0415  loads much

    examples = examples_folder()
    sys.path.insert(0, str(examples.parent))
    wishes = Wishes(
        examples=examples, output=output.absolute(), limit_s=limit_s, keep=keep, chaos=chaos
    )
    with tempfile.TemporaryDirectory(prefix="batuta-demo-") as folder:
        code = asyncio.run(until_stopped(Performance(wishes, Path(folder)).play()))
    raise typer.Exit(code)


def examples_folder() -> Path:
    """Where the demonstration's pipelines are: in a checkout, or inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "examples"
    return checkout if (checkout / "demo").is_dir() else package / "_bundled" / "examples"
