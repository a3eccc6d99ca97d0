"""Fixtures of the tests of what runs in workers."""

import threading
from typing import Any

import memray
import pytest


@pytest.fixture
def memray_failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list of messages: memray fails to start with each, half-way, as it does at times."""
    messages: list[str] = []
    start = memray.Tracker.__enter__

    def enter(tracker: Any) -> Any:
        if not messages:
            return start(tracker)
        threading.Thread._name = messages[0]  # type: ignore[attr-defined]  # as memray patches it
        raise SystemError(messages.pop())

    class FailingTracker(memray.Tracker):
        __enter__ = enter

    monkeypatch.setattr("batuta.profiling.capture.memray.Tracker", FailingTracker)
    return messages
