"""The size of tiles that is chosen, and the memory that is foreseen."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batuta import map_tiles
from batuta.errors import ConfigurationError
from batuta.orchestrator import TilesFailedError
from tests.tiling.rasters import heights, write_raster


def held(z: Any, megabytes: int) -> Any:
    """Hold so much memory, and return the argument."""
    memory = np.ones(megabytes * 125_000)
    return z + 0 * memory[0].astype(z.dtype)


def test_tiles_are_whole_blocks_of_the_input(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(1000, 1100), block_px=256)
    conf = {"mode": "multiprocessing", "nb_workers": 2}
    plan = map_tiles(np.negative, dem, mode=conf).plan
    assert (plan.tile, plan.grid, plan.tiles) == ((256, 256), (4, 5), 20)
    assert "blocks of 256 x 256 of the input" in str(plan)
    assert "2 at a time" in str(plan)


def test_tiles_are_whole_strips_of_an_input_that_is_stored_in_strips(tmp_path: Path) -> None:
    dem = write_raster(tmp_path / "dem.tif", heights(1000, 1100))
    plan = map_tiles(np.negative, dem, mode="sequential").plan
    assert plan.tile[1] == 1100
    assert "strips of" in plan.reason


def test_every_worker_has_several_tiles() -> None:
    conf = {"mode": "multiprocessing", "nb_workers": 6}
    assert map_tiles(np.negative, np.zeros((2000, 3000)), mode=conf).plan.tiles >= 24


def test_tiles_are_no_larger_than_memory_allows() -> None:
    conf = {"mode": "multiprocessing", "nb_workers": 1, "max_ram_per_worker": 4}
    plan = map_tiles(np.negative, np.zeros((10_000, 10_000)), mode=conf).plan
    assert plan.ram_mb <= 2.2
    assert plan.tile[0] < 512


def test_tiles_that_cannot_fit_are_refused_with_the_size_that_would() -> None:
    conf = {"mode": "multiprocessing", "max_ram_per_worker": 40}
    values = np.zeros((4000, 4000))
    with pytest.raises(ConfigurationError) as caught:
        _ = map_tiles(np.negative, values, tile=2000, mode=conf).plan
    line = str(caught.value)
    assert "tile: 2000 x 2000 pixels take at least 64 MB, a worker has 40 MB" in line
    fitting = int(line.partition("(max_ram_per_worker): ")[2].partition(" ")[0])
    assert map_tiles(np.negative, values, tile=fitting, mode=conf).plan.ram_mb < 40


def test_overlaps_of_all_chained_calls_count_in_memory() -> None:
    alone = map_tiles(np.negative, np.zeros((100, 100)), overlap=10, tile=20)
    chained = map_tiles(np.negative, alone, overlap=10, tile=20)
    assert chained.plan.ram_mb == pytest.approx((60**2 + 20**2) * 8 / 1e6)


@pytest.mark.parametrize("megabytes", [20, 400])
def test_what_the_first_tile_took_is_compared_with_the_memory_of_a_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, megabytes: int
) -> None:
    caplog.set_level(logging.INFO, "batuta.tiling")
    # Alone, a tile may have the memory of both.
    conf = {"mode": "multiprocessing", "nb_workers": 2, "max_ram_per_worker": 300}
    mapped = map_tiles(held, heights(64, 64), tile=64, mode=conf, kwargs={"megabytes": megabytes})
    mapped.save(tmp_path / "a.tif")
    told = [each.message for each in caplog.records if each.name == "batuta.tiling.run"]
    assert "held: 1 tile of 64 x 64 pixels (as asked)" in told[0]
    if megabytes == 20:
        assert "the first tile took " in told[1]
    else:
        assert "64 x 64 pixels took 4" in told[1]
        assert "a worker has 300 MB (max_ram_per_worker): 32 x 32 fit" in told[1]


def test_a_tile_that_exceeds_its_memory_fails_with_advice(tmp_path: Path) -> None:
    conf = {"mode": "multiprocessing", "nb_workers": 1, "max_ram_per_worker": 200}
    mapped = map_tiles(held, heights(64, 64), tile=64, mode=conf, kwargs={"megabytes": 900})
    with pytest.raises(TilesFailedError, match="WorkerMemoryError") as caught:
        mapped.save(tmp_path / "a.tif")
    assert any("with tile=(32, 32)" in note for note in caught.value.__notes__)
