"""The first lines of every report: how long the run took, what took the time, what was idle."""

from typing import Final

from batuta.formatting import format_count, format_percent, format_seconds
from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.files.run_info import RunState
from batuta.profiling.report.text_layout import shorten

_NAME: Final = 60
"""Maximum length of a task name in a sentence."""

_MIN_SHARE: Final = 0.0005
"""Parts below this share of the workers' time are left out."""


def title(analysis: ProfileAnalysis) -> str:
    """Return what the run computed and how long it took."""
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
    """Return a warning that the run has not ended or failed; None where it succeeded."""
    run = analysis.run
    if run.state is RunState.RUNNING:
        return "The run had not ended when this was read: it is still running, or was killed."
    if run.state is RunState.FAILED:
        return f"The run failed: {run.error or 'the cause is unknown'}"
    return None


def summary_sentences(analysis: ProfileAnalysis) -> tuple[str, ...]:
    """Return up to three sentences on what took the time."""
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
    """Return the label and seconds of each kind of lost time, without negligible ones."""
    worker_time = analysis.worker_time
    parts = (
        ("attempts that failed", worker_time.failed_s),
        ("idle before the first task", worker_time.starting_s),
        ("idle between tasks, though one was ready", worker_time.delayed_s),
        ("idle between tasks, as none was ready", worker_time.starved_s),
        ("idle after the last task", worker_time.ending_s),
        ("workers without any task", worker_time.unused_s),
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
    return f"Most time was lost to: {label} ({format_percent(share)})." if share >= 0.05 else ""


def _bound(analysis: ProfileAnalysis) -> str:
    schedule = analysis.schedule
    if schedule.perfect_s <= 0:
        return ""
    return (
        f"A perfect schedule on as many workers takes {format_seconds(schedule.perfect_s)}, the"
        f" longest chain of tasks {format_seconds(schedule.critical_s)}."
    )
