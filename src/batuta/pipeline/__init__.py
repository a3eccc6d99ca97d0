"""Turns a function, or a command, into a pipeline service.

A pipeline's module needs `Pipeline`, `Context` and `Output`; they load no web framework.
"""

from batuta.pipeline.context import Context, PipelineError
from batuta.pipeline.declaration import Output, Pipeline, ProductSpec
from batuta.pipeline.loading import load
from batuta.pipeline.settings import PipelineSettings

__all__ = [
    "Context",
    "Output",
    "Pipeline",
    "PipelineError",
    "PipelineSettings",
    "ProductSpec",
    "load",
    "run",
]


def run(settings: PipelineSettings, pipeline: Pipeline, reference: str | None = None) -> None:
    """Serve `pipeline` until SIGINT or SIGTERM.

    Parameters
    ----------
    settings : PipelineSettings
        How it is served.
    pipeline : Pipeline
        What it makes.
    reference : str, optional
        What it was loaded from, ``MODULE:NAME`` or a file: needed to load it again.

    Raises
    ------
    ConfigurationError
        If it makes nothing, cannot be loaded by another process, or cannot listen.
    BatutaError
        If a service or a database that it needs is unavailable.
    """
    # Imported only to serve: every worker process imports this package too.
    from batuta.pipeline.service import run as serve  # noqa: PLC0415  see above

    serve(settings, pipeline, reference)
