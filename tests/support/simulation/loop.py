"""An event loop in virtual time, with processes that can be killed and threads that are greenlets.

When nothing is ready, the clock jumps to the next timer: hours pass in milliseconds. Callbacks are
called in the order in which they are registered, as asyncio promises within a process; what comes
from outside of one (a disk, a network, another process) takes a time that the seed draws, and so
comes in any order.
"""

import asyncio
import contextvars
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar, cast

from greenlet import getcurrent, greenlet

T = TypeVar("T")

START_S: Final = 1_000.0
THREAD_MAX_S: Final = 0.004
"""How long a thread takes to begin, and its result to be noticed, at most."""
SLOW_THREAD_S: Final = 0.2
"""How long one in twenty takes: a disk that is busy."""
MAX_CLOSING_STEPS: Final = 10_000


class Process:
    """One life of a service: all that it runs ends when it is killed, at once and silently."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.ended = False
        self.is_paused = False
        self.deferred: list[events.Handle] = []
        """What was to be called while it was paused."""
        self.tasks: list[asyncio.Task[Any]] = []
        self.threads: set[Thread] = set()
        self.frozen: list[events.Handle] = []
        """What was to be called when it was killed: called at the end, to release what it holds."""
        self.on_kill: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return self.name

    def takes(self, handle: events.Handle) -> bool:
        """Return whether a callback of it is to be called now; otherwise it is kept."""
        if self.alive and self.is_paused:
            self.deferred.append(handle)
        elif not self.alive:
            self.frozen.append(handle)
        return self.alive and not self.is_paused

    def kill(self) -> None:
        """Let nothing of it run any more."""
        if self.alive:
            self.alive = False
            for each in self.on_kill:
                each()


PROCESS: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar(
    "process", default=None
)


def context_of(process: Process) -> contextvars.Context:
    """Return a context in which all that is called belongs to a process."""
    context = contextvars.Context()
    context.run(PROCESS.set, process)
    return context


class _Handle(events.Handle):
    """A callback of a process: called while that is alive."""

    __slots__ = ("process",)

    process: Process | None

    def _run(self) -> None:
        if self.process is None or self.process.takes(self):
            super()._run()


class _TimerHandle(events.TimerHandle):
    """A timer of a process; both kinds have slots, so that they cannot share this in a class."""

    __slots__ = ("process",)

    process: Process | None

    def _run(self) -> None:
        if self.process is None or self.process.takes(self):
            super()._run()


class SimulationEndedError(BaseException):
    """Raised in what still waits when a simulation ends."""


class Thread:
    """A function that blocks, in a greenlet; made by `SimulationLoop.run_in_executor`."""

    def __init__(self, loop: "SimulationLoop", func: Callable[[], Any]) -> None:
        self.loop = loop
        self.process = PROCESS.get()
        self._greenlet = greenlet(partial(_until_stopped, func), parent=loop.hub)
        self._greenlet.gr_context = contextvars.copy_context()

    def run(self) -> None:
        """Run it until it blocks, or ends."""
        if self.process is not None:
            self.process.threads.add(self)
        self._step(self._greenlet.switch)

    def block(self, future: "asyncio.Future[T]") -> T:
        """Wait for a future; called by the function itself."""
        if not future.done():
            future.add_done_callback(lambda _: self._step(self._greenlet.switch))
            self.loop.hub.switch()
        return future.result()

    def freeze(self) -> None:
        """Never return: the process was killed here."""
        self.loop.hub.switch()

    def stop(self) -> None:
        """End it where it blocks, as a kill of the process that it stands for."""
        if not self._greenlet.dead:
            self._step(lambda: self._greenlet.throw(SimulationEndedError()))

    def _step(self, step: Callable[[], Any]) -> None:
        if self._greenlet.dead:
            return  # it was stopped while it waited
        THREADS[self._greenlet] = self
        step()
        if self._greenlet.dead:
            del THREADS[self._greenlet]
            if self.process is not None:
                self.process.threads.discard(self)


def _until_stopped(func: Callable[[], Any]) -> None:
    with suppress(SimulationEndedError):
        func()


THREADS: Final[dict[greenlet, Thread]] = {}


def current_thread() -> Thread | None:
    """Return the simulated thread that is running; None in the event loop itself."""
    return THREADS.get(getcurrent())


class _Selector:
    """Waits for nothing but time."""

    def __init__(self, loop: "SimulationLoop") -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[object]:
        if timeout_s is None:
            raise RuntimeError("simulation: nothing is ready, and no timer is set")
        self._loop.advance(timeout_s)
        return []


class SimulationLoop(asyncio.BaseEventLoop):
    """An event loop whose time is virtual.

    Parameters
    ----------
    chance : random.Random
        Draws how long what comes from outside takes.
    """

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._now_s = START_S
        self._clock_resolution = 1e-9
        self._selector = _Selector(self)
        self.chance = chance
        self.hub = getcurrent()
        self._busy: dict[Executor, deque[Thread]] = {}
        self.at_point: Callable[[str], bool] = lambda _: False
        """Called at each point at which a process may be killed; whether it was."""
        self.set_task_factory(cast(Any, _make_task))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += max(seconds, 0.0)

    def call_at(  # type: ignore[override]  # the types of asyncio's own are private
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _TimerHandle(when, callback, args, self, context)
        handle.process = _process_of(context)
        heapq.heappush(self._scheduled, handle)  # type: ignore[attr-defined]
        handle._scheduled = True  # type: ignore[attr-defined]
        return handle

    def _call_soon(
        self, callback: Callable[..., object], args: Any, context: contextvars.Context | None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        handle.process = _process_of(context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def _process_events(self, _event_list: list[object]) -> None:
        """There are none: nothing comes from a file descriptor."""

    def _write_to_self(self) -> None:
        """Wake nobody: there is one thread."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Run a function in a simulated thread, after those that an executor of one thread has."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            outcome = _call(func, args)
            point(self, "thread")
            self.call_later(self.delay_s(), _settle, future, outcome)
            self._next_of(executor)

        thread = Thread(self, work)
        if isinstance(executor, ThreadPoolExecutor) and executor._max_workers == 1:
            if executor in self._busy:
                self._busy[executor].append(thread)
                return future
            self._busy[executor] = deque()
        self.call_later(self.delay_s(), thread.run)
        return future

    def _next_of(self, executor: Executor | None) -> None:
        if executor in self._busy:
            waiting = self._busy[executor]
            if waiting:
                self.call_later(self.delay_s(), waiting.popleft().run)
            else:
                del self._busy[executor]

    def delay_s(self) -> float:
        """Draw how long a thread takes to begin, or to be noticed."""
        chance = self.chance
        return chance.random() * (SLOW_THREAD_S if chance.random() < 0.05 else THREAD_MAX_S)

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run a coroutine in a process."""
        return self.create_task(work, context=context_of(process))

    def resume(self, process: Process) -> None:
        """Let a process that was paused go on where it was."""
        process.is_paused = False
        for handle in process.deferred:
            self._ready.append(handle)  # type: ignore[attr-defined]
        process.deferred.clear()

    def release(self, processes: list[Process]) -> None:
        """End all that is left of processes, so that what they hold is closed."""
        for process in processes:
            process.ended = process.alive = True
            self.resume(process)
            for thread in [*process.threads]:
                thread.stop()
            for handle in process.frozen:
                self._ready.append(handle)  # type: ignore[attr-defined]
            process.frozen.clear()
        left = {task for process in processes for task in process.tasks if not task.done()}
        for _ in range(MAX_CLOSING_STEPS):
            left = {task for task in left if not task.done()}
            if not left:
                return
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.sleep(1))


def _call(func: Callable[..., T], args: tuple[Any, ...]) -> tuple[T | None, Exception | None]:
    try:
        return func(*args), None
    except Exception as exc:  # noqa: BLE001  raised again in whoever awaits it
        return None, exc


def _settle(future: "asyncio.Future[Any]", outcome: tuple[Any, Exception | None]) -> None:
    result, exc = outcome
    if future.done():
        return
    if exc is None:
        future.set_result(result)
    else:
        future.set_exception(exc)


def _make_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    context: contextvars.Context | None = None,
) -> "asyncio.Task[T]":
    task = asyncio.Task(work, loop=loop, context=context)
    process = _process_of(context)
    if process is not None:
        if len(process.tasks) > 256:
            process.tasks = [each for each in process.tasks if not each.done()]
        process.tasks.append(task)
    return task


def _process_of(context: contextvars.Context | None) -> Process | None:
    return PROCESS.get() if context is None else context.get(PROCESS, None)


def point(loop: SimulationLoop, kind: str) -> None:
    """Mark a point at which the process that runs may be killed; in a thread, it never returns."""
    if loop.at_point(kind):
        thread = current_thread()
        if thread is not None:
            thread.freeze()


async def checkpoint(loop: SimulationLoop, kind: str) -> None:
    """Mark a point at which the process that runs may be killed; then it never returns."""
    if loop.at_point(kind):
        await loop.create_future()


def running_loop() -> SimulationLoop:
    """Return the loop of the simulation that runs."""
    return cast(SimulationLoop, asyncio.get_running_loop())


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine, from a simulated thread."""
    thread = current_thread()
    if thread is None:
        work.close()
        raise RuntimeError("simulation: what blocks is called in the event loop")
    return thread.block(thread.loop.create_task(work))
