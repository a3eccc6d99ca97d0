"""The profile of a run: from its first task to its summary."""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from batuta import __version__
from batuta.cluster import AbstractCluster
from batuta.cluster.contract import ReportsTaskMetrics
from batuta.cluster.resources import MB, available_ram_bytes, usable_cores
from batuta.cluster.task_metrics import TaskSink
from batuta.datasets.durable_file import remove
from batuta.datasets.grid import largest_tile
from batuta.errors import ConfigurationError, describe_error
from batuta.orchestrator.events import (
    Event,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileRetried,
)
from batuta.orchestrator.registry import RegisteredDataset
from batuta.profiling.capture.layout import (
    PROFILE_FOLDER,
    PROFILE_PATTERNS,
    RUN_FILE,
    SUMMARY_HTML,
    SUMMARY_TEXT,
)
from batuta.profiling.capture.records import Repeats, TaskRow
from batuta.profiling.files.basic import BasicSummary
from batuta.profiling.files.run_info import GridInfo, RunInfo, RunState, TileMishap
from batuta.profiling.files.writer import ProfileWriter
from batuta.profiling.report.basic import basic_text

if TYPE_CHECKING:
    from batuta.cluster.config import CommonConfig

LOG: Final = logging.getLogger(__name__)


def check_profiled(config: "CommonConfig", out_dir: object) -> None:
    """Refuse `profiling` without an `out_dir` to write the profile in.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    if config.profiling is not None and out_dir is None:
        raise ConfigurationError("profiling: given without out_dir, where the profile is written")


class BasicSink:
    """Sums up the metrics of tasks."""

    detailed = False

    def __init__(self) -> None:
        self.summary = BasicSummary()
        self._lock = threading.Lock()

    def record_tasks(self, rows: Sequence[TaskRow]) -> None:
        """Add attempts at tasks that ended."""
        with self._lock:
            self.summary.add(rows)

    def record_repeats(self, repeats: Repeats) -> None:
        """Do nothing: tasks are not repeated."""

    def record_file(self, folder: str, name: str, content: bytes) -> None:
        """Do nothing: there are no profilers."""


class RunProfile:
    """Records the profile of an orchestrator; also an observer of its tiles.

    Parameters
    ----------
    config : CommonConfig
        The configuration of the orchestrator.
    folder : Path or None
        Its output folder; None records nothing, as there is nowhere to write it.
    """

    def __init__(self, config: "CommonConfig", folder: Path | None) -> None:
        self._config = config
        self._folder = folder = None if folder is None else folder.absolute()
        self._started_s = time.time()
        self._error: str | None = None
        self._grids: dict[str, GridInfo] = {}
        self._total = self._done = self._kept = 0
        self._retried: list[TileMishap] = []
        self._failed: list[TileMishap] = []
        self._notes: list[str] = []
        self._basic: BasicSink | None = None
        self._writer: ProfileWriter | None = None
        if folder is None:
            return
        for name in (SUMMARY_TEXT, SUMMARY_HTML):  # of an earlier run
            with contextlib.suppress(
                OSError
            ):  # a folder that cannot be written in is reported at the end
                (folder / name).unlink(missing_ok=True)
        if config.profiling is None:
            self._basic = BasicSink()
        else:
            self._writer = ProfileWriter(
                _prepare_profile_folder(folder, resume=config.resume), self._info()
            )

    def attach(self, cluster: AbstractCluster) -> None:
        """Record the task metrics of a cluster."""
        sink: TaskSink | None = self._writer or self._basic
        if sink is None:
            return
        if isinstance(cluster, ReportsTaskMetrics):
            cluster.task_metrics.sink = sink
        else:
            self._notes.append(f"mode {self._config.mode} does not measure tasks")

    def record_tile_places(
        self, cluster: AbstractCluster, entries: Iterable[RegisteredDataset]
    ) -> None:
        """Record which task computes which tile."""
        if self._writer is None:
            return
        for entry in entries:
            self._grids[entry.name] = _grid_info(entry)
            if isinstance(cluster, ReportsTaskMetrics):
                self._writer.record_places(_places(cluster, entry))

    # Events

    def on_event(self, event: Event) -> None:
        """Count a tile."""
        if isinstance(event, TileDone):
            self._done += 1
        elif isinstance(event, RunStarted):
            self._total += event.total
        elif isinstance(event, TileKept):
            self._done += 1
            self._kept += 1
        elif isinstance(event, TileRetried):
            self._retried.append(_mishap(event))
        elif isinstance(event, TileFailed):
            self._failed.append(_mishap(event))

    def record_error(self, error: BaseException) -> None:
        """Record what ended the run; only the first error counts."""
        if self._error is None:
            self._error = describe_error(error)

    # The end

    def close(self) -> None:
        """Write the summary; an error is logged and not raised, as the product is complete."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            if self._writer is not None:
                self._writer.close(self._info(ended=True))
                self._write_reports(self._writer, folder)
            elif self._basic is not None and self._basic.summary.by_name:
                took_s = time.time() - self._started_s
                text = basic_text(self._basic.summary, self._config.mode, took_s)
                (folder / SUMMARY_TEXT).write_text(text, encoding="utf-8")
        except Exception as exc:
            message = f"could not write the summary of the profile: {describe_error(exc)}"
            LOG.error("%s", message, exc_info=exc)  # noqa: TRY400 - one line on the screen

    @staticmethod
    def _write_reports(writer: ProfileWriter, folder: Path) -> None:
        try:
            write_reports(folder)
        except Exception as exc:
            writer.note(f"could not write the summary: {describe_error(exc)}")
            raise

    def _info(self, *, ended: bool = False) -> RunInfo:
        config = self._config.as_dict()
        limit_mb = config.get("max_ram_per_worker")
        nb_workers = 1 if self._config.mode == "sequential" else config.get("nb_workers")
        state = RunState.RUNNING
        if ended:
            state = RunState.DONE if self._error is None else RunState.FAILED
        return RunInfo(
            state=state,
            version=__version__,
            mode=self._config.mode,
            config=json.loads(json.dumps(config, default=str)),
            host=socket.gethostname(),
            cores=usable_cores().amount,
            ram_bytes=available_ram_bytes().amount,
            started_s=self._started_s,
            ended_s=time.time() if ended else None,
            error=self._error,
            nb_workers=nb_workers,
            worker_limit_bytes=None if limit_mb is None else int(limit_mb * MB),
            grids=tuple(self._grids.values()),
            tiles_total=self._total,
            tiles_done=self._done,
            tiles_kept=self._kept,
            retried=tuple(self._retried),
            failed=tuple(self._failed),
            notes=tuple(dict.fromkeys(self._notes)),
        )


