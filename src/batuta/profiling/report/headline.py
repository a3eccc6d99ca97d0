"""The first lines of every report: how long, what took it, what was lost."""

from typing import Final

from batuta.formatting import format_count, format_percent, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.files.run_info import RunState
from batuta.profiling.report.text_layout import shorten

_NAME: Final = 60
"""Of a name that stands in a sentence."""

_MIN_SHARE: Final = 0.0005
"""Of the time of the workers: less is not told."""


def title(analysis: ProfileAnalysis) -> str:
    """How long it took, in one sentence."""
    run = analysis.run
    span = format_seconds(analysis.span_s)
    workers = format_count(analysis.workers, "worker")
    if not run.tiles_total:
        ran = format_count(int(analysis.attempts["task"].nunique()), "task")
        return f"{ran} in {span} on {workers}"
    done = format_count(run.tiles_total, "tile")
    if run.tiles_done != run.tiles_total:
        done = f"{run.tiles_done:,} of {done}"
    return f"{done} in {span} on {workers}"


def state_line(analysis: ProfileAnalysis) -> str | None:
    """What whoever reads on must know of the run; None where it was done."""
    run = analysis.run
    if run.state is RunState.RUNNING:
        return "The run had not ended when this was read: it goes on, or it was killed."
    if run.state is RunState.FAILED:
        return f"The run failed: {run.error or 'why is not known'}"
    return None


def summary_sentences(analysis: ProfileAnalysis) -> tuple[str, ...]:
    """What took the time, in a sentence or three."""
    if not analysis.names:
        return ("No task has ended.",)
    if not analysis.attempts["done"].any():
        return ("No task gave a result: every attempt failed.",)
    if not analysis.worker_time.total_s:
        return ()
    lines = [_work(analysis), _loss(analysis), _bound(analysis)]
    return tuple(line for line in lines if line)


def _work(analysis: ProfileAnalysis) -> str:
    worker_time = analysis.worker_time
    first = analysis.names[0]
    total_s = sum(name.total_s for name in analysis.names)
    worked = format_percent(worker_time.worked_s / worker_time.total_s)
    who = "The worker" if analysis.workers == 1 else f"The {analysis.workers:,} workers"
    dependencies = format_percent(first.total_s / total_s) if total_s > 0 else "most"
    most = "it all was" if len(analysis.names) == 1 else f"{dependencies} of it was"
    return f"{who} worked {worked} of the time; {most} {shorten(first.name, _NAME)}."


def lost_time(analysis: ProfileAnalysis) -> tuple[tuple[str, float], ...]:
    """What the time of the workers was lost to, each with its seconds, but for traces."""
    worker_time = analysis.worker_time
    parts = (
        ("attempts that failed", worker_time.failed_s),
        ("idle before the first task", worker_time.starting_s),
        ("idle between tasks, though one could run", worker_time.delayed_s),
        ("idle between tasks, as none could run", worker_time.starved_s),
        ("idle after the last task", worker_time.ending_s),
        ("workers that had no task", worker_time.unused_s),
    )
    return tuple(
        (label, seconds)
        for label, seconds in parts
        if seconds >= _MIN_SHARE * worker_time.total_s > 0
    )


def _loss(analysis: ProfileAnalysis) -> str:
    parts = lost_time(analysis)
    if not parts:
        return ""
    label, seconds = max(parts, key=lambda part: part[1])
    share = seconds / analysis.worker_time.total_s
    return f"Lost most to: {label} ({format_percent(share)})." if share >= 0.05 else ""


def _bound(analysis: ProfileAnalysis) -> str:
    schedule = analysis.schedule
    if schedule.perfect_s <= 0:
        return ""
    return (
        f"A perfect schedule on as many workers takes {format_seconds(schedule.perfect_s)}, the"
        f" longest chain of tasks {format_seconds(schedule.critical_s)}."
    )
