"""`batuta reconcile` and `forget`: what the conductor believes against what the sdb holds."""

from typing import Annotated, Any

import typer

from batuta.cli.commands.products import PANEL, ObsId, Product
from batuta.cli.option_groups import grouped
from batuta.cli.output import echo, print_json, print_table
from batuta.cli.requests.filter_options import Command
from batuta.formatting import format_count


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("reconcile", rich_help_panel=PANEL)(grouped(reconcile))
    app.command("forget", rich_help_panel=PANEL)(grouped(forget))


def reconcile(
    given: Command,
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Mend what differs, rather than only show it.")
    ] = False,
) -> None:
    """Compare the conductor's records with the sdb; with --apply, make what was lost again."""
    with given.conductor() as conductor:
        result = conductor.reconciliation(mend=apply)
    if given.as_json:
        print_json(result)
        return
    total = sum(result["counts"].values())
    if not total:
        echo("the conductor and the sdb agree")
        return
    print_table(
        format_count(total, "difference"),
        ["difference", "observation", "product", "recorded", "archived"],
        [
            (
                each["kind"],
                each["obs_id"],
                each["product"],
                _version(each["recorded"]),
                _version(each["archived"]),
            )
            for each in result["items"]
        ],
    )
    if len(result["items"]) < total:
        echo(f"(the first {len(result['items'])} of {total})")
    counts = ", ".join(f"{count} {kind}" for kind, count in result["counts"].items())
    echo(f"{counts}: " + ("mended" if apply else "mend them with batuta reconcile --apply"))


def forget(product: Product, obs_id: ObsId, given: Command) -> None:
    """Make the conductor forget a version that was announced, but that the sdb does not hold."""
    with given.conductor() as conductor:
        forgotten = conductor.forget(product, obs_id)
    if given.as_json:
        print_json(forgotten)
    else:
        now = forgotten["archived"]
        echo(
            f"{product} of {obs_id}: {_version(forgotten['recorded']) or 'its announcement'} "
            f"forgotten; " + ("not available any more" if now is None else f"version {now} counts")
        )


def _version(version: Any) -> str:
    return f"v{version}" if version else ""
