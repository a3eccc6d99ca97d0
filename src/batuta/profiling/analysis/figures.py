"""All that a profile tells, computed once: what the text, the page and JSON show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from batuta.profiling.analysis.advice import (
    Advice,
    TileCosts,
    WorkerNeeds,
    advise_memory,
    advise_tile_size,
    advise_workers,
)
from batuta.profiling.analysis.attempts import NameFigures, attempts_of, by_name
from batuta.profiling.analysis.formatting import counted
from batuta.profiling.analysis.idle_time import LostTime, lost_time
from batuta.profiling.analysis.lanes import LaneFigures, by_lane, gaps_of, with_lanes
from batuta.profiling.analysis.loops import LoopGrowth, loop_growth
from batuta.profiling.analysis.schedule import Plan, ScheduleFigures, durations_of, steps_of
from batuta.profiling.analysis.tiles import TileGrid, by_tile
from batuta.profiling.files.reader import Profile
from batuta.profiling.files.run_info import RunInfo, RunState
from batuta.profiling.files.task_graph import graph_of

_MAX_OF_A_RUN: Final = 0.9
"""Of its tiles: figures of less call for nothing."""
_CLOSE: Final = 1.05
_CLOCKS_S: Final = 1.0
"""How far clocks of two machines may differ."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a profile tells. Times are in s, moments in Unix time, memory in bytes."""

    folder: Path
    """The output folder of the run."""
    run: RunInfo
    begin_s: float
    end_s: float
    """Of the last task, where the run has not ended."""
    workers: int
    """Asked for, or where others decided, those that were seen."""
    attempts: pd.DataFrame
    """As `attempts_of` gives them, with their lanes."""
    gaps: pd.DataFrame
    names: tuple[NameFigures, ...]
    lanes: tuple[LaneFigures, ...]
    lost: LostTime
    schedule: ScheduleFigures
    tiles: tuple[TileGrid, ...]
    loops: tuple[LoopGrowth, ...]
    advice: tuple[Advice, ...]
    memory: pd.DataFrame
    """What workers held once a second, as `Profile.memory`."""

    @property
    def span_s(self) -> float:
        """How long it took."""
        return self.end_s - self.begin_s

    @property
    def ended(self) -> bool:
        """Whether the run has ended; else it goes on, or was killed."""
        return self.run.state is not RunState.RUNNING

    @property
    def peak_bytes(self) -> int:
        """The most that a worker held."""
        return max((name.peak_bytes for name in self.names), default=0)


def figures_of(profile: Profile) -> Figures:
    """Compute the figures of a profile."""
    run = profile.run
    attempts = with_lanes(attempts_of(profile.tasks), run.nb_workers)
    gaps = gaps_of(attempts)
    lanes = by_lane(attempts, gaps)
    workers = max(run.nb_workers or 1, len(lanes))
    begin_s, end_s = _span(run, attempts)
    lost = lost_time(attempts, gaps, (begin_s, end_s), workers)
    graph = graph_of(profile.tasks)
    plan = Plan(graph, durations_of(attempts))
    names, tiles = by_name(attempts), by_tile(attempts, run)
    path = graph.numbers[np.array(plan.critical_path(), dtype=np.int64)]
    return Figures(
        folder=profile.folder,
        run=run,
        begin_s=begin_s,
        end_s=end_s,
        workers=workers,
        attempts=attempts,
        gaps=gaps,
        names=names,
        lanes=lanes,
        lost=lost,
        schedule=ScheduleFigures(
            measured_s=end_s - begin_s,
            workers=workers,
            work_s=plan.work_s,
            perfect_s=plan.makespan_s(workers),
            critical_s=plan.critical_s,
            critical_path=steps_of(attempts, path),
        ),
        tiles=tiles,
        loops=loop_growth(profile.loops, profile.leaks),
        advice=_doubts(run, attempts, plan.makespan_s(workers), end_s - begin_s)
        or _advice(run, plan, lost, tiles, workers, names),
        memory=profile.memory,
    )


def _doubts(
    run: RunInfo, attempts: pd.DataFrame, perfect_s: float, measured_s: float
) -> tuple[Advice, ...]:
    """Say why figures call for nothing: those of a part of a run, or that contradict each other."""
    computed = run.tiles_done - run.tiles_kept
    if run.state is RunState.RUNNING:
        doubt = "The run has not ended."
    elif computed < _MAX_OF_A_RUN * run.tiles_total:
        doubt = f"{computed:,} of {counted(run.tiles_total, 'tile')} were computed in this run."
    elif len(attempts) and not _is_inside(run, attempts):
        doubt = "Tasks ran before the run began, or after it ended: the clocks of machines differ."
    elif perfect_s > _CLOSE * measured_s:
        doubt = "Workers ran several tasks at a time: what one task takes depends on the others."
    else:
        return ()
    return (Advice(subject="advice", current=None, proposed=None, reason=doubt),)


def _is_inside(run: RunInfo, attempts: pd.DataFrame) -> bool:
    ended_s = run.ended_s or run.started_s
    early_s = run.started_s - float(attempts["start_s"].min())
    late_s = float(attempts["end_s"].max()) - ended_s
    return max(early_s, late_s) <= _CLOCKS_S


def _span(run: RunInfo, attempts: pd.DataFrame) -> tuple[float, float]:
    """Begin and end of the run; no task is outside."""
    begins, ends = [run.started_s], [run.ended_s or run.started_s]
    if len(attempts):
        begins.append(float(attempts["start_s"].min()))
        ends.append(float(attempts["end_s"].max()))
    return min(begins), max(ends)


def _advice(
    run: RunInfo,
    plan: Plan,
    lost: LostTime,
    tiles: tuple[TileGrid, ...],
    workers: int,
    names: tuple[NameFigures, ...],
) -> tuple[Advice, ...]:
    if not plan.work_s or not lost.worked_s:
        return ()
    peak_bytes = max(name.peak_bytes for name in names)
    wall_s = sum(name.total_s for name in names)
    cores = sum(name.cpu_share * name.total_s for name in names) / wall_s
    costs = TileCosts(
        workers=workers,
        tasks=sum(name.attempts for name in names),
        work_s=plan.work_s,
        around_s=lost.delayed_s,
        idle_at_end=(lost.ending_s + lost.unused_s) / lost.total_s,
        peak_bytes=peak_bytes,
        limit_bytes=run.worker_limit_bytes,
    )
    given = (
        advise_workers(run, plan, workers, WorkerNeeds(cores=cores, peak_bytes=peak_bytes)),
        advise_tile_size(tiles, costs),
        advise_memory(run, peak_bytes, workers),
    )
    return tuple(one for one in given if one is not None)
