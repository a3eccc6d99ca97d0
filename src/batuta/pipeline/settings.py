"""What a pipeline service is told when it starts."""

import os
from pathlib import Path
from typing import Final

from pydantic import Field

from batuta.service.settings import ServiceSettings

ROOT_PATH_PATTERN: Final = r"^(/[A-Za-z0-9._~-]+)*$"
WEEK_S: Final = 7 * 86_400.0


class ProcessingsSettings(ServiceSettings):
    """Settings of a service that carries processings out.

    Parameters
    ----------
    port : int
        5000 by default.
    sdb_url : str
        The product database.
    root_path : str
        What its paths start with: ``/pipeline``, so that it answers ``/pipeline/processing``.
    data_dir : Path or None
        Where all that it keeps is; ``batuta-data/<name>`` by default. One service at a time.
    database_url : str or None
        Where it keeps its processings; ``pipeline.db`` in `data_dir` by default.
    max_concurrent : int
        Processings that run at a time; the number of CPUs by default.
    max_queued : int
        Processings that wait; further ones are refused (429).
    """

    port: int = Field(5000, ge=0, le=65_535)
    sdb_url: str = "http://127.0.0.1:8001"
    root_path: str = Field("/pipeline", pattern=ROOT_PATH_PATTERN)
    data_dir: Path | None = None
    database_url: str | None = None
    max_concurrent: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    max_queued: int = Field(1000, ge=1)

    def folder(self, name: str) -> Path:
        """Where the service `name` keeps what it keeps."""
        return (self.data_dir or Path("batuta-data") / name).absolute()

    def database(self, name: str) -> str:
        """Address of the database of the service `name`."""
        return self.database_url or f"sqlite:///{self.folder(name) / 'pipeline.db'}"


class PipelineSettings(ProcessingsSettings):
    """Settings of a pipeline; its logs, work folders and database are in `data_dir`.

    Parameters
    ----------
    keep_s : float
        How long the log of an ended processing is kept, in seconds; a week by default.
    """

    keep_s: float = Field(WEEK_S, ge=0)
