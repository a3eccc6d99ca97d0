"""How many workers the measured tasks call for."""

from dataclasses import dataclass
from typing import Final

from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.formatting import bytes_text, counted, seconds_text
from batuta.profiling.analysis.schedule import Plan
from batuta.profiling.files.run_info import RunInfo

ENOUGH: Final = 1.10
"""As many workers as bring the time within so many times the best that can be reached."""
WORTH_S: Final = 1.0
"""Less to gain is no reason for a change, s."""
SPARED: Final = 0.75
"""Fewer workers are proposed where at most this share of them does as well."""
REACH: Final = 4
"""On several machines, times are trusted for so many times the workers that they were taken on:
further, what workers share (a file system, a scheduler) is another."""
ON_ONE_MACHINE: Final = frozenset({"sequential", "multiprocessing", "auto", "local_dask"})
_WITH_KEY: Final = frozenset({"multiprocessing", "local_dask", "pbs_dask", "slurm_dask"})


@dataclass(frozen=True, kw_only=True)
class WorkerNeeds:
    """What one worker takes."""

    cores: float
    """That a task keeps busy."""
    peak_bytes: int


def advise_workers(run: RunInfo, plan: Plan, workers: int, needs: WorkerNeeds) -> Advice:
    """Propose the fewest workers that are within 10 % of the best that can be reached.

    Times are simulated with the durations measured. On one machine, what can be reached is
    limited by its cores and its memory; elsewhere by the longest chain of tasks, and by four
    times the workers of this run.

    Parameters
    ----------
    run : RunInfo
        The run.
    plan : Plan
        Its tasks and their durations.
    workers : int
        How many there were.
    needs : WorkerNeeds
        Of one worker.
    """
    most, why = _most_workers(run, plan, workers, needs)
    now_s = plan.makespan_s(workers)
    fewest = plan.fewest_workers(ENOUGH * plan.makespan_s(most), most)
    best_s = plan.makespan_s(fewest)
    gains = fewest > workers and now_s - best_s >= WORTH_S
    spares = fewest <= SPARED * workers
    if not (gains or spares):
        return _told(run, workers, None, _stay(plan, workers, most, now_s) + why)
    with_both = (
        f"With these tiles and times, a perfect schedule takes {seconds_text(best_s)} on"
        f" {counted(fewest, 'worker')} and {seconds_text(now_s)} on {workers:,}"
    )
    if gains:
        return _told(run, workers, fewest, f"{with_both}{why}.{_caution(needs)}")
    return _told(run, workers, fewest, f"{with_both}: the others only take memory and cores.")


def _most_workers(run: RunInfo, plan: Plan, workers: int, needs: WorkerNeeds) -> tuple[int, str]:
    """How many workers can be had, and what limits them; what was run can be had."""
    if run.mode not in ON_ONE_MACHINE:
        most = max(workers, min(len(plan), REACH * workers))
        return most, f"; of more than {REACH * workers:,}, a run on {workers:,} tells nothing"
    by_cores = max(1, int(run.cores / max(1.0, needs.cores)))
    by_ram = max(1, run.ram_bytes // max(1, needs.peak_bytes))
    if by_ram < by_cores:
        limit = (
            f"; {bytes_text(run.ram_bytes)} of memory hold {counted(by_ram, 'worker')} of"
            f" {bytes_text(needs.peak_bytes)}"
        )
    elif needs.cores > 1.5:
        limit = (
            f"; tasks keep {needs.cores:.1f} cores busy each, and there are"
            f" {counted(run.cores, 'core')}"
        )
    else:
        limit = f"; there are {counted(run.cores, 'core')}"
    return max(workers, min(by_cores, by_ram)), limit


def _stay(plan: Plan, workers: int, most: int, now_s: float) -> str:
    best_s = plan.makespan_s(most)
    if most <= workers:
        return f"A perfect schedule takes {seconds_text(now_s)}, and no more workers can be had"
    return (
        f"A perfect schedule takes {seconds_text(now_s)} on {counted(workers, 'worker')} and"
        f" {seconds_text(best_s)} on {most:,}"
    )


def _caution(needs: WorkerNeeds) -> str:
    if needs.cores >= 0.5:
        return ""
    return (
        f" But a task keeps only {needs.cores:.2f} cores busy: if what it waits for (disk,"
        " network) is shared, more workers gain less."
    )


def _told(run: RunInfo, workers: int, proposed: int | None, reason: str) -> Advice:
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
