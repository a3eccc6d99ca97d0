"""Print the table: ``make bench-task-peers`` (BENCH_ARGS='--quick --peers loky Ray')."""

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from benchmarks.support.figures import Figure, Target, table
from benchmarks.support.measure import FOLDER, Result, Subject, best, take_turns
from benchmarks.task_peers.sides import SIDES

OWN: Final = "batuta"
SIZES: Final = (10_000, 1_000_000)
MOST: Final = {"Ray": 100_000, "Parsl": 10_000, "HyperQueue": 10_000}
"""Of what would take a quarter of an hour or more: as many tasks are measured, no more."""
TURNS: Final = {10_000: 3, 100_000: 1, 1_000_000: 1}
LEAD: Final = Target("at most", 1)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="make bench-task-peers", description="Empty tasks beside those of others."
    )
    peers = [name for name in SIDES if name != OWN]
    parser.add_argument("--peers", nargs="+", choices=peers, default=peers, metavar="PEER")
    parser.add_argument("--quick", action="store_true", help="10,000 tasks alone")
    asked = parser.parse_args()
    load, begun = os.getloadavg()[0], time.monotonic()
    try:
        figures = [
            figure
            for size in SIZES[: 1 if asked.quick else None]
            for figure in measure(size, asked.peers)
        ]
    except RuntimeError as exc:
        sys.exit(str(exc))
    print(table(figures))
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {time.monotonic() - begun:.0f} s, load before:"
        f" {load:.2f}; Batuta {version('batuta')}, Python {platform.python_version()},"
        f" {os.cpu_count()} cores"
    )


def measure(size: int, peers: list[str]) -> list[Figure]:
    """Measure Batuta and its peers in turns, each of them for as many tasks as it can take."""
    counts = {name: min(size, MOST.get(name, size)) for name in [OWN, *peers]}
    subjects = {
        name: Subject(
            "sides", (name, str(count), FOLDER), turns=TURNS[count], package="benchmarks.task_peers"
        )
        for name, count in counts.items()
        if count == size or count not in SIZES
    }
    results = take_turns(subjects, max(TURNS.values()))
    return [
        figure
        for name in subjects
        if name != OWN
        for figure in _figures(name, size, counts[name], results)
    ]


def _figures(peer: str, size: int, count: int, results: dict[str, list[Result]]) -> list[Figure]:
    of = f"an empty task, of {size:,}"
    peer_name = peer if count == size else f"{peer}, of {count:,}"
    lines = []
    for part, key in (("", "running_s"), (", start and end included", "time_s")):
        own_us = best(results[OWN], key) / size * 1e6
        other_us = best(results[peer], key) / count * 1e6
        lines.append(
            Figure(
                what=of + part,
                measured=f"{own_us:.1f} us",
                against=f"{peer_name}: {other_us:.1f} us",
                ratio=own_us / other_us,
                target=LEAD,
            )
        )
    return lines


if __name__ == "__main__":
    main()
