"""What a profile tells: names, lanes, lost time, tiles."""

import math
from dataclasses import replace

import numpy as np
import pytest

from batuta.profiling.analysis.analyse import ProfileAnalysis
from batuta.profiling.capture.records import WorkerId
from tests.profiling.profile_builder import (
    BEGIN_S,
    MB,
    ProfileBuilder,
    TaskSpec,
    make_grid,
    make_run,
    simulate_run,
)


def analysis(builder: ProfileBuilder) -> ProfileAnalysis:
    return builder.analysis()


def test_each_name_has_its_counts_times_and_memory_what_took_most_first() -> None:
    works = [
        TaskSpec(name="read", wall_s=0.5, cpu_share=0.2, peak_mb=50),
        TaskSpec(name="match", wall_s=2, outcomes=["lost", "done"], peak_mb=700),
        TaskSpec(name="match", wall_s=4, peak_mb=900),
    ]
    match, read = analysis(simulate_run(works)).names
    assert (match.name, match.tasks, match.attempts, match.not_done) == ("match", 2, 3, 1)
    assert (match.total_s, match.median_s, match.max_s) == (8, 2, 4)
    assert match.peak_bytes == 900 * MB
    assert read.name == "read"
    assert read.cpu_share == pytest.approx(0.2)
    assert (match.bytes_in, match.bytes_out) == (3000, 6000)


def test_what_was_not_measured_is_not_known_rather_than_zero() -> None:
    builder = ProfileBuilder()
    builder.add(TaskSpec(), waiting_s=None)
    row = builder.rows[0]
    builder.rows[0] = row._replace(measure=row.measure._replace(bytes_in=None, bytes_out=None))
    (name,) = analysis(builder).names
    assert (name.bytes_in, name.bytes_out, name.waiting_s) == (None, None, None)


def test_hundreds_of_renewed_processes_pass_through_as_many_lanes_as_places() -> None:
    found = analysis(
        simulate_run([TaskSpec(wall_s=0.1)] * 2000, workers=2, gap_s=0.01, renewed_after=10)
    )
    assert [lane.processes for lane in found.lanes] == [100, 100]
    assert [lane.attempts for lane in found.lanes] == [1000, 1000]
    assert found.workers == 2


def test_processes_that_live_at_the_same_time_are_in_different_lanes() -> None:
    builder = ProfileBuilder(make_run(nb_workers=None))
    for pid, start_s in enumerate([0, 0.5, 1.0, 1.6]):
        builder.add(TaskSpec(wall_s=1), start_s=start_s, worker=WorkerId(f"p{pid}", "north", pid))
    found = analysis(builder)
    lanes = found.attempts.groupby("lane")["process"].unique()
    assert [list(processes) for processes in lanes] == [[0, 2], [1, 3]]
    assert found.workers == 2


@pytest.mark.parametrize(("asked", "lanes"), [(1, 1), (2, 2), (None, 2)])
def test_a_renewed_process_that_begins_while_its_predecessor_ends_follows_it_in_its_lane(
    asked: int | None, lanes: int
) -> None:
    builder = ProfileBuilder(make_run(nb_workers=asked))
    for pid in range(3):
        for task in range(10):
            start_s = 0.95 * pid + 0.1 * task
            builder.add(
                TaskSpec(wall_s=0.1), start_s=start_s, worker=WorkerId(f"p{pid}", "north", pid)
            )
    assert len(analysis(builder).lanes) == lanes


def test_processes_that_live_side_by_side_are_more_lanes_than_were_asked_for() -> None:
    builder = ProfileBuilder(make_run(nb_workers=1))
    for pid in range(2):
        builder.add(TaskSpec(wall_s=1), start_s=0.5 * pid, worker=WorkerId(f"p{pid}", "north", pid))
    found = analysis(builder)
    assert (len(found.lanes), found.workers) == (2, 2)


def test_a_lane_stays_on_its_machine() -> None:
    builder = ProfileBuilder(make_run(nb_workers=None))
    builder.add(TaskSpec(wall_s=1), worker=WorkerId("a", "north", 1))
    builder.add(TaskSpec(wall_s=1), start_s=5, worker=WorkerId("b", "south", 1))
    assert [lane.host for lane in analysis(builder).lanes] == ["north", "south"]


def test_the_parts_of_the_time_of_workers_add_up_to_all_of_it() -> None:
    works = [TaskSpec(wall_s=w / 7, outcomes=["failed", "done"][w % 2 :]) for w in range(1, 60)]
    builder = simulate_run(works, workers=3, gap_s=0.05)
    builder.run = replace(
        builder.run,
        started_s=BEGIN_S - 2,
        ended_s=(builder.run.ended_s or 0) + 3,
        nb_workers=4,
    )
    found = analysis(builder)
    assert found.worker_time.total_s == pytest.approx(found.span_s * 4)
    assert found.worker_time.unused_s == pytest.approx(found.span_s)
    assert found.worker_time.failed_s == pytest.approx(sum(w / 7 for w in range(2, 60, 2)))
    assert found.worker_time.starting_s == pytest.approx(3 * 2.05)