def _prepare_profile_folder(folder: Path, *, resume: bool) -> Path:
    """Make the folder of a profile; with `resume`, rename that of the previous run."""
    inside = folder / PROFILE_FOLDER
    if inside.is_symlink() or (inside.exists() and not _is_profile(inside)):
        raise ConfigurationError(
            f"profiling: {inside} exists and is not a profile; move it, or choose another out_dir"
        )
    if resume and inside.exists():
        number = 1
        while (previous := folder / f"{PROFILE_FOLDER}-{number}").exists():
            number += 1
        inside.rename(previous)
    inside.mkdir(exist_ok=True)
    for path in (each for pattern in PROFILE_PATTERNS for each in inside.glob(pattern)):
        remove(path)
    return inside


def _is_profile(inside: Path) -> bool:
    return inside.is_dir() and ((inside / RUN_FILE).is_file() or not any(inside.iterdir()))


def _places(
    cluster: ReportsTaskMetrics, entry: RegisteredDataset
) -> list[tuple[int, str, int, int]]:
    rows, cols = entry.dataset.shape
    found = []
    for row, col in np.ndindex(rows, cols):
        cell = entry.dataset[row, col]
        number = None if cell is None else cluster.task_of(cell)
        if number is not None:
            found.append((number, entry.name, row, col))
    return found


def _grid_info(entry: RegisteredDataset) -> GridInfo:
    rows, cols = entry.dataset.shape
    grid: Any = getattr(entry.dataset, "tiling_grid", ())
    height, width = (0, 0) if not np.size(grid) else largest_tile(np.asarray(grid))
    return GridInfo(
        dataset=entry.name, rows=rows, cols=cols, tile_rows_px=height, tile_cols_px=width
    )


def _mishap(event: TileRetried | TileFailed) -> TileMishap:
    return TileMishap(dataset=event.dataset_name, row=event.row, col=event.col, cause=event.cause)


def write_reports(folder: Path) -> None:
    """Merge the files of profilers, and write the summary as text and, if possible, as a page."""
    from batuta.profiling.analysis.analyse import analyse_profile  # noqa: PLC0415 - takes pandas and Arrow
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415
    from batuta.profiling.merge.merge import merge_profiler_files  # noqa: PLC0415
    from batuta.profiling.report.text import profile_text  # noqa: PLC0415

    modes = merge_profiler_files(folder / PROFILE_FOLDER)
    analysis = analyse_profile(read_profile(folder))
    (folder / SUMMARY_TEXT).write_text(profile_text(analysis), encoding="utf-8")
    try:
        from batuta.profiling.report.page import profile_page  # noqa: PLC0415 - takes bokeh
    except ImportError as exc:
        LOG.warning("no %s: %s", SUMMARY_HTML, exc)
        return
    (folder / SUMMARY_HTML).write_text(profile_page(analysis, modes), encoding="utf-8")
