"""Large tiles through three steps: time against the slower of its parts, and memory."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, best, take_turns

TILE_BYTES = 4 * 1024 * 1024
TILES_IN_MEMORY = 4 * 2
MB = 1e6


def figures(*, quick: bool) -> list[Figure]:
    """Compare with computing alone and writing alone, and with what the tiles take."""
    subjects = {
        side: Subject("run_large", (side, FOLDER))
        for side in ("batuta", "computing", "writing", "memory")
    }
    results = take_turns(subjects, 2 if quick else 5)
    alone_s = {side: best(results[side]) for side in ("computing", "writing")}
    slower = max(alone_s, key=alone_s.__getitem__)
    own_s, in_all_s = best(results["batuta"]), best(results["batuta"], "in_all_s")
    parts = ", ".join(f"{side} alone: {time_s:.2f} s" for side, time_s in alone_s.items())
    return [
        Figure(
            what="8192 x 8192 through three steps, workers there",
            measured=f"{own_s:.2f} s",
            against=parts,
            ratio=own_s / alone_s[slower],
            target=Target("at most", 1.3),
        ),
        Figure(
            what="the same, in all",
            measured=f"{in_all_s:.2f} s",
            against=f"{slower} alone: {alone_s[slower]:.2f} s",
            ratio=in_all_s / alone_s[slower],
        ),
        _memory(results["memory"]),
    ]


def _memory(results: list[Result]) -> Figure:
    least = min(results, key=lambda result: float(result["peak_bytes"]))
    idle, peak = float(least["idle_bytes"]), float(least["peak_bytes"])
    allowed = idle + TILES_IN_MEMORY * TILE_BYTES
    return Figure(
        what="its memory, all processes",
        measured=f"{peak / MB:.0f} MB",
        against=f"interpreters {idle / MB:.0f} MB + 4 tiles a worker: {allowed / MB:.0f} MB",
        ratio=peak / allowed,
        target=Target("at most", 1),
    )
