"""The conductor: hears that data have come, and has made what can be made (seed 003).

`rules` decides, `ledger` records, `dispatcher` acts, `api` shows; `service` puts them together.
"""

from batuta.conductor.settings import ConductorSettings

__all__ = ["ConductorSettings", "run"]


def run(settings: ConductorSettings) -> None:
    """Serve until told to stop.

    Raises
    ------
    ConfigurationError, GraphError
        If the settings or the graph are wrong: every mistake at once.
    BatutaError
        If NATS, the sdb or the database is not there.
    """
    # Only the process that serves loads a web framework and a database.
    from batuta.conductor.service import open_conductor  # noqa: PLC0415  see above
    from batuta.graph import read_graph  # noqa: PLC0415  see above
    from batuta.service.runner import run_service  # noqa: PLC0415  see above

    read_graph(settings.graph)
    run_service("conductor", settings, open_conductor)
