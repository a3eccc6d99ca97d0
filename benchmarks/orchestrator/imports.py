"""What ``import batuta.orchestrator`` adds to the libraries that it needs."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import Subject, best, take_turns

LIBRARIES = ("numpy", "xarray", "pandas", "rasterio")


def figures(*, quick: bool) -> list[Figure]:
    """Compare with importing the libraries alone, each in a fresh interpreter."""
    subjects = {
        "batuta": Subject("run_imports", ("batuta.orchestrator",)),
        "libraries": Subject("run_imports", LIBRARIES),
    }
    results = take_turns(subjects, 5 if quick else 15)
    own_s, libraries_s = best(results["batuta"]), best(results["libraries"])
    return [
        Figure(
            what="import batuta.orchestrator",
            measured=f"{own_s * 1e3:.0f} ms",
            against=f"{', '.join(LIBRARIES)}: {libraries_s * 1e3:.0f} ms",
            ratio=own_s / libraries_s,
            target=Target("at most", 1.2),
        )
    ]
