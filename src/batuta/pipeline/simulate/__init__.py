"""The simulated pipeline of seed 003: every provider of a graph, played by one service."""

from batuta.pipeline.simulate.settings import SimulateSettings

__all__ = ["SimulateSettings", "run_simulate"]


def run_simulate(settings: SimulateSettings) -> None:
    """Serve every provider of a graph until SIGINT or SIGTERM.

    Raises
    ------
    ConfigurationError
        If the graph has mistakes, or it cannot listen.
    BatutaError
        If something that it needs is not there.
    """
    # Imported where it serves: settings alone load no web framework.
    from batuta.pipeline.simulate.service import run_simulate as serve  # noqa: PLC0415  see above

    serve(settings)
