"""Loses the power of each service at moments of its work: `make crash-points N=500 SEED=7`."""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.support.power_loss.running import SCENARIOS, played


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 1 if anything fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.power_loss")
    parser.add_argument("--number", "-n", type=int, help="losses of power of each service; all")
    parser.add_argument("--seed", type=int, default=1, help="draws them, and what is left")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="all by default")
    asked = parser.parse_args(arguments)
    failed = False
    for name in asked.scenario or SCENARIOS:
        began_s = time.monotonic()
        with played(name) as recorded:
            outcome = recorded.lose_power(asked.number, asked.seed)
        print(f"{name}: {outcome}, {time.monotonic() - began_s:.0f} s", flush=True)
        for violation in outcome.violations:
            print(f"  {violation}", flush=True)
        failed = failed or bool(outcome.violations)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
