"""Handing a large tile from one task to the next, against one write of its bytes."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, best, take_turns

KINDS = {
    "memory": "through shared memory",
    "disk": "through disk",
}


def figures(*, quick: bool) -> list[Figure]:
    """Compare both places with a plain write to the same place."""
    subjects = {where: Subject("run_handover", (where, FOLDER)) for where in KINDS}
    results = take_turns(subjects, 1 if quick else 3)
    return [_line(kind, results[where]) for where, kind in KINDS.items()]


def _line(kind: str, results: list[Result]) -> Figure:
    handed_s, written_s = best(results), best(results, "written_s")
    return Figure(
        what=f"handing over 64 MiB {kind}",
        measured=f"{handed_s * 1e3:.1f} ms (then read: {best(results, 'read_s') * 1e3:.1f} ms)",
        against=f"a plain write: {written_s * 1e3:.1f} ms",
        ratio=handed_s / written_s,
        target=Target("at most", 1.5),
    )
