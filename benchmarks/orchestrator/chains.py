"""What a task costs: two-step chains of small tiles, saved to one GeoTIFF."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.orchestrator.figures import Figure, Target, not_measured
from benchmarks.orchestrator.measure import FOLDER, ROOT, Result, Subject, best, take_turns

PEERS: Final = ROOT / ".venv-peers" / "bin" / "python"
TASKS_PER_TILE: Final = 2
WHAT: Final = "a task of two-step chains"


@dataclass(frozen=True)
class Cost:
    """What a task costs, in ms: with what starts and ends a run, and without it."""

    in_all: float
    running: float


def figures(*, quick: bool) -> list[Figure]:
    """Compare with a bare loop, distributed and CARS."""
    sizes = (256, 1024) if quick else (512, 2048)
    turns = 2 if quick else 5
    subjects = {
        f"{side} {tiles}": Subject("run_chains", (side, str(tiles), FOLDER))
        for tiles in sizes
        for side in ("batuta", "kept", "bare", "distributed")
    }
    few = (32, 64)  # a tenth of a second a task
    if PEERS.exists():
        for tiles in few:
            arguments = (str(tiles), FOLDER)
            subjects[f"cars {tiles}"] = Subject("run_chains_cars", arguments, PEERS, turns=2)
    results = take_turns(subjects, turns)
    _check_same_pixels(results, sizes)
    own = _cost(results, "batuta", sizes)
    lines = [
        *_compared("CARS 1.3.0", own, _cost(results, "cars", few), at_least=100),
        *_compared("distributed", own, _cost(results, "distributed", sizes), at_least=3),
    ]
    bare = _cost(results, "bare", sizes)
    if bare is not None and own is not None:
        limit = Target("at most", 1.5)
        lines += [
            _line("a bare loop", "in all", own.in_all, bare.in_all, limit),
            _line("a bare loop", "running", own.running, bare.running, limit),
        ]
    kept = _cost(results, "kept", sizes)
    if bare is not None and kept is not None:
        lines.append(
            replace(
                _line("a bare loop", "running", kept.running, bare.running, limit),
                what=f"{WHAT}, running, workers not renewed",
                target=None,
            )
        )
    return lines


def _check_same_pixels(results: dict[str, list[Result]], sizes: Sequence[int]) -> None:
    for tiles in sizes:
        found = {
            result["pixels"]
            for name, each in results.items()
            for result in each
            if name.endswith(f" {tiles}")
        }
        if len(found) > 1:
            raise RuntimeError(f"the rasters of {tiles} tiles differ: {results}")


def _cost(results: dict[str, list[Result]], side: str, sizes: Sequence[int]) -> Cost | None:
    if f"{side} {sizes[0]}" not in results:
        return None
    small_s, large_s = (best(results[f"{side} {tiles}"]) for tiles in sizes)
    tasks = [tiles * TASKS_PER_TILE for tiles in sizes]
    return Cost(
        in_all=large_s / tasks[1] * 1e3,
        running=(large_s - small_s) / (tasks[1] - tasks[0]) * 1e3,
    )


def _compared(peer: str, own: Cost | None, other: Cost | None, *, at_least: float) -> list[Figure]:
    """Say how many times less than a peer's a task of ours costs."""
    target = Target("at least", at_least)
    if own is None or other is None:
        return [not_measured(f"{WHAT}, {peer}", "make bench-peers", target)]
    return [
        _line(peer, "in all", own.in_all, other.in_all, target),
        _line(peer, "running", own.running, other.running, target),
    ]


def _line(peer: str, part: str, own_ms: float, other_ms: float, target: Target) -> Figure:
    less = target.side == "at least"
    return Figure(
        what=f"{WHAT}, {part}",
        measured=f"{own_ms:.3f} ms",
        against=f"{peer}: {other_ms:.3f} ms",
        ratio=other_ms / own_ms if less else own_ms / other_ms,
        unit="times less" if less else "x",
        target=target,
    )
