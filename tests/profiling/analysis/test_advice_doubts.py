"""No advice from figures that are those of a part of a run, or contradict each other."""

from typing import Any

import pytest

from batuta.profiling.capture.records import WorkerId
from batuta.profiling.files.run_info import RunState
from tests.profiling.profile_builder import ProfileBuilder, TaskSpec, make_run


def only_reason(builder: ProfileBuilder) -> str:
    (advice,) = builder.analysis().advice
    assert advice.proposed is None
    return advice.reason


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"state": RunState.RUNNING, "ended_s": None}, "The run has not ended."),
        (
            {"state": RunState.FAILED, "tiles_total": 1600, "tiles_done": 3},
            "3 of 1,600 tiles were computed in this run.",
        ),
        (
            {"tiles_total": 1600, "tiles_done": 1600, "tiles_kept": 1597},
            "3 of 1,600 tiles were computed in this run.",
        ),
    ],
)
def test_a_part_of_a_run_calls_for_nothing(changed: dict[str, Any], reason: str) -> None:
    builder = ProfileBuilder(run=make_run(nb_workers=16, cores=16, **changed))
    for number in range(3):
        builder.add(TaskSpec(wall_s=5.0), start_s=1 + 5 * number)
    assert only_reason(builder) == reason


def test_clocks_that_differ_call_for_nothing() -> None:
    builder = ProfileBuilder(run=make_run(tiles_total=0, tiles_done=0))
    for late_s, host in ((0.0, "here"), (3600.0, "there")):
        worker = WorkerId(f"worker {host}", host, 1)
        builder.add(TaskSpec(wall_s=10.0), start_s=1 + late_s, worker=worker)
    assert "the clocks of machines differ" in only_reason(builder)
