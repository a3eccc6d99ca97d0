"""`batuta demo`: a whole orchestra processes real observations."""

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
            help="Give up after this many seconds, and list what is missing.",
        ),
    ] = LIMIT_S,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the services running until Ctrl-C.")
    ] = False,
    chaos: Annotated[
        bool,
        typer.Option(help="Kill one processing half-way, to show that its product is made anyway."),
    ] = True,
) -> None:
    """Process real observations, from their arrival to the archived products."""
    from batuta.cli.demonstration.run import DemoOptions, DemoRun  # noqa: PLC0415  loads much

    examples = examples_folder()
    sys.path.insert(0, str(examples.parent))
    options = DemoOptions(
        examples=examples, output=output.absolute(), limit_s=limit_s, keep=keep, chaos=chaos
    )
    with tempfile.TemporaryDirectory(prefix="batuta-demo-") as folder:
        code = asyncio.run(until_stopped(DemoRun(options, Path(folder)).run()))
    raise typer.Exit(code)


def examples_folder() -> Path:
    """Return the folder of the examples: that of a checkout, or of the installed package."""
    package = Path(__file__).resolve().parents[2]
    checkout = package.parents[1] / "examples"
    return checkout if (checkout / "demo").is_dir() else package / "_bundled" / "examples"
