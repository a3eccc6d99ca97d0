"""Print the table: ``make bench-peers`` (BENCH_ARGS='--quick --only burst --peers dbos')."""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Final

from benchmarks.orchestra_peers.rows import QUICK, ROWS, SMOKE, Sizes
from benchmarks.orchestra_peers.systems import batuta, dbos, restate, temporal
from benchmarks.orchestra_peers.turns import Variant, measure
from benchmarks.support.figures import Figure, table

PEERS: Final = {
    "restate": (Variant(restate.STEPS), Variant(restate.CALLS)),
    "dbos": (Variant(dbos.STEPS), Variant(dbos.CALLS)),
    "temporal": (Variant(temporal.SYSTEM),),
}
"""The simplest that its manual shows, then the one with a part for each product."""


def main() -> None:
    """Measure what is asked for, and print the table."""
    parser = argparse.ArgumentParser(
        prog="make bench-peers", description="The orchestra's speed beside its peers'."
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true", help="one turn, shorter rates")
    sizes.add_argument("--smoke", action="store_true", help="see that all play; measure nothing")
    asked = parser.parse_args()
    chosen = QUICK if asked.quick else SMOKE if asked.smoke else Sizes()
    # As on Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load, begun = os.getloadavg()[0], time.monotonic()
    try:
        figures = [figure for row in asked.only for figure in _measured(row, asked.peers, chosen)]
    except RuntimeError as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit("interrupted")
    print(table(figures))
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {time.monotonic() - begun:.0f} s,"
        f" load before: {load:.2f}; {_machine()}"
    )


def _measured(row: str, peers: list[str], sizes: Sizes) -> list[Figure]:
    print(f"{row}:", file=sys.stderr)
    variants = [variant for name in peers for variant in _variants(row, name)]
    figures = asyncio.run(measure(ROWS[row](sizes), Variant(batuta.SYSTEM), variants))
    print(table(figures), file=sys.stderr)
    return figures


def _variants(row: str, peer: str) -> list[Variant]:
    """Return how a peer is measured: without files, with them, and with a part for each product."""
    simplest, *others = PEERS[peer]
    without = Variant(simplest.system, archive=False)
    if row == "burst":
        return [without, simplest, *others]
    return [without, (simplest, *others)[-1]]


def _machine() -> str:
    version = importlib.metadata.version("batuta")
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"Batuta {version}, Python {platform.python_version()}, {system}"


if __name__ == "__main__":
    main()
