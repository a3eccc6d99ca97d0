"""The description of the run that a profile belongs to."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final

_CHECKED: Final = {"extra": "forbid"}
"""How pydantic checks what is read (`parse_run_info`). Runs import these classes, and do without
it: it takes a tenth of a second."""


class RunState(StrEnum):
    """The state of a run."""

    RUNNING = "running"
    """Also that of a run that was killed, which writes nothing more."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class GridInfo:
    """The grid of a dataset that was computed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CHECKED

    dataset: str
    rows: int
    cols: int
    tile_rows_px: int
    """Of its largest tile, without overlaps."""
    tile_cols_px: int


@dataclass(frozen=True, kw_only=True)
class TileMishap:
    """A tile that was retried, or that failed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CHECKED

    dataset: str
    row: int
    col: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run: where and how it ran, when it started and ended, and what became of its tiles."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CHECKED

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

    def as_json(self) -> str:
        """Return the text of ``run.json``."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


def parse_run_info(text: str | bytes) -> RunInfo:
    """Return the description that the text of a ``run.json`` gives.

    Raises
    ------
    ValueError
        If it is none.
    """
    from pydantic import TypeAdapter  # noqa: PLC0415 - only readers need it, see above

    return TypeAdapter(RunInfo).validate_json(text)
