"""What handing tasks to dask adds to dask's own cost."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Subject, best, take_turns

SHAPES = {"one": "of one task", "chains": "of two-step chains"}


def figures(*, quick: bool) -> list[Figure]:
    """Compare with distributed alone, on the same graph: tiles of 256 x 256, taken as they come."""
    tiles = 500 if quick else 2000
    subjects = {
        f"{side} {shape}": Subject("run_dask", (side, shape, str(tiles), FOLDER))
        for shape in SHAPES
        for side in ("batuta", "distributed")
    }
    results = take_turns(subjects, 2 if quick else 5)
    lines = []
    for shape, words in SHAPES.items():
        own, other = results[f"batuta {shape}"], results[f"distributed {shape}"]
        if len({each["total"] for each in own + other}) > 1:
            raise RuntimeError(f"the tiles differ: {own} {other}")
        own_ms, other_ms = (best(each) / tiles * 1e3 for each in (own, other))
        lines.append(
            Figure(
                what=f"local_dask: a tile {words}, running",
                measured=f"{own_ms:.3f} ms",
                against=f"distributed: {other_ms:.3f} ms",
                ratio=own_ms / other_ms,
                target=Target("at most", 1.1),
            )
        )
    return lines
