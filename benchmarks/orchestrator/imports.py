"""What ``import batuta.orchestrator`` adds to the libraries that it needs.

Run with ``MODULE...``, it imports these modules in a fresh interpreter and prints the time.
"""

import importlib
import sys
import time

# Nothing else is imported here: it would be missing in the time that a subject measures.

LIBRARIES = ("numpy", "xarray", "pandas", "rasterio")


def figures(*, quick: bool) -> list[object]:
    """Compare with importing the libraries alone, each in a fresh interpreter."""
    from benchmarks.support.figures import Figure, Target  # noqa: PLC0415
    from benchmarks.support.measure import Subject, best, take_turns  # noqa: PLC0415

    subjects = {
        "batuta": Subject("imports", ("batuta.orchestrator",)),
        "libraries": Subject("imports", LIBRARIES),
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


if __name__ == "__main__":
    begun = time.perf_counter()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    took_s = time.perf_counter() - begun
    print(f'{{"time_s": {took_s}}}')
