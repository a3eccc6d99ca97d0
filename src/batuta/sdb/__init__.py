"""The product database: products imported, versioned, announced and exported.

`SdbClient` and `StoredProduct` are what its callers need; they load no web framework and no
database.
"""

from typing import TYPE_CHECKING

from batuta.lazy_exports import lazy_exports
from batuta.sdb.records import InputRef, Lineage, LineageNode, QuicklookState, StoredProduct
from batuta.sdb.settings import SdbSettings

if TYPE_CHECKING:
    from batuta.sdb.bulk_sender import NewFile
    from batuta.sdb.client import SdbClient
    from batuta.sdb.import_sender import Imported

__all__ = [
    "Imported",
    "InputRef",
    "Lineage",
    "LineageNode",
    "NewFile",
    "QuicklookState",
    "SdbClient",
    "SdbSettings",
    "StoredProduct",
    "run",
]

# They load a client of HTTP, which settings do without.
__getattr__ = lazy_exports(
    __name__,
    {
        "Imported": "batuta.sdb.import_sender",
        "NewFile": "batuta.sdb.bulk_sender",
        "SdbClient": "batuta.sdb.client",
    },
)


def run(settings: SdbSettings) -> None:
    """Serve the product database until SIGINT or SIGTERM.

    Raises
    ------
    ConfigurationError
        If a setting is refused: the port is in use, or the database or store URL is not accepted.
    BatutaError
        If NATS, the database or the store cannot be reached.
    """
    # Imported where they serve: clients of the sdb import this package too.
    from batuta.sdb.service import open_sdb  # noqa: PLC0415  see above
    from batuta.service.runner import run_service  # noqa: PLC0415  see above

    run_service("sdb", settings, open_sdb)
