"""Calling tasks under a profiler, one at a time."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batuta.profiling.capture import profiler
from batuta.profiling.capture.contract import CallLabel
from batuta.profiling.capture.layout import CPROFILE_FOLDER
from batuta.profiling.capture.options import ProfileOptions, Scope
from batuta.profiling.capture.profiler import PlainCaller, SerialCaller
from tests.profiling.profiled_tasks import (
    TaskRunner,
    calls_of,
    inner,
    work,
)


def runner_with(folder: Path, scope: Scope) -> TaskRunner:
    return TaskRunner(folder, ProfileOptions(mode="cprofile", scope=scope))


def profiles(folder: Path) -> list[Path]:
    return sorted((folder / CPROFILE_FOLDER).glob("*.prof"))


def test_a_task_called_by_a_task_is_profiled_as_a_part_of_it(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "task")

    def outer() -> int:
        value: int = runner.caller.call(CallLabel(8, "inside", 1), lambda: (work, (4,), {}))
        return value

    assert runner.caller.call(CallLabel(7, "outer", 1), lambda: (outer, (), {})) == work(4)
    (profile,) = profiles(tmp_path)
    assert profile.name == "000007-outer-1.prof"
    assert calls_of(profile, "inner") == 4


def test_threads_run_tasks_one_at_a_time(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")
    running: list[int] = []
    most: list[int] = []

    def task() -> None:
        running.append(1)
        for _ in range(50):
            os.sched_yield()
            most.append(len(running))
        running.pop()

    def run_tasks() -> None:
        for number in range(10):
            runner.caller.call(CallLabel(number, "task", 1), lambda: (task, (), {}))

    threads = [threading.Thread(target=run_tasks) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 4 * 10 * 50
    assert max(most) == 1


def test_a_flush_during_a_task_does_not_wait_and_is_done_when_the_task_ends(tmp_path: Path) -> None:
    runner = runner_with(tmp_path, "worker")

    def task() -> bool:
        other = threading.Thread(target=runner.caller.flush)
        other.start()
        other.join()
        inner(1)
        return profiles(tmp_path) == []

    assert runner.caller.call(CallLabel(0, "task", 1), lambda: (task, (), {}))
    (profile,) = profiles(tmp_path)
    assert calls_of(profile, "inner") == 1


class CountingCaller(PlainCaller):
    """Counts how often it is flushed."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


class InterruptedLock:
    """A lock whose holder is interrupted by another thread just before it releases it."""

    def __init__(self) -> None:
        self.interruption: Callable[[], None] | None = None
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        if self.interruption is not None:
            other = threading.Thread(target=self.interruption)
            self.interruption = None
            other.start()
            other.join()
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@pytest.mark.parametrize("act", ["call", "on_idle"])
def test_a_flush_requested_just_before_the_lock_is_released_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    lock, counting = InterruptedLock(), CountingCaller()
    monkeypatch.setattr(profiler, "threading", SimpleNamespace(RLock=lambda: lock))
    caller = SerialCaller(counting)
    acts: dict[str, Callable[[], Any]] = {
        "call": lambda: caller.call(CallLabel(0, "work", 1), lambda: (work, (1,), {})),
        "on_idle": caller.on_idle,
    }
    lock.interruption = caller.flush
    acts[act]()
    assert counting.flushes == 1
