"""The profiles of cProfile in a folder: which task each is of, and their sums."""

import cProfile
import os
from pathlib import Path

import pytest

from batuta.profiling.capture.contract import CallLabel
from batuta.profiling.capture.layout import process_stem, task_stem
from batuta.profiling.capture.records import WorkerId
from batuta.profiling.merge.cprofile import read_times


def profiled(path: Path) -> None:
    """Write a profile of next to nothing."""
    with cProfile.Profile() as profile:
        sorted([2, 1])
    profile.dump_stats(path)


@pytest.mark.parametrize("random_part", [b"\x12\x34\x56", b"\xab\xcd\xef", b"\x00\x00\x00"])
def test_a_process_is_not_taken_for_a_task_whatever_its_random_part(
    random_part: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "urandom", lambda _: random_part)
    stem = process_stem(WorkerId("0, process 1234", "north", 1234))
    profiled(tmp_path / f"{stem}.prof")
    profiled(tmp_path / f"{task_stem(CallLabel(number=7, name='slope', attempt=1))}.prof")
    times, notes = read_times(tmp_path, None)
    assert not notes
    assert [each.task for each in times] == [None, "slope"]
