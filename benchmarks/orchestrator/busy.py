"""How busy two cores are with tasks of 50 ms that hold the interpreter."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Subject, best, take_turns
from benchmarks.orchestrator.run_busy import TASK_S

CORES = 2


def figures(*, quick: bool) -> list[Figure]:
    """Compare the time that tasks take with the time that two cores have.

    The tasks count processor time: what else takes the cores, the main process of Batuta
    included, is not being busy.
    """
    sizes = (80, 240) if quick else (100, 500)
    subjects = {
        f"{side} {tasks}": Subject("run_busy", (side, str(tasks), FOLDER))
        for tasks in sizes
        for side in ("batuta", "plain")
    }
    results = take_turns(subjects, 2 if quick else 3)
    times_s = {name: best(each) for name, each in results.items()}
    small, large = sizes
    running = {
        side: _busy(large - small, times_s[f"{side} {large}"] - times_s[f"{side} {small}"])
        for side in ("batuta", "plain")
    }
    in_all = {side: _busy(large, times_s[f"{side} {large}"]) for side in ("batuta", "plain")}
    return [
        _line("running", running, Target("at least", 95)),
        _line(f"in all, {large} tasks", in_all, None),
    ]


def _busy(tasks: int, time_s: float) -> float:
    return 100 * tasks * TASK_S / (CORES * time_s)


def _line(part: str, percent: dict[str, float], target: Target | None) -> Figure:
    return Figure(
        what=f"cores busy with tasks of 50 ms, {part}",
        measured=f"{percent['batuta']:.1f} %",
        against=f"two plain processes: {percent['plain']:.1f} %",
        ratio=percent["batuta"],
        unit="%",
        target=target,
    )
