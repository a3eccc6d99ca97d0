"""The analysis of a profile, computed once for the text, the page and the JSON document."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from batuta.formatting import format_count
from batuta.profiling.analysis.advice import (
    Advice,
    TileCosts,
    WorkerUsage,
    advise_memory,
    advise_tile_size,
    advise_workers,
)
from batuta.profiling.analysis.attempts import TaskNameStats, attempts_frame, task_name_stats
from batuta.profiling.analysis.lanes import LaneStats, assign_lanes, find_gaps, lane_stats
from batuta.profiling.analysis.memory_growth import MemoryGrowth, memory_growth
from batuta.profiling.analysis.schedule import (
    ScheduleBounds,
    SimulatedSchedule,
    describe_steps,
    task_durations_s,
)
from batuta.profiling.analysis.tiles import TileGrid, tile_grids
from batuta.profiling.analysis.worker_time import WorkerTime, measure_worker_time
from batuta.profiling.files.reader import Profile
from batuta.profiling.files.run_info import RunInfo, RunState
from batuta.profiling.files.task_graph import graph_of

_MIN_COMPUTED: Final = 0.9
"""Share of the tiles that a run must have computed to be a base for advice."""
_SCHEDULE_TOLERANCE: Final = 1.05
_MAX_CLOCK_SKEW_S: Final = 1.0
"""Tolerated difference between the clocks of two machines."""


@dataclass(frozen=True, kw_only=True)
class ProfileAnalysis:
    """The analysis of a profile: durations in s, points in time as Unix time, memory in bytes."""

    folder: Path
    """The output folder of the run."""
    run: RunInfo
    begin_s: float
    end_s: float
    """End of the last task where the run has not ended."""
    workers: int
    """The number requested, or the number of lanes where it is larger or none was requested."""
    attempts: pd.DataFrame
    """As `assign_lanes` returns them."""
    gaps: pd.DataFrame
    names: tuple[TaskNameStats, ...]
    lanes: tuple[LaneStats, ...]
    worker_time: WorkerTime
    schedule: ScheduleBounds
    tiles: tuple[TileGrid, ...]
    loops: tuple[MemoryGrowth, ...]
    advice: tuple[Advice, ...]
    memory: pd.DataFrame
    """Memory of the workers once a second, as `Profile.memory`."""

    @property
    def span_s(self) -> float:
        """Duration of the run."""
        return self.end_s - self.begin_s

    @property
    def ended(self) -> bool:
        """Whether the run has ended; otherwise it is still running, or was killed."""
        return self.run.state is not RunState.RUNNING

    @property
    def peak_bytes(self) -> int:
        """Highest memory of a worker."""
        return max((name.peak_bytes for name in self.names), default=0)


def analyse_profile(profile: Profile) -> ProfileAnalysis:
    """Analyse a profile."""
    run = profile.run
    attempts = assign_lanes(attempts_frame(profile.tasks), run.nb_workers)
    gaps = find_gaps(attempts)
    lanes = lane_stats(attempts, gaps)
    workers = max(run.nb_workers or 1, len(lanes))
    begin_s, end_s = _span(run, attempts)
    worker_time = measure_worker_time(attempts, gaps, (begin_s, end_s), workers)
    graph = graph_of(profile.tasks)
    schedule = SimulatedSchedule(graph, task_durations_s(attempts))
    names, tiles = task_name_stats(attempts), tile_grids(attempts, run)
    path = graph.numbers[np.array(schedule.critical_path(), dtype=np.int64)]
    return ProfileAnalysis(
        folder=profile.folder,
        run=run,
        begin_s=begin_s,
        end_s=end_s,
        workers=workers,
        attempts=attempts,
        gaps=gaps,
        names=names,
        lanes=lanes,
        worker_time=worker_time,
        schedule=ScheduleBounds(
            measured_s=end_s - begin_s,
            workers=workers,
            work_s=schedule.work_s,
            perfect_s=schedule.makespan_s(workers),
            critical_s=schedule.critical_s,
            critical_path=describe_steps(attempts, path),
        ),
        tiles=tiles,
        loops=memory_growth(profile.loops, profile.leaks),
        advice=_reasons_against_advice(run, attempts, schedule.makespan_s(workers), end_s - begin_s)
        or _advice(run, schedule, worker_time, tiles, workers, names),
        memory=profile.memory,
    )


def _reasons_against_advice(
    run: RunInfo, attempts: pd.DataFrame, perfect_s: float, measured_s: float
) -> tuple[Advice, ...]:
    """Return why no advice is given: the run is incomplete, or its figures are inconsistent."""
    computed = run.tiles_done - run.tiles_kept
    if run.state is RunState.RUNNING:
        doubt = "The run has not ended."
    elif computed < _MIN_COMPUTED * run.tiles_total:
        doubt = (
            f"{computed:,} of {format_count(run.tiles_total, 'tile')} were computed in this run."
        )
    elif len(attempts) and not _is_inside(run, attempts):
        doubt = "Tasks ran before the run began, or after it ended: the clocks of machines differ."
    elif perfect_s > _SCHEDULE_TOLERANCE * measured_s:
        doubt = "Workers ran several tasks at a time: what one task takes depends on the others."
    else:
        return ()
    return (Advice(subject="advice", current=None, proposed=None, reason=doubt),)


def _is_inside(run: RunInfo, attempts: pd.DataFrame) -> bool:
    ended_s = run.ended_s or run.started_s
    early_s = run.started_s - float(attempts["start_s"].min())
    late_s = float(attempts["end_s"].max()) - ended_s
    return max(early_s, late_s) <= _MAX_CLOCK_SKEW_S


def _span(run: RunInfo, attempts: pd.DataFrame) -> tuple[float, float]:
    """Return start and end of the run, widened to include all tasks."""
    begins, ends = [run.started_s], [run.ended_s or run.started_s]
    if len(attempts):
        begins.append(float(attempts["start_s"].min()))
        ends.append(float(attempts["end_s"].max()))
    return min(begins), max(ends)


def _advice(
    run: RunInfo,
    schedule: SimulatedSchedule,
    worker_time: WorkerTime,
    tiles: tuple[TileGrid, ...],
    workers: int,
    names: tuple[TaskNameStats, ...],
) -> tuple[Advice, ...]:
    if not schedule.work_s or not worker_time.worked_s:
        return ()
    peak_bytes = max(name.peak_bytes for name in names)
    wall_s = sum(name.total_s for name in names)
    cores = sum(name.cpu_share * name.total_s for name in names) / wall_s
    costs = TileCosts(
        workers=workers,
        tasks=sum(name.attempts for name in names),
        work_s=schedule.work_s,
        overhead_s=worker_time.delayed_s,
        idle_at_end=(worker_time.ending_s + worker_time.unused_s) / worker_time.total_s,
        peak_bytes=peak_bytes,
        limit_bytes=run.worker_limit_bytes,
    )
    advice = (
        advise_workers(run, schedule, workers, WorkerUsage(cores=cores, peak_bytes=peak_bytes)),
        advise_tile_size(tiles, costs),
        advise_memory(run, peak_bytes, workers),
    )
    return tuple(one for one in advice if one is not None)
