"""The benchmark of empty tasks beside those of others, on the sides that are installed here."""

from pathlib import Path

import pytest

from benchmarks.task_peers import __main__ as table
from benchmarks.task_peers.sides import SIDES


@pytest.mark.parametrize("side", ["batuta", "concurrent.futures"])
def test_a_side_runs_all_tasks(side: str, tmp_path: Path) -> None:
    with SIDES[side](tmp_path) as run:
        run(20)


def test_a_peer_has_a_line_without_and_with_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TURNS", {40: 1})
    running, whole = table.measure(40, ["concurrent.futures"])
    assert running.against.startswith("concurrent.futures: ")
    assert whole.what == "an empty task, of 40, start and end included"
    assert running.ratio is not None
    assert whole.ratio is not None


def test_a_peer_is_measured_for_as_many_tasks_as_it_can_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "TURNS", {40: 1, 20: 1})
    monkeypatch.setattr(table, "MOST", {"concurrent.futures": 20})
    running, _ = table.measure(40, ["concurrent.futures"])
    assert running.against.startswith("concurrent.futures, of 20: ")
