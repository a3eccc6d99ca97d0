"""Runs schedules by their seeds, on all cores; replays one, and reduces one that fails.

`make simulate N=10000 SEED=1` runs 10,000 schedules from seed 1 on. Of one seed, with `--replay`,
all that happens is printed; what fails is reduced, and the smallest schedule printed with its
trace, unless `--no-shrink` is given.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from tests.support.simulation.orchestra import Outcome
from tests.support.simulation.plan import Plan, plan_of
from tests.support.simulation.running import prepare, run_plan
from tests.support.simulation.shrink import shrink
from tests.support.statements import share_compiled_statements
from tests.support.validators import share_validators

TOGETHER: Final = 10
"""Schedules that a process runs before it tells of them."""
PRINTED_EVERY_S: Final = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; return 1 if anything fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.simulation")
    parser.add_argument("--number", "-n", type=int, default=200, help="schedules to run")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--replay", action="store_true", help="print all that happens in it")
    parser.add_argument("--no-shrink", action="store_true", help="leave what fails as it is")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    share_validators()
    share_compiled_statements()
    if asked.replay:
        outcome = run_plan(plan_of(asked.seed))
        print(describe(outcome, trace=True))
        return 1 if outcome.violations else 0
    failing = run_many(asked.seed, asked.number, asked.workers)
    for seed in failing:
        print(report(run_plan(plan_of(seed)), shrinks=not asked.no_shrink and seed == failing[0]))
    return 1 if failing else 0


def run_many(first: int, number: int, workers: int) -> list[int]:
    """Run schedules in several processes, printing how many; return the seeds that fail."""
    began_s = printed_s = time.monotonic()
    failing: list[int] = []
    chunks = [
        range(start, min(start + TOGETHER, first + number))
        for start in range(first, first + number, TOGETHER)
    ]
    done = processings = kills = 0
    virtual_s = 0.0
    prepare()
    # Forked: what they share, and remove at the end, is that of this process.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for ran in pool.map(_run_seeds, chunks):
            for seed, violated, lasted_s, made, killed in ran:
                done += 1
                virtual_s, processings, kills = (
                    virtual_s + lasted_s,
                    processings + made,
                    kills + killed,
                )
                if violated:
                    failing.append(seed)
                    print(f"seed {seed} fails: {violated[0]}", flush=True)
            if time.monotonic() > printed_s + PRINTED_EVERY_S or done == number:
                printed_s = time.monotonic()
                rate = done / (printed_s - began_s)
                print(
                    f"{done} of {number} schedules, {rate:.1f} a second: {processings} "
                    f"processings, {kills} kills, {virtual_s / 3600:.1f} virtual hours, "
                    f"{len(failing)} failing",
                    flush=True,
                )
    return failing


def report(outcome: Outcome, *, shrinks: bool = True) -> str:
    """Return what fails in a schedule, how to replay it, and the smallest one that fails."""
    lines = [describe(outcome), f"replay: make simulate SEED={outcome.plan.seed} REPLAY=1"]
    if shrinks:
        smallest = run_plan(shrink(outcome.plan, lambda plan: bool(run_plan(plan).violations)))
        lines += ["the smallest schedule that fails:", describe(smallest, trace=True)]
    return "\n".join(lines)


def describe(outcome: Outcome, *, trace: bool = False) -> str:
    """Return a schedule and what does not hold in it."""
    return "\n".join(_lines(outcome.plan, outcome, trace=trace))


def _lines(plan: Plan, outcome: Outcome, *, trace: bool) -> Iterator[str]:
    conductors = "two conductors, " if plan.has_two_conductors else ""
    observations = f"{len(plan.observations)} observations"
    yield f"seed {plan.seed}: {conductors}{observations}, {len(plan.faults)} faults"
    yield from (f"  {each}" for each in plan.faults)
    if trace:
        yield from outcome.trace.lines
    yield f"trace {outcome.trace.digest}, {outcome.lasted_s:.0f} virtual s"
    yield from (f"VIOLATED: {each}" for each in outcome.violations)


def _run_seeds(seeds: range) -> list[tuple[int, tuple[str, ...], float, int, int]]:
    outcomes = [run_plan(plan_of(seed)) for seed in seeds]
    return [
        (each.plan.seed, each.violations, each.lasted_s, each.processings, each.kills)
        for each in outcomes
    ]


if __name__ == "__main__":
    sys.exit(main())
