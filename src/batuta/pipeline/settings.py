"""Settings of pipeline services."""

import os
from pathlib import Path
from typing import Final

from pydantic import Field

from batuta.service.retention import RetentionRules
from batuta.service.settings import ServiceSettings

ROOT_PATH_PATTERN: Final = r"^(/[A-Za-z0-9._~-]+)*$"
WEEK_S: Final = 7 * 86_400.0


class ProcessingSettings(ServiceSettings):
    """Settings of a service that executes processings; see the fields' descriptions."""

    port: int = Field(5000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    sdb_url: str = Field("http://127.0.0.1:8001", description="Where the product database is.")
    root_path: str = Field(
        "/pipeline",
        pattern=ROOT_PATH_PATTERN,
        description="What its paths start with: /pipeline, so that it answers "
        "/pipeline/processing.",
    )
    data_dir: Path | None = Field(
        None,
        description="Folder of all its data, for one service at a time; batuta-data/PROVIDER "
        "by default.",
    )
    database_url: str | None = Field(
        None, description="Database of its processings; pipeline.db in data_dir by default."
    )
    max_concurrent: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        description="Processings that run at a time; by default as many as there are CPUs.",
    )
    max_queued: int = Field(
        1000, ge=1, description="Processings that wait; further ones are refused (429)."
    )
    retention: RetentionRules = Field(
        default_factory=RetentionRules,
        description="How long the record of an ended processing stays, and where it goes, as "
        "KEY=VALUE; may be repeated: finished_days, failed_days, archive.",
    )

    def folder(self, name: str) -> Path:
        """Return the data folder of the service `name`."""
        return (self.data_dir or Path("batuta-data") / name).absolute()

    def database(self, name: str) -> str:
        """Return the database URL of the service `name`."""
        return self.database_url or f"sqlite:///{self.folder(name) / 'pipeline.db'}"


class PipelineSettings(ProcessingSettings):
    """Settings of a pipeline; see the fields' descriptions."""

    keep_s: float = Field(
        WEEK_S,
        ge=0,
        description="How long log and profile of an ended processing are retained, in seconds.",
    )
    reload: bool = Field(
        False,
        description="Load the pipeline's code again when one of its files is edited.",
    )
    log_max_mb: float = Field(
        64.0,
        gt=0,
        description="Size of the log of a processing, at most; its middle is cut out beyond that.",
    )
