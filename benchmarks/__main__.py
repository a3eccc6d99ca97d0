"""Print the tables: ``python -m benchmarks [--only NAME ...] [--quick]``.

A row is a module with ``figures(*, quick: bool) -> list[Figure]``; it may be asked for by its name
in `SECTIONS`, and so may a section.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
import time
from datetime import UTC, datetime
from typing import Final

from benchmarks.support.figures import Figure, table

# By their paths: what measures one row need not be installed for the others.
SECTIONS: Final[dict[str, dict[str, str]]] = {
    "orchestrator": {
        "chains": "benchmarks.orchestrator.chains",
        "busy": "benchmarks.orchestrator.busy",
        "empty": "benchmarks.orchestrator.empty",
        "large": "benchmarks.orchestrator.large",
        "handover": "benchmarks.orchestrator.handover",
        "renewal": "benchmarks.orchestrator.renewal",
        "imports": "benchmarks.orchestrator.imports",
        "dask": "benchmarks.orchestrator.dask",
        "tiles-10ms": "benchmarks.orchestrator.tiles_10ms",
        "dask-memory": "benchmarks.orchestrator.dask_memory",
        "profiling-probe": "benchmarks.orchestrator.profiling_probe",
        "profiling": "benchmarks.orchestrator.profiling",
        "profiling-report": "benchmarks.orchestrator.profiling_report",
    },
    "mapping": {
        "maps": "benchmarks.mapping.maps",
    },
    "orchestra": {
        "decision": "benchmarks.orchestra.decision",
        "alert": "benchmarks.orchestra.alert",
        "shares": "benchmarks.orchestra.shares",
        "backlog": "benchmarks.orchestra.backlog",
        "campaign": "benchmarks.orchestra.campaign",
        "graph-apply": "benchmarks.orchestra.graph_apply",
        "notifications": "benchmarks.orchestra.notifications",
        "burst": "benchmarks.orchestra.burst",
        "sustained": "benchmarks.orchestra.sustained",
        "history": "benchmarks.orchestra.history",
        "archive": "benchmarks.orchestra.archive",
    },
    "dashboard": {
        "page": "benchmarks.dashboard.page",
    },
}


def main() -> None:
    """Measure the rows that are asked for, and print a table for each section."""
    modules = {name: path for rows in SECTIONS.values() for name, path in rows.items()}
    parser = argparse.ArgumentParser(prog="make bench", description="The speed of Batuta.")
    parser.add_argument(
        "--only", nargs="+", choices=[*SECTIONS, *modules], default=list(SECTIONS), metavar="NAME"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer turns")
    asked = parser.parse_args()
    load, begun = os.getloadavg()[0], time.monotonic()
    missing: list[str] = []
    for section, rows in SECTIONS.items():
        chosen = [name for name in rows if not {section, name}.isdisjoint(asked.only)]
        found = {name: _measure(name, modules[name], quick=asked.quick) for name in chosen}
        missing += [name for name, figures in found.items() if not figures]
        if chosen:
            print(f"\n{section}\n")
            print(table([figure for figures in found.values() for figure in figures]), flush=True)
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {time.monotonic() - begun:.0f} s,"
        f" load before: {load:.2f}; {_machine()}"
    )
    if missing:
        sys.exit(f"not measured: {', '.join(missing)}")


def _measure(name: str, module: str, *, quick: bool) -> list[Figure]:
    """Measure a row; one that fails has no figures, and the others are measured all the same."""
    print(f"{name}:", file=sys.stderr)
    try:
        figures: list[Figure] = importlib.import_module(module).figures(quick=quick)
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
