"""The commands by name, with what ``--help`` lists of them: without an import of any."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class LazyCommand:
    """A command, or a group of them, that is not imported yet.

    Attributes
    ----------
    module : str
        In `batuta.cli.commands`; its function `register` adds the command to an app.
    help : str
        As the command's own help begins.
    panel : str or None
        The panel of ``--help`` that lists it.
    """

    module: str
    help: str
    panel: str | None = None


SERVICES: Final = "Services"
PRODUCTS: Final = "Products"
WATCHING: Final = "Watching"

COMMANDS: "Final[Mapping[str, LazyCommand]]" = {
    "new": LazyCommand(
        "new",
        "Make a project with a pipeline of two products, one of them tiled, that runs at once.",
    ),
    "run": LazyCommand("run", "Make a product here and now, without services."),
    "map": LazyCommand(
        "mapping", "Apply a function to rasters, tile by tile, and save the results."
    ),
    "up": LazyCommand("up", "Run a whole orchestra on this machine until Ctrl-C."),
    "backup": LazyCommand(
        "orchestra_backups",
        "Copy all products and the records of the conductor elsewhere, while they run or not.",
    ),
    "restore": LazyCommand(
        "orchestra_backups",
        "Make the databases and the store of an orchestra from a backup: it must have none.",
    ),
    "demo": LazyCommand(
        "demo", "Process real observations, from their arrival to the archived products."
    ),
    "graph": LazyCommand("graphs", "Check and show product graphs."),
    "profile": LazyCommand("profiles", "Show where time and memory went."),
    "import": LazyCommand(
        "importing",
        "Import a file into the sdb, as a new version of a product; or many files.",
        PRODUCTS,
    ),
    "export": LazyCommand(
        "products", "Export a product's file from the sdb, verified by its digest.", PRODUCTS
    ),
    "ls": LazyCommand("products", "List the product versions in the sdb.", PRODUCTS),
    "make": LazyCommand(
        "processings", "Request a product now, whether or not it was made before.", PRODUCTS
    ),
    "retry": LazyCommand(
        "processings", "Retry what failed, was cancelled or waits to be retried", PRODUCTS
    ),
    "cancel": LazyCommand("processings", "Stop processings that have not ended.", PRODUCTS),
    "reprioritize": LazyCommand(
        "processings",
        "Change the class or the priority of what is to be made; what runs stays as it is.",
        PRODUCTS,
    ),
    "hold": LazyCommand(
        "holding",
        "Request nothing more of a provider, a product or other work until it is released",
        PRODUCTS,
    ),
    "release": LazyCommand(
        "holding",
        "End a hold, at once or at a rate: what no other hold keeps back is requested.",
        PRODUCTS,
    ),
    "approve": LazyCommand(
        "approving",
        "Approve what waits, or adopt a late result: what was waited for begins.",
        PRODUCTS,
    ),
    "refuse": LazyCommand(
        "approving",
        "Refuse what waits, with a reason: it is not made, or nothing is made from it.",
        PRODUCTS,
    ),
    "campaign": LazyCommand(
        "campaigns",
        "Make products of many observations again, or those that lack: planned, then started.",
        PRODUCTS,
    ),
    "log": LazyCommand("processings", "Print the log of a processing.", PRODUCTS),
    "rm": LazyCommand("withdrawing", "Withdraw a version of a product.", PRODUCTS),
    "reconcile": LazyCommand(
        "reconciling", "Compare the conductor's records with the sdb.", PRODUCTS
    ),
    "forget": LazyCommand(
        "reconciling",
        "Make the conductor forget a version that was announced, but that the sdb does not hold.",
        PRODUCTS,
    ),
    "prune": LazyCommand("pruning", "Show which old records the retention rules drop", PRODUCTS),
    "status": LazyCommand(
        "watching", "Show services, observations, and processings that need attention.", WATCHING
    ),
    "watch": LazyCommand("watching", "Show the orchestra live until Ctrl-C.", WATCHING),
    "processings": LazyCommand(
        "processings",
        "List processings, the newest first; all, or those that filters select.",
        WATCHING,
    ),
    "holds": LazyCommand(
        "holding", "List what is held: since when, by whom, why, and how much it is.", WATCHING
    ),
    "why": LazyCommand("watching", "Explain why a product was, or was not, made.", WATCHING),
    "events": LazyCommand(
        "events",
        "Show what was received on data.*, and what each event has triggered, or why nothing.",
        WATCHING,
    ),
    "providers": LazyCommand(
        "providers",
        "Show providers, their addresses, and which are left alone because they keep failing.",
        WATCHING,
    ),
    "report": LazyCommand(
        "reporting",
        "Report what was made, late, failed, held and approved in a night, or another span of"
        " time.",
        WATCHING,
    ),
    "late": LazyCommand(
        "late",
        "Show the products that were due and are not available, the one due first at the top.",
        WATCHING,
    ),
    "approvals": LazyCommand(
        "approving", "List what waits for a person's approval, the oldest first.", WATCHING
    ),
    "dead": LazyCommand(
        "dead",
        "List, show and send again messages that could not be understood, or were refused.",
        WATCHING,
    ),
    "sdb": LazyCommand("services", "Serve the product database.", SERVICES),
    "dashboard": LazyCommand(
        "services", "Serve the dashboard: what the orchestra does, live, on a web page.", SERVICES
    ),
    "conductor": LazyCommand("services", "Serve the conductor.", SERVICES),
    "pipeline": LazyCommand("services", "Serve a pipeline.", SERVICES),
    "simulate": LazyCommand("services", "Simulate every provider of a graph.", SERVICES),
    "token": LazyCommand(
        "tokens", "Make, list and revoke tokens of single people and programs.", SERVICES
    ),
}
"""In the order of ``--help``."""
