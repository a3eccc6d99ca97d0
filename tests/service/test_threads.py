"""Work in threads ends before what it uses is closed."""

import asyncio
import threading

import pytest

from batuta.service.threads import ended_in_thread


async def test_what_a_thread_returns_or_raises_is_returned_or_raised() -> None:
    assert await ended_in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await ended_in_thread(divmod, 7, 0)


async def test_who_is_cancelled_waits_for_the_end_of_the_thread() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert may_end.wait(60)
        ended.append(True)

    task = asyncio.create_task(ended_in_thread(work))
    assert await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    await asyncio.to_thread(may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
