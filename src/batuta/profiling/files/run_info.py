"""The description of the run that a profile belongs to."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class RunState(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    """Also that of a run that was killed, which writes nothing more."""
    DONE = "done"
    FAILED = "failed"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridInfo(_Model):
    """The grid of a dataset that was computed."""

    dataset: str
    rows: int
    cols: int
    tile_rows_px: int
    """Of its largest tile, without overlaps."""
    tile_cols_px: int


class TileMishap(_Model):
    """A tile that was retried, or that failed."""

    dataset: str
    row: int
    col: int
    cause: str


class RunInfo(_Model):
    """A run: where and how it ran, when it started and ended, and what became of its tiles.

    ``model_dump_json`` writes ``run.json``; ``model_validate_json`` reads it, and raises
    `ValueError` for anything else.
    """

    state: RunState
    version: str
    """Of Batuta."""
    mode: str
    config: dict[str, Any]
    """The checked configuration of the orchestrator, every key."""
    host: str
    cores: int
    """That the main process may use."""
    ram_bytes: int
    """That the main process may use."""
    started_s: float
    """Unix time."""
    ended_s: float | None = None
    error: str | None = None
    nb_workers: int | None = None
    """Asked for; None where it is decided elsewhere."""
    worker_limit_bytes: int | None = None
    """`max_ram_per_worker`, as tasks are measured; None where there is no limit."""
    grids: tuple[GridInfo, ...] = ()
    tiles_total: int = 0
    tiles_done: int = 0
    tiles_kept: int = 0
    """Of these, those kept from an earlier run (`resume`)."""
    retried: tuple[TileMishap, ...] = ()
    failed: tuple[TileMishap, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader of the profile must know: what could not be measured."""
