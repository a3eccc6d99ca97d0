"""The first lines of every report: how long, what took it, what was lost."""

from typing import Final

from batuta.profiling.analysis.figures import Figures
from batuta.profiling.analysis.formatting import counted, seconds_text, share_text
from batuta.profiling.files.run_info import RunState
from batuta.profiling.report.tables import shortened

_NAME: Final = 60
"""Of a name that stands in a sentence."""

_SEEN: Final = 0.0005
"""Of the time of the workers: less is not told."""


def title(figures: Figures) -> str:
    """How long it took, in one sentence."""
    run = figures.run
    span = seconds_text(figures.span_s)
    workers = counted(figures.workers, "worker")
    if not run.tiles_total:
        ran = counted(int(figures.attempts["task"].nunique()), "task")
        return f"{ran} in {span} on {workers}"
    done = counted(run.tiles_total, "tile")
    if run.tiles_done != run.tiles_total:
        done = f"{run.tiles_done:,} of {done}"
    return f"{done} in {span} on {workers}"


def state_line(figures: Figures) -> str | None:
    """What whoever reads on must know of the run; None where it was done."""
    run = figures.run
    if run.state is RunState.RUNNING:
        return "The run had not ended when this was read: it goes on, or it was killed."
    if run.state is RunState.FAILED:
        return f"The run failed: {run.error or 'why is not known'}"
    return None


def what_took_it(figures: Figures) -> tuple[str, ...]:
    """What took the time, in a sentence or three."""
    if not figures.names:
        return ("No task has ended.",)
    if not figures.attempts["done"].any():
        return ("No task gave a result: every attempt failed.",)
    if not figures.lost.total_s:
        return ()
    lines = [_work(figures), _loss(figures), _bound(figures)]
    return tuple(line for line in lines if line)


def _work(figures: Figures) -> str:
    lost = figures.lost
    first = figures.names[0]
    total_s = sum(name.total_s for name in figures.names)
    worked = share_text(lost.worked_s / lost.total_s)
    who = "The worker" if figures.workers == 1 else f"The {figures.workers:,} workers"
    taken = share_text(first.total_s / total_s) if total_s > 0 else "most"
    most = "it all was" if len(figures.names) == 1 else f"{taken} of it was"
    return f"{who} worked {worked} of the time; {most} {shortened(first.name, _NAME)}."


def losses(figures: Figures) -> tuple[tuple[str, float], ...]:
    """What the time of the workers was lost to, each with its seconds, but for traces."""
    lost = figures.lost
    parts = (
        ("attempts that failed", lost.failed_s),
        ("idle before the first task", lost.starting_s),
        ("idle between tasks, though one could run", lost.delayed_s),
        ("idle between tasks, as none could run", lost.starved_s),
        ("idle after the last task", lost.ending_s),
        ("workers that had no task", lost.unused_s),
    )
    return tuple(
        (label, seconds) for label, seconds in parts if seconds >= _SEEN * lost.total_s > 0
    )


def _loss(figures: Figures) -> str:
    parts = losses(figures)
    if not parts:
        return ""
    label, seconds = max(parts, key=lambda part: part[1])
    share = seconds / figures.lost.total_s
    return f"Lost most to: {label} ({share_text(share)})." if share >= 0.05 else ""


def _bound(figures: Figures) -> str:
    schedule = figures.schedule
    if schedule.perfect_s <= 0:
        return ""
    return (
        f"A perfect schedule on as many workers takes {seconds_text(schedule.perfect_s)}, the"
        f" longest chain of tasks {seconds_text(schedule.critical_s)}."
    )
