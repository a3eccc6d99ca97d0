"""The package `advice`: advice on runs for which the right one is known."""

from dataclasses import replace
from typing import Any

import pytest

from batuta.profiling.analysis.advice import Advice
from tests.profiling.profile_builder import (
    GB,
    MB,
    ProfileBuilder,
    TaskSpec,
    make_grid,
    simulate_run,
)

SUBJECTS = ("workers", "tiles", "memory")


def tiles(count: int, *, cols: int = 10, **work: Any) -> list[TaskSpec]:
    return [TaskSpec(tile=("dsm", n // cols, n % cols), **work) for n in range(count)]


def advised(builder: ProfileBuilder, rows: int = 10, cols: int = 10) -> dict[str, Advice]:
    builder.run = replace(builder.run, grids=(make_grid("dsm", rows, cols),))
    return dict(zip(SUBJECTS, builder.analysis().advice, strict=False))


def test_a_hundred_tiles_of_a_second_on_eight_cores_call_for_eight_workers() -> None:
    advice = advised(simulate_run(tiles(100), workers=2))["workers"]
    assert (advice.subject, advice.current) == ("nb_workers", "2")
    assert list(advice.values) == [8]
    assert "13.0 s on 8 workers and 50.0 s on 2" in advice.reason
    assert "8 cores" in advice.reason


def test_eight_workers_on_eight_cores_are_left() -> None:
    advice = advised(simulate_run(tiles(100), workers=8))["workers"]
    assert advice.proposed is None
    assert advice.verdict == "no change (8)"


def test_a_straggler_is_not_made_faster_by_workers() -> None:
    advice = advised(simulate_run([*tiles(20), TaskSpec(wall_s=30)], workers=8))["workers"]
    assert list(advice.values) == [2]
    assert "30.0 s on 2 workers and 30.0 s on 8" in advice.reason


def test_a_chain_needs_one_worker() -> None:
    chain = [TaskSpec(after=[n - 1] if n else []) for n in range(20)]
    assert list(advised(simulate_run(chain, workers=4))["workers"].values) == [1]


def test_memory_limits_the_workers_of_a_machine() -> None:
    builder = simulate_run(tiles(100, peak_mb=3000), workers=2, ram_bytes=10 * GB)
    advice = advised(builder)["workers"]
    assert list(advice.values) == [3]
    assert "10.0 GB of memory are enough for 3 workers of 3.00 GB" in advice.reason


def test_tasks_that_keep_several_cores_busy_limit_the_workers() -> None:
    advice = advised(simulate_run(tiles(100, cpu_share=3.9), workers=1))["workers"]
    assert list(advice.values) == [2]
    assert "3.9 cores" in advice.reason


def test_tasks_that_wait_for_a_disk_come_with_a_caution() -> None:
    advice = advised(simulate_run(tiles(100, cpu_share=0.1), workers=2))["workers"]
    assert "keeps only 0.10 cores busy" in advice.reason


def test_a_cluster_has_as_many_workers_as_there_is_work_for() -> None:
    advice = advised(simulate_run(tiles(100), workers=40, mode="slurm_dask"))["workers"]
    assert list(advice.values) == [100]


def test_a_run_on_ten_workers_predicts_nothing_of_more_than_forty() -> None:
    advice = advised(simulate_run(tiles(1000), workers=10, mode="slurm_dask"))["workers"]
    assert list(advice.values) == [38]
    assert "of more than 40, a run on 10 predicts nothing" in advice.reason


def test_the_only_process_is_advised_another_mode() -> None:
    advice = advised(simulate_run(tiles(100), workers=1, mode="sequential", nb_workers=1))[
        "workers"
    ]
    assert (advice.subject, advice.current) == ("mode", "sequential")
    assert advice.proposed == "multiprocessing, nb_workers 8"


def test_less_than_a_second_to_gain_is_no_reason_for_more_workers() -> None:
    assert advised(simulate_run(tiles(100, wall_s=0.01), workers=2))["workers"].proposed is None


def test_short_tasks_call_for_larger_tiles() -> None:
    builder = simulate_run(tiles(2500, cols=50, wall_s=0.005), workers=2, gap_s=0.005)
    advice = advised(builder, 50, 50)["tiles"]
    assert list(advice.values) == [2048, 2048]
    assert advice.proposed == "2048 x 2048 px"
    assert "5.00 ms on average, and 5.00 ms pass" in advice.reason


def test_larger_tiles_leave_enough_for_the_workers() -> None:
    builder = simulate_run(tiles(100, wall_s=0.005), workers=2, gap_s=0.005)
    assert list(advised(builder)["tiles"].values) == [1536, 1536]


def test_larger_tiles_fit_in_memory() -> None:
    builder = simulate_run(tiles(2500, cols=50, wall_s=0.005, peak_mb=300), workers=2, gap_s=0.005)
    assert list(advised(builder, 50, 50)["tiles"].values) == [1024, 1024]


def test_few_short_tasks_are_left_as_they_are() -> None:
    builder = simulate_run(tiles(10, wall_s=0.005), workers=2, gap_s=0.005)
    advice = advised(builder, 1, 10)["tiles"]
    assert advice.proposed is None
    assert "only 10 tiles" in advice.reason


def test_gaps_after_long_tasks_are_no_reason_for_larger_tiles() -> None:
    builder = simulate_run(tiles(100, wall_s=2), workers=2, gap_s=2)
    assert advised(builder)["tiles"].proposed is None


def test_fewer_tiles_than_workers_need_call_for_smaller_ones() -> None:
    advice = advised(simulate_run(tiles(5), workers=4), 1, 5)["tiles"]
    assert list(advice.values) == [256, 256]
    assert "5 tiles for 4 workers" in advice.reason


def test_one_tile_that_the_others_wait_for_calls_for_smaller_ones() -> None:
    works = [*tiles(40), TaskSpec(wall_s=20, tile=("dsm", 4, 0))]
    advice = advised(simulate_run(works, workers=4), 5, 10)["tiles"]
    assert list(advice.values) == [256, 256]
    assert "Tile (4, 0) takes 20.0 s, most tiles 1.00 s" in advice.reason


def test_a_worker_over_its_limit_calls_for_smaller_tiles_and_more_memory() -> None:
    advice = advised(simulate_run(tiles(100, peak_mb=5000), workers=2))
    assert list(advice["tiles"].values) == [256, 256]
    assert "held 5.00 GB, over its 2.00 GB" in advice["tiles"].reason
    assert list(advice["memory"].values) == [6300]


def test_where_nothing_calls_for_another_tile_size_it_is_left() -> None:
    advice = advised(simulate_run(tiles(100), workers=2))["tiles"]
    assert advice.proposed is None
    assert advice.current == "512 x 512 px"
    assert "100 tiles for 2 workers" in advice.reason


def test_a_grid_that_the_run_does_not_describe_gets_a_factor() -> None:
    builder = simulate_run(tiles(2500, cols=50, wall_s=0.005), workers=2, gap_s=0.005)
    advice = builder.analysis().advice[1]
    assert advice.proposed == "4 times larger in each direction"


@pytest.mark.parametrize(
    ("peak_mb", "mode", "proposed"),
    [
        (110, "multiprocessing", (200,)),  # the least that is proposed
        (300, "multiprocessing", (400,)),  # less than half of the limit would do
        (1000, "multiprocessing", ()),
        (1700, "multiprocessing", ()),
        (1950, "multiprocessing", (2500,)),  # too near to it
        (1950, "local_dask", (3300,)),  # which writes to disk from 60 % on
        (2100, "multiprocessing", (2700,)),
    ],
)
def test_memory_of_a_worker_is_the_highest_peak_and_a_margin(
    peak_mb: int, mode: str, proposed: tuple[int, ...]
) -> None:
    works = [*tiles(99, peak_mb=100), TaskSpec(peak_mb=peak_mb)]
    advice = advised(simulate_run(works, workers=2, mode=mode))["memory"]
    assert list(advice.values) == list(proposed)


def test_advice_says_when_the_machine_lacks_memory_for_all_workers() -> None:
    builder = simulate_run(tiles(100, peak_mb=5000), workers=4, ram_bytes=16 * GB)
    assert (
        "16.0 GB of memory are then enough for 2 workers, not 4"
        in advised(builder)["memory"].reason
    )


def test_without_a_limit_there_is_no_advice_on_it() -> None:
    builder = simulate_run(tiles(100), workers=2, worker_limit_bytes=None)
    assert set(advised(builder)) == {"workers", "tiles"}


def test_a_limit_is_compared_in_the_same_megabytes() -> None:
    builder = simulate_run(tiles(100, peak_mb=300), workers=2, worker_limit_bytes=2000 * MB)
    assert advised(builder)["memory"].verdict == "400 MB instead of 2000 MB"
