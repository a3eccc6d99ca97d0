"""What measuring one task costs, and where."""

from typing import Final

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Subject, best, take_turns

LIMIT: Final = Target("at most", 50)
"""Processor time of all processes for one task, us."""


def figures(*, quick: bool) -> list[Figure]:
    """Compare with the clock alone, and with what others measure tasks with."""
    times = 5_000 if quick else 20_000
    subject = Subject("run_profiling_probe", (str(times), FOLDER))
    results = take_turns({"parts": subject}, 2 if quick else 5)["parts"]
    us = {key: best(results, key) * 1e6 for key in results[0]}
    clock = f"the clock, twice: {us['clock_s']:.1f} us"
    psutil = f"psutil, twice: {us['psutil_s']:.1f} us"
    in_all = {
        "the default": us["looked_s"] + us["message_s"] + us["summed_up_s"],
        "cars_profiling": us["looked_s"] + us["message_s"] + us["written_s"],
    }
    return [
        _part("measuring a task too short to look at memory", us["short_s"], clock),
        _part("measuring a task, with its memory", us["looked_s"], psutil),
        _part("carrying its measures to the main process", us["message_s"]),
        _part("summing them up there (the default)", us["summed_up_s"]),
        _part("or writing them (cars_profiling)", us["written_s"]),
        *(
            _part(f"a task measured, all of these: {mode}", cost, psutil, LIMIT)
            for mode, cost in in_all.items()
        ),
    ]


def _part(what: str, cost_us: float, against: str = "", target: Target | None = None) -> Figure:
    return Figure(
        what=what,
        measured=f"{cost_us:.1f} us",
        against=against,
        ratio=cost_us,
        unit="us",
        target=target,
    )
