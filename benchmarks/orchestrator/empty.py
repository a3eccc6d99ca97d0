"""What an empty task costs, from a thousand of them to a million."""

from benchmarks.orchestrator.figures import Figure, Target
from benchmarks.orchestrator.measure import FOLDER, Result, Subject, best, take_turns

SIZES = (1_000, 10_000, 100_000, 1_000_000)
TURNS = {1_000: 9, 10_000: 5, 100_000: 3, 1_000_000: 1}
THROUGH_DATASETS = 100_000


def figures(*, quick: bool) -> list[Figure]:
    """Compare sizes with each other: the cost of a task must not grow with their number."""
    sizes = SIZES[:3] if quick else SIZES
    subjects = {
        str(size): Subject("run_empty", ("cluster", str(size), FOLDER), turns=TURNS[size])
        for size in sizes
    }
    arguments = ("orchestrator", str(THROUGH_DATASETS), FOLDER)
    subjects["datasets"] = Subject("run_empty", arguments, turns=1 if quick else 3)
    results = take_turns(subjects, max(TURNS.values()))
    costs_us = {size: best(results[str(size)]) / size * 1e6 for size in sizes}
    lines = [_cost(size, costs_us) for size in sizes]
    lines += [_memory(size, results[str(size)]) for size in sizes[-2:]]
    through = best(results["datasets"]) / THROUGH_DATASETS * 1e6
    return [*lines, _through_datasets(through, costs_us[THROUGH_DATASETS])]


def _cost(size: int, costs_us: dict[int, float]) -> Figure:
    least = min(costs_us.values())
    return Figure(
        what=f"an empty task, of {size:,}",
        measured=f"{costs_us[size]:.1f} us",
        against=f"the cheapest of these: {least:.1f} us",
        ratio=costs_us[size] / least,
        target=Target("at most", 1.2),
    )


def _memory(size: int, results: list[Result]) -> Figure:
    declared = best(results, "declared_bytes") / size
    peak = best(results, "peak_bytes") / size
    return Figure(
        what=f"memory per task, of {size:,}",
        measured=f"{declared:.0f} B declared",
        against=f"at most, while they run: {peak:.0f} B",
        ratio=max(declared, peak),
        unit="B",
        target=Target("at most", 1000),
    )


def _through_datasets(own_us: float, cluster_us: float) -> Figure:
    return Figure(
        what=f"an empty task in a CarsDataset, of {THROUGH_DATASETS:,}",
        measured=f"{own_us:.1f} us",
        against=f"by the cluster alone: {cluster_us:.1f} us",
        ratio=own_us / cluster_us,
    )