def test_a_gap_is_delay_where_some_task_could_have_run_else_starvation() -> None:
    builder = ProfileBuilder(make_run(nb_workers=1, ended_s=BEGIN_S + 10))
    builder.add(TaskSpec(wall_s=1), start_s=0)
    builder.add(TaskSpec(wall_s=1), start_s=5, waiting_s=3)  # it could run from 2 on; free since 1
    builder.add(TaskSpec(wall_s=1), start_s=9, waiting_s=0)
    worker_time = analysis(builder).worker_time
    assert worker_time.delayed_s == pytest.approx(3)
    assert worker_time.starved_s == pytest.approx(1 + 3)


def test_waits_within_waits_count_once() -> None:
    builder = ProfileBuilder(make_run(nb_workers=1, ended_s=BEGIN_S + 12))
    builder.add(TaskSpec(wall_s=1), start_s=0)
    for start_s, waiting_s in [(6, 1), (9, 8.5), (11, 0)]:
        builder.add(TaskSpec(wall_s=1), start_s=start_s, waiting_s=waiting_s)
    worker_time = analysis(builder).worker_time
    assert worker_time.delayed_s == pytest.approx(5 + 2)  # up to 9, some task could have run
    assert worker_time.starved_s == pytest.approx(1)


def test_tasks_that_wait_while_all_workers_work_lose_nothing() -> None:
    worker_time = analysis(simulate_run([TaskSpec()] * 20, workers=2)).worker_time
    assert worker_time.idle_s == pytest.approx(0)
    assert worker_time.worked_s == pytest.approx(20)


def test_the_longest_gap_between_two_tasks_of_a_lane_is_found() -> None:
    builder = ProfileBuilder(make_run(nb_workers=1))
    for start_s in (0, 2, 7.5):
        builder.add(TaskSpec(wall_s=1), start_s=start_s)
    (lane,) = analysis(builder).lanes
    assert lane.longest_gap_s == pytest.approx(4.5)
    assert lane.busy_s == pytest.approx(3)


def test_a_tile_has_the_time_of_all_its_tasks_and_their_highest_peak() -> None:
    works = [
        TaskSpec(wall_s=1, peak_mb=800),
        TaskSpec(wall_s=2, after=[0], tile=("dsm", 1, 2), peak_mb=300, outcomes=["failed", "done"]),
        TaskSpec(wall_s=3, tile=("dsm", 0, 0)),
    ]
    builder = simulate_run(works)
    builder.run = replace(builder.run, grids=(make_grid("dsm", 2, 3),))
    (grid,) = analysis(builder).tiles
    assert grid.wall_s.shape == (2, 3)
    assert grid.wall_s[1, 2] == pytest.approx(1 + 2 + 2)
    assert grid.peak_bytes[1, 2] == 800 * MB
    assert grid.ran == 2
    assert np.isnan(grid.wall_s[0, 1])
    assert [(tile.row, tile.col) for tile in grid.slowest(5)] == [(1, 2), (0, 0)]


def test_a_grid_that_the_run_does_not_tell_is_as_large_as_its_tiles() -> None:
    (grid,) = analysis(simulate_run([TaskSpec(tile=("dsm", 3, 1))])).tiles
    assert grid.wall_s.shape == (4, 2)
    assert grid.tile_px is None


def test_a_run_that_has_not_ended_lasts_until_its_last_task() -> None:
    builder = simulate_run([TaskSpec(wall_s=2)] * 3, workers=1, state="running", ended_s=None)
    found = analysis(builder)
    assert not found.ended
    assert found.span_s == pytest.approx(6)


def test_a_profile_without_tasks_has_figures_too() -> None:
    found = analysis(ProfileBuilder())
    assert (found.names, found.lanes, found.tiles, found.advice) == ((), (), (), ())
    assert found.schedule.perfect_s == 0
    assert found.worker_time.unused_s == pytest.approx(2 * 60)


def test_tasks_that_all_failed_are_no_work_and_give_no_advice() -> None:
    works = [TaskSpec(outcomes=["failed", "failed"], tile=("dsm", 0, n)) for n in range(3)]
    found = analysis(simulate_run(works))
    assert found.worker_time.worked_s == 0
    assert found.worker_time.failed_s == pytest.approx(6)
    assert found.advice == ()


def test_a_task_of_no_time_at_all_divides_nothing_by_zero() -> None:
    found = analysis(simulate_run([TaskSpec(wall_s=0)], ended_s=BEGIN_S))
    assert found.names[0].cpu_share == 0
    assert not math.isnan(found.worker_time.total_s)
