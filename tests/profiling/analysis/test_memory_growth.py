"""Leaks are told from noise."""

import numpy as np
import pytest
from scipy.stats import theilslopes

from batuta.profiling.analysis.memory_growth import MemoryGrowth, memory_growth
from batuta.profiling.capture.records import LeakRow
from batuta.profiling.files.schemas import leak_table, loop_table
from tests.profiling.profile_builder import MB, ProfileBuilder

RANDOM = np.random.default_rng(5)


def grown(builder: ProfileBuilder) -> tuple[MemoryGrowth, ...]:
    return memory_growth(loop_table(builder.loops), leak_table(builder.leaks))


def fitted(*series: list[float]) -> MemoryGrowth:
    builder = ProfileBuilder()
    for task, held in enumerate(series):
        builder.add_loops("match", held, task=task)
    (growth,) = grown(builder)
    return growth


def test_a_leak_is_named_with_its_slope_and_how_sure_it_is() -> None:
    noise = RANDOM.normal(0, 0.2 * MB, 20)
    growth = fitted([100 * MB + 3 * MB * n + noise[n] for n in range(20)])
    assert growth.leaks
    assert growth.slope_bytes == pytest.approx(3 * MB, rel=0.02)
    assert growth.low_bytes is not None
    assert growth.high_bytes is not None
    assert growth.low_bytes < 3 * MB < growth.high_bytes


def test_noise_is_no_leak() -> None:
    noise = RANDOM.normal(0, 5 * MB, (200, 10))
    growths = [fitted(list(100 * MB + noise[n])) for n in range(200)]
    # Both sides of 95 % together are 5 % wrong: growth that is none in about 2.5 % of them.
    assert sum(growth.leaks for growth in growths) <= 12


def test_a_cache_that_the_first_repetition_fills_is_no_leak() -> None:
    assert not fitted([10.0 * MB, *[60.0 * MB] * 9]).leaks


def test_one_jump_is_no_leak_and_moves_no_slope() -> None:
    growth = fitted([10.0 * MB] * 7 + [50.0 * MB] * 2)
    assert growth.slope_bytes == 0
    assert not growth.leaks


def test_the_bounds_are_those_of_sen() -> None:
    held = [float(value) for value in 1000 * np.arange(15) + RANDOM.normal(0, 4000, 15)]
    growth = fitted([0.0, *held])
    slope, _, low, high = theilslopes(held, np.arange(15), 0.95)
    assert (growth.slope_bytes, growth.low_bytes, growth.high_bytes) == pytest.approx(
        (slope, low, high), abs=1
    )


def test_few_repetitions_of_many_tasks_tell_a_leak_together() -> None:
    alone = fitted([100e4, 101e4, 102e4, 103e4])
    together = fitted(*([1e4 * (base + n) for n in range(4)] for base in (100, 900, 400, 200)))
    assert not alone.leaks
    assert together.leaks
    assert together.slope_bytes == 1e4
    assert together.tasks == 4


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_too_few_repetitions_tell_nothing(loops: int) -> None:
    growth = fitted([float(n) for n in range(loops)])
    assert growth.low_bytes is None
    assert not growth.leaks


def test_leaks_come_first_with_the_lines_that_memray_saw() -> None:
    builder = ProfileBuilder()
    builder.add_loops("read", [5.0] * 10)
    builder.add_loops("match", [5.0 + 1e4 * n for n in range(10)], task=1)
    for task, size in enumerate([900, 1000, 1100]):
        builder.leaks.append(LeakRow(task, "match", "w", "match.py", 12, "cost", size))
        builder.leaks.append(LeakRow(task, "match", "w", "match.py", 40, "merge", 10))
    match, read = grown(builder)
    assert (match.name, match.leaks, read.leaks) == ("match", True, False)
    assert [(line.line, line.bytes_per_loop) for line in match.lines] == [(12, 1000), (40, 10)]
    assert read.lines == ()
