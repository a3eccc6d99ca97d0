"""The conductor: receives what becomes available, and has made what can be made of it.

`rules` and `transitions` decide, `ledger` records, `dispatcher` sends requests and polls, `api`
serves; `service` puts them together.
"""

from batuta.conductor.settings import ConductorSettings

__all__ = ["ConductorSettings", "run"]


def run(settings: ConductorSettings) -> None:
    """Serve until stopped.

    Raises
    ------
    ConfigurationError, GraphError
        If the settings or the graph are wrong; names every mistake.
    BatutaError
        If NATS, the sdb or the database cannot be reached.
    """
    # Only the process that serves loads a web framework and a database.
    from batuta.conductor.service import open_conductor  # noqa: PLC0415  see above
    from batuta.graph import read_graph  # noqa: PLC0415  see above
    from batuta.service.runner import run_service  # noqa: PLC0415  see above

    read_graph(settings.graph)
    run_service("conductor", settings, open_conductor)
