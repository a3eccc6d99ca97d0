"""Work in threads, which ends before what it uses is closed."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


async def ended_in_thread(work: Callable[..., T], *args: object) -> T:
    """Return what `work` returns in a thread; once that has ended, also where this is cancelled.

    A thread cannot be stopped. A request that is cancelled, as the service stops, must not close a
    file meanwhile: the thread would go on with whatever the system opens next under its number.
    """
    working = asyncio.create_task(run_in_threadpool(work, *args))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise
