"""Waiting for something to become true, with a deadline, and without sleeping blindly."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02
MAX_POLL_S = 1.0


def _pause_s(began: float) -> float:
    """Return how long to wait after a probe: longer after one that is itself work."""
    return min(max(POLL_S, 4 * (time.monotonic() - began)), MAX_POLL_S)


async def eventually(probe: Callable[[], Awaitable[T]], timeout_s: float = 20.0) -> T:
    """Return the first true value of `probe`; fail with its last value after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        value = await probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {timeout_s:g} s: {probe} gave {value!r}")
        await asyncio.sleep(_pause_s(began))


def eventually_sync(probe: Callable[[], T], timeout_s: float = 20.0) -> T:
    """`eventually`, for code that does not run in an event loop."""
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {timeout_s:g} s: {probe} gave {value!r}")
        time.sleep(_pause_s(began))
