"""Whose turn it is to be drawn: what was asked for last, however many wait."""

import asyncio
from collections.abc import Iterable

from batuta.sdb.drawing_queue import DrawingQueue


class Drawings:
    """Drawings that take turns, and end when they are told."""

    def __init__(self, queue: DrawingQueue) -> None:
        self.queue = queue
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._ends[key] = asyncio.Event()
            self.tasks[key] = asyncio.create_task(self._draw(key))
            await settled()

    async def end(self, key: str) -> None:
        self._ends[key].set()
        await self.tasks[key]
        await settled()

    async def _draw(self, key: str) -> None:
        async with self.queue.turn(key):
            self.begun.append(key)
            await self._ends[key].wait()


async def settled() -> None:
    """Let all that can go on do so: nothing here waits for anything but its turn."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_few_run_at_once_and_what_was_asked_for_last_is_the_next() -> None:
    drawings = Drawings(DrawingQueue(2, 10))
    await drawings.ask("abcde")
    assert drawings.begun == ["a", "b"]
    await drawings.end("a")
    assert drawings.begun == ["a", "b", "e"]
    await drawings.end("b")
    await drawings.end("e")
    assert drawings.begun == ["a", "b", "e", "d", "c"]


async def test_what_is_asked_for_again_is_the_next() -> None:
    drawings = Drawings(DrawingQueue(1, 10))
    await drawings.ask("abcd")
    for key in ("b", "a", "unknown"):
        drawings.queue.ask_again(key)
    await drawings.end("a")
    assert drawings.begun == ["a", "b"]


async def test_of_more_than_may_wait_what_was_asked_for_longest_ago_is_cancelled() -> None:
    drawings = Drawings(DrawingQueue(1, 2))
    await drawings.ask("abcd")
    assert [key for key, task in drawings.tasks.items() if task.cancelled()] == ["b"]
    for key in "adc":
        await drawings.end(key)
    assert drawings.begun == ["a", "d", "c"]


async def test_a_turn_is_not_lost_with_one_who_was_cancelled() -> None:
    drawings = Drawings(DrawingQueue(1, 10))
    async with drawings.queue.turn("a"):
        await drawings.ask("bc")
    # Its turn has come, and it has not run yet.
    drawings.tasks["c"].cancel()
    await settled()
    assert drawings.begun == ["b"]
    drawings.tasks["b"].cancel()
    await drawings.ask("d")
    assert drawings.begun == ["b", "d"]
