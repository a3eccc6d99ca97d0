"""What is known of the run that a profile is of."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class RunState(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    """Or killed: then nothing more is written."""
    DONE = "done"
    FAILED = "failed"


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridInfo(_Described):
    """The grid of a dataset that was computed."""

    dataset: str
    rows: int
    cols: int
    tile_rows_px: int
    """Of its largest tile, without overlaps."""
    tile_cols_px: int


class TileMishap(_Described):
    """A tile that was retried, or is missing."""

    dataset: str
    row: int
    col: int
    cause: str


class RunInfo(_Described):
    """The run: where, how, from when to when, and what became of its tiles.

    ``model_dump_json`` gives it as a document; ``model_validate_json`` reads one, and raises
    `ValueError` if it is not one of ours.
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
    """Asked for; None where others decide."""
    worker_limit_bytes: int | None = None
    """`max_ram_per_worker`, as tasks are measured; None where there is no limit."""
    grids: tuple[GridInfo, ...] = ()
    tiles_total: int = 0
    tiles_done: int = 0
    tiles_kept: int = 0
    """Of those, kept from an earlier run (`resume`)."""
    retried: tuple[TileMishap, ...] = ()
    failed: tuple[TileMishap, ...] = ()
    notes: tuple[str, ...] = ()
    """What whoever reads the profile must know: what could not be measured."""
