"""The `batuta` command."""

import sys


def main() -> None:
    """Run the command; the entry point of the installed program."""
    from batuta.cli.app import run  # noqa: PLC0415  this package is imported for its parts too

    sys.exit(run())
