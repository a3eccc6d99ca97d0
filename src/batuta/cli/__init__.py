"""The `batuta` command."""

import os
import sys


def main() -> None:
    """Run the command; the entry point of the installed program."""
    if "_BATUTA_COMPLETE" in os.environ:
        from batuta.cli.completion import complete_first_word  # noqa: PLC0415  seldom asked for

        names = complete_first_word(os.environ)
        if names is not None:
            sys.stdout.write("".join(f"{name}\n" for name in names))
            return
    from batuta.cli.app import run  # noqa: PLC0415  this package is imported for its parts too

    sys.exit(run())
