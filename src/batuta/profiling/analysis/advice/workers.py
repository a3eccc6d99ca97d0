"""Advice on the number of workers."""

from dataclasses import dataclass
from typing import Final

from batuta.formatting import format_bytes, format_count, format_seconds
from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.schedule import SimulatedSchedule
from batuta.profiling.files.run_info import RunInfo

NEAR_BEST: Final = 1.10
"""The proposed number of workers needs at most this times the shortest time within reach."""
MIN_GAIN_S: Final = 1.0
"""No change is proposed to gain less than this."""
MAX_SPARED_SHARE: Final = 0.75
"""Fewer workers are proposed where at most this share of them is as fast."""
MAX_EXTRAPOLATION: Final = 4
"""On several machines, at most this times the workers of the run are proposed: with more of them,
what they share (a file system, a scheduler) no longer behaves as it was measured."""
ON_ONE_MACHINE: Final = frozenset({"sequential", "multiprocessing", "auto", "local_dask"})
_WITH_KEY: Final = frozenset({"multiprocessing", "local_dask", "pbs_dask", "slurm_dask"})


@dataclass(frozen=True, kw_only=True)
class WorkerUsage:
    """What one worker uses."""

    cores: float
    """Kept busy by a task, on average."""
    peak_bytes: int


def advise_workers(
    run: RunInfo, schedule: SimulatedSchedule, workers: int, needs: WorkerUsage
) -> Advice:
    """Propose the fewest workers that need at most 10 % more than the shortest time within reach.

    Times are simulated from the measured durations. On one machine, its cores and its memory
    limit the number of workers; on several, the longest chain of tasks and four times the workers
    of this run do.

    Parameters
    ----------
    run : RunInfo
        The run.
    plan : Plan
        Its tasks and their durations.
    workers : int
        The number of workers.
    needs : WorkerUsage
        The cores and memory of one worker.
    """
    most, why = _most_workers(run, schedule, workers, needs)
    now_s = schedule.makespan_s(workers)
    fewest = schedule.fewest_workers(NEAR_BEST * schedule.makespan_s(most), most)
    best_s = schedule.makespan_s(fewest)
    gains = fewest > workers and now_s - best_s >= MIN_GAIN_S
    spares = fewest <= MAX_SPARED_SHARE * workers
    if not (gains or spares):
        return _workers_advice(run, workers, None, _stay(schedule, workers, most, now_s) + why)
    with_both = (
        f"With these tiles and times, a perfect schedule takes {format_seconds(best_s)} on"
        f" {format_count(fewest, 'worker')} and {format_seconds(now_s)} on {workers:,}"
    )
    if gains:
        return _workers_advice(run, workers, fewest, f"{with_both}{why}.{_caution(needs)}")
    return _workers_advice(
        run, workers, fewest, f"{with_both}: the others only use memory and cores."
    )


def _most_workers(
    run: RunInfo, schedule: SimulatedSchedule, workers: int, needs: WorkerUsage
) -> tuple[int, str]:
    """Return how many workers are possible, at least those of the run, and what limits them."""
    if run.mode not in ON_ONE_MACHINE:
        most = max(workers, min(len(schedule), MAX_EXTRAPOLATION * workers))
        beyond = f"{MAX_EXTRAPOLATION * workers:,}"
        return most, f"; of more than {beyond}, a run on {workers:,} predicts nothing"
    by_cores = max(1, int(run.cores / max(1.0, needs.cores)))
    by_ram = max(1, run.ram_bytes // max(1, needs.peak_bytes))
    if by_ram < by_cores:
        limit = (
            f"; {format_bytes(run.ram_bytes)} of memory are enough for"
            f" {format_count(by_ram, 'worker')} of {format_bytes(needs.peak_bytes)}"
        )
    elif needs.cores > 1.5:
        limit = (
            f"; tasks keep {needs.cores:.1f} cores busy each, and there are"
            f" {format_count(run.cores, 'core')}"
        )
    else:
        limit = f"; there are {format_count(run.cores, 'core')}"
    return max(workers, min(by_cores, by_ram)), limit


def _stay(schedule: SimulatedSchedule, workers: int, most: int, now_s: float) -> str:
    best_s = schedule.makespan_s(most)
    if most <= workers:
        return f"A perfect schedule takes {format_seconds(now_s)}, and no more workers are possible"
    return (
        f"A perfect schedule takes {format_seconds(now_s)} on {format_count(workers, 'worker')} and"
        f" {format_seconds(best_s)} on {most:,}"
    )


def _caution(needs: WorkerUsage) -> str:
    if needs.cores >= 0.5:
        return ""
    return (
        f" But a task keeps only {needs.cores:.2f} cores busy: if what it waits for (disk,"
        " network) is shared, more workers gain less."
    )


def _workers_advice(run: RunInfo, workers: int, proposed: int | None, reason: str) -> Advice:
    reason = reason if reason.endswith(".") else f"{reason}."
    values = () if proposed is None else (proposed,)
    if run.mode in _WITH_KEY or run.mode not in ON_ONE_MACHINE:
        return Advice(
            subject="nb_workers" if run.mode in _WITH_KEY else "workers",
            current=str(workers),
            proposed=None if proposed is None else str(proposed),
            values=values,
            reason=reason,
        )
    return Advice(
        subject="mode",
        current=run.mode,
        proposed=None if proposed is None else f"multiprocessing, nb_workers {proposed}",
        values=values,
        reason=reason,
    )
