"""memray that cannot begin: tasks run all the same, and later ones are seen again."""

import threading
from pathlib import Path
from typing import Any

import memray
import pytest

from batuta.profiling.capture.layout import MEMRAY_FOLDER
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.merge.memray import read_peaks
from tests.profiling.looked_at import Bench, allocates, leaks

MB = 1_000_000


@pytest.fixture
def stumbling(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have memray fail as it does at times, once for each item of the list, half-way."""
    left: list[str] = []
    begin = memray.Tracker.__enter__

    def enter(tracker: Any) -> Any:
        if not left:
            return begin(tracker)
        threading.Thread._name = left[0]  # type: ignore[attr-defined]  # as memray patches it
        raise SystemError(left.pop())

    class Stumbling(memray.Tracker):
        __enter__ = enter

    monkeypatch.setattr("batuta.profiling.capture.memray.Tracker", Stumbling)
    return left


@pytest.mark.parametrize("scope", ["worker", "task"])
def test_a_task_over_which_memray_stumbles_runs_and_the_next_is_seen(
    scope: Any, stumbling: list[str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, ProfileOptions(mode="memray", scope=scope))
    stumbling.append("codeobject.c:1349")
    assert bench.run(allocates, 3) == 3 * MB
    assert not hasattr(threading.Thread, "_name")
    assert bench.run(allocates, 20) == 20 * MB
    bench.caller.flush()
    peaks, notes = read_peaks(tmp_path / MEMRAY_FOLDER)
    assert [peak.peak_bytes > 20 * MB for peak in peaks] == [True]
    assert notes == (
        "allocates was not profiled: memray could not start: codeobject.c:1349 (1 times)",
    )


def test_repetitions_over_which_memray_stumbles_go_on_without(
    stumbling: list[str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, ProfileOptions(mode="memray", loops=7))
    stumbling.append("codeobject.c:1349")
    assert len(bench.run(leaks, 10)) == 10
    bench.caller.flush()
    assert not bench.sink.collect_leaks()
    assert bench.sink.collect_loops()
    _, notes = read_peaks(tmp_path / MEMRAY_FOLDER)
    assert "leaks was not profiled" in notes[0]
