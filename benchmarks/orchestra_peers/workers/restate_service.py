"""The workflows of Restate: three levels, each recorded before the next one begins.

``steps`` makes them itself; ``calls`` asks a service for each, as other processes would serve it.
"""

from functools import partial
from typing import Any

import restate

from benchmarks.orchestra_peers.step import LEVELS, Step

STEP = Step()
STEPS, CALLS = restate.Workflow("steps"), restate.Workflow("calls")
MAKER = restate.Service("maker")


async def make(ctx: Any, wanted: dict[str, str]) -> str:
    """Make one product, as a service."""
    digest: str = await ctx.run_typed("make", partial(STEP.make, **wanted))
    return digest


MAKE = MAKER.handler()(make)


async def run_steps(ctx: Any, obs_id: str) -> None:
    """Make the three levels of an observation."""
    for product in LEVELS:
        await ctx.run_typed(product, partial(STEP.make, product, obs_id))


async def run_calls(ctx: Any, obs_id: str) -> None:
    """Ask for the three levels of an observation."""
    for product in LEVELS:
        await ctx.service_call(MAKE, {"product": product, "obs_id": obs_id})


STEPS.main("run")(run_steps)
CALLS.main("run")(run_calls)
app = restate.app([STEPS, CALLS, MAKER])
