"""What Batuta adds to the libraries that it needs, when it is imported.

Run with ``MODULE...``, it imports these modules in a fresh interpreter and prints the time.
"""

import importlib
import sys
import time

# Nothing else is imported here: it would be missing in the time that a subject measures.

RASTERS = ("numpy", "rasterio")
TILES = (*RASTERS, "xarray", "pandas")
CASES = {
    "import batuta.orchestrator, CarsDataset": (
        ("batuta.orchestrator", "batuta.datasets.for_programs"),
        TILES,
    ),
    "import batuta.map_tiles": (("batuta.tiling",), RASTERS),
}
"""By what a program writes: the modules that it imports, and the libraries alone."""


def figures(*, quick: bool) -> list[object]:
    """Compare with importing the libraries alone, each in a fresh interpreter."""
    return [figure for what in CASES for figure in _figures(what, 5 if quick else 15)]


def _figures(what: str, turns: int) -> list[object]:
    from benchmarks.support.figures import Figure, Target  # noqa: PLC0415
    from benchmarks.support.measure import Subject, best, take_turns  # noqa: PLC0415

    modules, libraries = CASES[what]
    subjects = {"batuta": Subject("imports", modules), "libraries": Subject("imports", libraries)}
    results = take_turns(subjects, turns)
    own_s, libraries_s = best(results["batuta"]), best(results["libraries"])
    return [
        Figure(
            what=what,
            measured=f"{own_s * 1e3:.0f} ms",
            against=f"{', '.join(libraries)}: {libraries_s * 1e3:.0f} ms",
            ratio=own_s / libraries_s,
            # Rasters alone are imported in a quarter of a second: what is ours weighs more.
            target=Target("at most", 1.2) if libraries is TILES else None,
        )
    ]


if __name__ == "__main__":
    begun = time.perf_counter()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    took_s = time.perf_counter() - begun
    print(f'{{"time_s": {took_s}}}')
