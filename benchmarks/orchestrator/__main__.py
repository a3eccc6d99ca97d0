"""Print the table: ``python -m benchmarks.orchestrator [--only NAME ...] [--quick]``."""

import argparse
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks.orchestrator import (
    busy,
    chains,
    dask,
    dask_memory,
    empty,
    handover,
    imports,
    large,
    profiling,
    profiling_probe,
    profiling_report,
    renewal,
    tiles_10ms,
)
from benchmarks.orchestrator.support.figures import Figure, table

ROWS: Final[dict[str, Callable[..., list[Any]]]] = {
    "chains": chains.figures,
    "busy": busy.figures,
    "empty": empty.figures,
    "large": large.figures,
    "handover": handover.figures,
    "renewal": renewal.figures,
    "imports": imports.figures,
    "dask": dask.figures,
    "tiles-10ms": tiles_10ms.figures,
    "dask-memory": dask_memory.figures,
    "profiling-probe": profiling_probe.figures,
    "profiling": profiling.figures,
    "profiling-report": profiling_report.figures,
}


def main() -> None:
    """Measure the rows that are asked for, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description="The orchestrator's speed.")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer turns")
    asked = parser.parse_args()
    load, begun = os.getloadavg()[0], time.monotonic()
    rows = {name: _measure(name, quick=asked.quick) for name in asked.only}
    print(table([figure for figures in rows.values() for figure in figures]))
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {time.monotonic() - begun:.0f} s,"
        f" load before: {load:.2f}; {_machine()}"
    )
    if not all(rows.values()):
        sys.exit(
            f"not measured: {', '.join(name for name, figures in rows.items() if not figures)}"
        )


def _measure(name: str, *, quick: bool) -> list[Figure]:
    """Measure a row; one that fails has no figures, and the others are measured all the same."""
    print(f"{name}:", file=sys.stderr)
    try:
        figures = ROWS[name](quick=quick)
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        return []
    print(table(figures), file=sys.stderr)
    return figures


def _machine() -> str:
    version = importlib.metadata.version("batuta")
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"Batuta {version}, Python {platform.python_version()}, {system}"


if __name__ == "__main__":
    main()
