"""The longest chain, and what a perfect schedule would have taken."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.profiling.analysis.schedule import SimulatedSchedule
from batuta.profiling.files.task_graph import graph_of
from tests.profiling.profile_builder import ProfileBuilder, TaskSpec, simulate_run


def schedule_of(works: list[TaskSpec]) -> SimulatedSchedule:
    builder = ProfileBuilder()
    for number, work in enumerate(works):
        builder.add(work, task=number)
    return SimulatedSchedule(
        graph_of(builder.task_table()), np.array([work.wall_s for work in works])
    )


def test_tasks_without_order_share_out_evenly() -> None:
    schedule = schedule_of([TaskSpec()] * 100)
    assert [schedule.makespan_s(n) for n in (1, 2, 7, 8, 100, 1000)] == [100, 50, 15, 13, 1, 1]


def test_a_chain_takes_its_length_on_any_number_of_workers() -> None:
    schedule = schedule_of([TaskSpec(wall_s=2, after=[n - 1] if n else []) for n in range(10)])
    assert [schedule.makespan_s(n) for n in (1, 2, 9)] == [20, 20, 20]
    assert schedule.critical_s == 20
    assert schedule.critical_path() == list(range(10))


def test_the_longest_chain_is_by_time_not_by_number() -> None:
    works = [
        TaskSpec(wall_s=1),
        TaskSpec(wall_s=9),
        TaskSpec(wall_s=1, after=[0]),
        TaskSpec(after=[1]),
    ]
    assert schedule_of(works).critical_path() == [1, 3]


def test_a_straggler_is_begun_first() -> None:
    schedule = schedule_of([TaskSpec()] * 20 + [TaskSpec(wall_s=10)])
    assert schedule.makespan_s(3) == 10


def test_a_task_begins_when_all_that_it_takes_is_there() -> None:
    works = [TaskSpec(wall_s=1), TaskSpec(wall_s=3), TaskSpec(wall_s=2, after=[0, 1])]
    assert schedule_of(works).makespan_s(2) == 5


def test_a_result_that_is_taken_twice_is_waited_for_once() -> None:
    assert schedule_of([TaskSpec(), TaskSpec(), TaskSpec(after=[0, 0])]).makespan_s(2) == 2


@pytest.mark.parametrize(("limit_s", "fewest"), [(100, 1), (50, 2), (14, 8), (1, 100), (0.5, 100)])
def test_the_fewest_workers_that_are_fast_enough(limit_s: float, fewest: int) -> None:
    assert schedule_of([TaskSpec()] * 100).fewest_workers(limit_s, 100) == fewest


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.lists(st.integers(1, 6), max_size=3)),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 6),
)
@settings(deadline=None)
def test_a_schedule_keeps_to_its_bounds(drawn: list[tuple[int, list[int]]], workers: int) -> None:
    works = [
        TaskSpec(wall_s=wall, after=[number - back for back in backs if back <= number])
        for number, (wall, backs) in enumerate(drawn)
    ]
    schedule = schedule_of(works)
    shared_s, took_s = schedule.work_s / workers, schedule.makespan_s(workers)
    assert max(shared_s, schedule.critical_s) <= took_s + 1e-9
    assert took_s <= shared_s + schedule.critical_s * (1 - 1 / workers) + 1e-9
    path = schedule.critical_path()
    assert sum(works[task].wall_s for task in path) == schedule.critical_s
    assert all(before in works[task].after for before, task in itertools.pairwise(path))


@pytest.mark.parametrize(("limit_s", "fewest"), [(110, 1), (30, 5), (15, 20), (11, 100)])
def test_what_all_wait_for_is_no_work_to_share(limit_s: float, fewest: int) -> None:
    schedule = schedule_of([TaskSpec(wall_s=10), *[TaskSpec(after=[0])] * 100])
    assert schedule.fewest_workers(limit_s, 101) == fewest


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 30))
@settings(deadline=None)
def test_the_fewest_workers_do_and_one_less_does_not(walls: list[int], workers: int) -> None:
    chained = [
        TaskSpec(wall_s=wall, after=[n - 3] if n >= 3 else []) for n, wall in enumerate(walls)
    ]
    schedule = schedule_of(chained)
    limit_s = schedule.makespan_s(workers)
    fewest = schedule.fewest_workers(limit_s, len(walls))
    assert schedule.makespan_s(fewest) <= limit_s
    assert fewest == 1 or schedule.makespan_s(fewest - 1) > limit_s


def test_a_table_that_says_that_tasks_wait_for_each_other_is_scheduled_all_the_same() -> None:
    works = [TaskSpec(after=[1, 0]), TaskSpec(wall_s=2, after=[0])]
    schedule = schedule_of(works)
    assert schedule.critical_path() == [0, 1]
    assert schedule.makespan_s(2) == 3


def test_the_attempt_that_gave_the_result_is_what_a_schedule_counts() -> None:
    builder = simulate_run(
        [TaskSpec(wall_s=1, outcomes=["lost", "done"]), TaskSpec(wall_s=4)], workers=1
    )
    row = builder.rows[0]
    builder.rows[0] = row._replace(measure=row.measure._replace(wall_s=600))
    schedule = builder.analysis().schedule
    assert schedule.work_s == pytest.approx(5)
    assert schedule.critical_s == pytest.approx(4)


def test_the_steps_of_the_longest_chain_are_named_with_their_tiles() -> None:
    works = [
        TaskSpec(name="model"),
        TaskSpec(name="match", after=[0], tile=("dsm", 2, 3)),
        TaskSpec(),
    ]
    path = simulate_run(works, workers=1).analysis().schedule.critical_path
    assert [(step.name, step.dataset, step.row, step.col) for step in path] == [
        ("model", "dsm", 2, 3),
        ("match", "dsm", 2, 3),
    ]
