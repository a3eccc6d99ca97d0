"""How busy two cores are with tasks of 50 ms that hold the interpreter."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, best, take_turns
from benchmarks.orchestrator.run_busy import TASK_S

CORES = 2


def figures(*, quick: bool) -> list[Figure]:
    """Compare the time that tasks take with the time that two cores have.

    The tasks count processor time: what else takes the cores, the main process of Batuta
    included, is not being busy.
    """
    tasks = 200 if quick else 400
    subjects = {
        side: Subject("run_busy", (side, str(tasks), FOLDER)) for side in ("batuta", "plain")
    }
    results = take_turns(subjects, 2 if quick else 5)
    return [
        _line("running", tasks, results, "running_s", Target("at least", 95)),
        _line(f"in all, {tasks} tasks", tasks, results, "time_s", None),
    ]


def _line(
    part: str, tasks: int, results: dict[str, list[Result]], key: str, target: Target | None
) -> Figure:
    percent = {
        side: 100 * tasks * TASK_S / (CORES * best(each, key)) for side, each in results.items()
    }
    return Figure(
        what=f"cores busy with tasks of 50 ms, {part}",
        measured=f"{percent['batuta']:.1f} %",
        against=f"two plain processes: {percent['plain']:.1f} %",
        ratio=percent["batuta"],
        unit="%",
        target=target,
    )
