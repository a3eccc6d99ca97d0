"""The simulated pipeline: one service that acts as every provider of a graph."""

from batuta.pipeline.simulate.settings import SimulateSettings

__all__ = ["SimulateSettings", "run_simulate"]


def run_simulate(settings: SimulateSettings) -> None:
    """Serve every provider of a graph until SIGINT or SIGTERM.

    Raises
    ------
    ConfigurationError
        If the graph has mistakes, or it cannot listen.
    BatutaError
        If a service or a database that it needs is unavailable.
    """
    # Imported only to serve: the settings alone load no web framework.
    from batuta.pipeline.simulate.service import run_simulate as serve  # noqa: PLC0415  see above

    serve(settings)
