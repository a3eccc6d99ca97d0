"""The clients that commands call, imported once one is called: ``--help`` needs none of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient
    from batuta.sdb.client import SdbClient


def conductor_at(url: str, operator: str | None = None) -> "ConductorClient":
    """Return a client of the conductor at `url`, to be used in a ``with`` block.

    `operator` is who gives its commands, where that is not the user of this machine.
    """
    from batuta.cli.conductor_client import ConductorClient  # noqa: PLC0415  see above

    return ConductorClient(url, operator=operator)


def sdb_at(url: str, retry_for_s: float) -> "SdbClient":
    """Return a client of the sdb at `url`, to be used in a ``with`` block."""
    from batuta.sdb.client import SdbClient  # noqa: PLC0415  see above

    return SdbClient(url, retry_for_s=retry_for_s)
