"""Groups of options: declared once, given to several commands."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from batuta.cli.option_groups import grouped


@dataclass(frozen=True, kw_only=True)
class Names:
    """A group."""

    target: Annotated[str, typer.Argument()]
    product: Annotated[str | None, typer.Option("--product", help="Which.")] = None


@dataclass(frozen=True, kw_only=True)
class MoreNames(Names):
    """A group that has another."""

    every: Annotated[bool, typer.Option("--all")] = False


def call(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()

    @app.command()
    @grouped
    def command(
        names: MoreNames, limit: Annotated[int, typer.Option(min=1)] = 7, *, dry: bool = False
    ) -> None:
        """Say what was given."""
        typer.echo(f"{names!r} {limit} {dry}")

    answer = CliRunner().invoke(app, list(arguments))
    return answer.exit_code, answer.output


def test_a_command_gets_its_groups_and_its_own_options() -> None:
    given = "MoreNames(target='x', product='B', every=True) 3 True\n"
    assert call("x", "--product=B", "--all", "--limit=3", "--dry") == (0, given)
    assert call("x") == (0, "MoreNames(target='x', product=None, every=False) 7 False\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "Missing argument"),
        (("x", "--limit=0"), "--limit"),
        (("x", "--none"), "--none"),
    ],
)
def test_what_is_wrong_is_told_as_of_any_command(arguments: tuple[str, ...], problem: str) -> None:
    code, shown = call(*arguments)
    assert code == 2
    assert problem in shown


def test_the_help_of_a_command_is_its_own_with_the_options_of_its_groups() -> None:
    _, shown = call("--help")
    assert "Say what was given." in shown
    assert "Which." in shown
