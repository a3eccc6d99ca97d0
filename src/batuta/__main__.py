"""``python -m batuta`` is the `batuta` command."""

from batuta.cli import main

main()
