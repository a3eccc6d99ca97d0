"""Renewing a worker: how long its place is empty, and what the new one costs."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Subject, best, take_turns

DEFAULT_MAX_TASKS = 10
NEVER = 10**9


def figures(*, quick: bool) -> list[Figure]:
    """Measure the default renewal, and compare its processor time with that of no renewal."""
    tasks = 200 if quick else 400
    subjects = {
        str(max_tasks): Subject("run_renewal", (str(max_tasks), str(tasks), FOLDER))
        for max_tasks in (DEFAULT_MAX_TASKS, NEVER)
    }
    results = take_turns(subjects, 2 if quick else 5)
    renewing, never = results[str(DEFAULT_MAX_TASKS)], results[str(NEVER)]
    extra_s = best(renewing, "processor_s") - best(never, "processor_s")
    gap_s, worst_s = best(renewing), best(renewing, "worst_s")
    return [
        Figure(
            what="renewing a worker, its place empty (median)",
            measured=f"{gap_s * 1e3:.1f} ms",
            against=f"worst of a run: {worst_s * 1e3:.1f} ms",
            ratio=gap_s * 1e3,
            unit="ms",
            target=Target("at most", 50),
        ),
        Figure(
            what="renewing a worker, processor time",
            measured=f"{extra_s / renewing[0]['renewals'] * 1e3:.1f} ms",
        ),
    ]
