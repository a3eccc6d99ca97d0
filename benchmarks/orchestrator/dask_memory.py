"""What the main process holds on dask, whose scheduler it is too."""

from benchmarks.orchestrator.figures import Figure
from benchmarks.orchestrator.measure import FOLDER, Subject, take_turns

MB = 1e6


def figures(*, quick: bool) -> list[Figure]:
    """Compare what running adds to the memory of the main process, from few tiles to many."""
    sizes = (1000, 10_000) if quick else (1000, 10_000, 100_000)
    subjects = {
        str(tiles): Subject("run_dask_memory", (str(tiles), FOLDER), turns=1) for tiles in sizes
    }
    results = take_turns(subjects, 1)
    lines = []
    first = results[str(sizes[0])][0]
    for tiles in sizes:
        (result,) = results[str(tiles)]
        lines.append(
            Figure(
                what=f"local_dask: main process, {tiles:,} empty tiles",
                measured=f"{result['added_bytes'] / MB:.1f} MB while running"
                f" ({result['time_s'] / tiles * 1e3:.2f} ms a tile)",
                against=f"declared: {result['declared_bytes'] / MB:.1f} MB;"
                f" {sizes[0]:,} tiles: {first['added_bytes'] / MB:.1f} MB",
                ratio=result["added_bytes"] / max(first["added_bytes"], 1),
            )
        )
    return lines
