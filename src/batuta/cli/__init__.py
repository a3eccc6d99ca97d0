"""The `batuta` command."""

import sys


def main() -> None:
    """Run the command; the entry point of the installed program."""
    try:
        import typer  # noqa: F401, PLC0415  the orchestrator alone is installed without it
    except ModuleNotFoundError:
        sys.exit("batuta: the command needs the services: pip install 'batuta[services]'")
    from batuta.cli.app import run  # noqa: PLC0415  only once it can be imported

    sys.exit(run())
