"""The commands by name: a command's module is imported when the command is called.

`batuta --help` and shell completion need the names alone, and are asked for often: the modules
behind the commands load web clients, databases and arrays.
"""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from batuta.cli.command_list import COMMANDS
from batuta.errors import ConfigurationError


class LazyGroup(TyperGroup):
    """The group of `COMMANDS`; each is imported once it is resolved from a command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Enough to be listed and completed.
        self.commands = {
            name: TyperCommand(name, help=each.help, rich_help_panel=each.panel)
            for name, each in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return the name of the command that `args` begins with, the command, and the rest."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else load_command(name), rest


def load_command(name: str) -> Any:
    """Import a command, and return it.

    Raises
    ------
    ConfigurationError
        If it needs what is not installed.
    """
    try:
        module = importlib.import_module(f"batuta.cli.commands.{COMMANDS[name].module}")
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "batuta":
            raise
        raise ConfigurationError(
            f"{name}: needs {exc.name}: pip install 'batuta[services]'"
        ) from exc
    app = typer.Typer()
    module.register(app)
    group = typer.main.get_group(app)
    return group.commands[name]
