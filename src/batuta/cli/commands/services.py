"""Commands that serve: sdb, conductor, pipeline, simulate."""

import inspect
from typing import Annotated, Final

import typer

from batuta.cli.commands.backups import add_backups
from batuta.cli.commands.checking import add_check
from batuta.cli.options import settings_command
from batuta.conductor.settings import ConductorSettings
from batuta.dashboard.settings import DashboardSettings
from batuta.pipeline.settings import PipelineSettings
from batuta.pipeline.simulate.settings import SimulateSettings
from batuta.sdb.settings import SdbSettings

PANEL: Final = "Services"

_PIPELINE = inspect.Parameter(
    "pipeline",
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    annotation=Annotated[
        str, typer.Argument(metavar="MODULE:NAME", help="The pipeline, or its YAML or JSON file.")
    ],
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    add = app.command
    sdb = typer.Typer()
    sdb.callback(invoke_without_command=True)(settings_command(SdbSettings, _sdb))
    add_check(sdb)
    add_backups(sdb)
    app.add_typer(sdb, name="sdb", rich_help_panel=PANEL)
    add("conductor", rich_help_panel=PANEL)(settings_command(ConductorSettings, _conductor))
    add("pipeline", rich_help_panel=PANEL)(settings_command(PipelineSettings, _pipeline, _PIPELINE))
    add("dashboard", rich_help_panel=PANEL)(settings_command(DashboardSettings, _dashboard))
    add("simulate", rich_help_panel=PANEL)(settings_command(SimulateSettings, _simulate))


# Imported in each command: the modules of a service load a web framework and a database.


def _sdb(settings: SdbSettings) -> None:
    """Serve the product database: import, export, announce; or check what it keeps."""
    from batuta.sdb import run  # noqa: PLC0415  see above

    _log()
    run(settings)


def _conductor(settings: ConductorSettings) -> None:
    """Serve the conductor: on new data, request the products that can now be made."""
    from batuta.conductor import run  # noqa: PLC0415  see above

    _log()
    run(settings)


def _pipeline(pipeline: str, settings: PipelineSettings) -> None:
    """Serve a pipeline: make its products on request."""
    from batuta.pipeline import load, run  # noqa: PLC0415  see above

    _log()
    run(settings, load(pipeline), pipeline)


def _dashboard(settings: DashboardSettings) -> None:
    """Serve the dashboard: what the orchestra does, live, on a web page."""
    from batuta.dashboard.service import run  # noqa: PLC0415  see above

    _log()
    run(settings)


def _simulate(settings: SimulateSettings) -> None:
    """Simulate every provider of a graph: wait, then archive a product, or fail."""
    from batuta.pipeline.simulate import run_simulate  # noqa: PLC0415  see above

    _log()
    run_simulate(settings)


def _log() -> None:
    """Configure logging as in every service: one line per message, with the time."""
    from batuta.service.runner import set_up_logging  # noqa: PLC0415  see above

    set_up_logging()
