"""`batuta token`: makes, lists and revokes named tokens, in their file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from batuta.cli.output import AsJson, echo, print_json, print_table
from batuta.cli.requests.times import read_end
from batuta.service.scopes import Scope

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        envvar="BATUTA_TOKENS",
        metavar="FILE",
        help="The file that the services read (default: batuta-data/tokens.yaml).",
    ),
]

token = typer.Typer(
    help="Make, list and revoke tokens of single people and programs.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the group to `app`."""
    app.add_typer(token, name="token", rich_help_panel="Services")


@token.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose token it is.")],
    scope: Annotated[
        list[Scope],
        typer.Option(
            help="What it may do; may be repeated. operate includes read, administer all."
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option(help="When it ends: 90d from now, or 2027-01-01, UTC; by default never."),
    ] = None,
    path: TokenFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, once: the file keeps only its digest."""
    from batuta.service.token_file import add_token  # noqa: PLC0415  for --help to be fast

    file = _file(path)
    made = add_token(file, name, scope, read_end("--expires", expires))
    if as_json:
        print_json({"name": name, "token": made})
        return
    echo(made)
    typer.echo(f"in {file}; it is not shown again: give it in BATUTA_TOKEN", err=True)


@token.command("list")
def list_all(path: TokenFile = None, *, as_json: AsJson = False) -> None:
    """List the tokens: whose they are, what they may do, when they end."""
    from batuta.service.token_file import read_tokens  # noqa: PLC0415  for --help to be fast

    file, now = _file(path), datetime.now(UTC)
    rows = [
        {
            "name": name,
            "scopes": list(each.scopes),
            "created": _shown(each.created),
            "expires": _shown(each.expires),
            "state": "expired" if each.expires is not None and each.expires <= now else "valid",
        }
        for name, each in read_tokens(file).items()
    ]
    if as_json:
        print_json(rows)
        return
    columns = ["name", "scopes", "created", "expires", "state"]
    cells = [[*each.values()] for each in rows]
    for row in cells:
        row[1] = ", ".join(row[1])  # type: ignore[arg-type]  # the scopes
    print_table(f"Tokens in {file}", columns, cells)


@token.command()
def revoke(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Whose tokens.")],
    path: TokenFile = None,
) -> None:
    """Revoke tokens: services refuse them within seconds."""
    from batuta.service.token_file import revoke_tokens  # noqa: PLC0415  for --help to be fast

    revoke_tokens(_file(path), names)
    for name in names:
        echo(f"{name}: revoked")


def _file(given: Path | None) -> Path:
    from batuta.service.settings import TOKEN_FILE  # noqa: PLC0415  for --help to be fast

    return given or TOKEN_FILE


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%FT%TZ}"
