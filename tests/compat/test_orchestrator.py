"""The interface that CARS expects of an orchestrator."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr

from batuta.errors import ConfigurationError


@pytest.fixture
def module(fake_cars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that CARS imports; temporary folders are made in `tmp_path`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return importlib.import_module("batuta.compat.cars.orchestrator")


def test_an_orchestrator_without_a_folder_has_a_temporary_one(module: Any, tmp_path: Path) -> None:
    with module.Orchestrator(orchestrator_conf={"mode": "sequential"}) as orchestrator:
        assert Path(orchestrator.out_dir).is_dir()
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_is_refused_leaves_no_folder(module: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nb_worker: unknown key"):
        module.Orchestrator(orchestrator_conf={"mode": "multiprocessing", "nb_worker": 2})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("conf", "ram_mb"),
    [
        ({"mode": "sequential", "max_ram_per_worker": 500}, 500),
        ({"mode": "sequential"}, 2000),
        ({"mode": "multiprocessing", "nb_workers": 1, "max_ram_per_worker": 700.5}, 700.5),
    ],
)
def test_the_memory_that_tiles_are_sized_from_is_reported_in_every_mode(
    module: Any, conf: dict[str, Any], ram_mb: float
) -> None:
    with module.Orchestrator(orchestrator_conf=conf, launch_worker=False) as orchestrator:
        assert orchestrator.cluster.checked_conf_cluster["max_ram_per_worker"] == ram_mb
        checked = orchestrator.get_conf()
    assert checked["max_ram_per_worker"] == ram_mb
    with module.Orchestrator(orchestrator_conf=checked, launch_worker=False) as again:
        assert again.get_conf() == checked


def test_a_dataset_that_cars_does_not_save_is_refused(module: Any) -> None:
    dataset = importlib.import_module("cars.dataset").CarsDataset("dict", "matches", 1, 1)
    with (
        module.Orchestrator(orchestrator_conf={"mode": "sequential"}) as orchestrator,
        pytest.raises(ConfigurationError, match="a dataset of type dict given, one of arrays or"),
    ):
        orchestrator.add_to_save_lists("matches.json", "matches", dataset)


def test_a_file_that_is_already_an_output_is_refused(module: Any, tmp_path: Path) -> None:
    dataset = importlib.import_module("cars.dataset").CarsDataset("arrays", "dsm", 1, 1)
    with module.Orchestrator(orchestrator_conf={"mode": "sequential"}) as orchestrator:
        orchestrator.add_to_save_lists(str(tmp_path / "dsm.tif"), "hgt", dataset)
        with pytest.raises(ConfigurationError, match="is already the output of another call"):
            orchestrator.add_to_save_lists(str(tmp_path / "dsm.tif"), "weights", dataset)


@pytest.mark.parametrize(
    ("tile", "cropped"),
    [
        (xr.Dataset(attrs={"attributes": {"cropped": True}}), True),
        (xr.Dataset(attrs={"attributes": {"cropped": False}}), False),
        (xr.Dataset(attrs={"attributes": {}}), False),
        (xr.Dataset(), False),
        ({"attributes": {"cropped": True}}, False),
        (None, False),
    ],
)
def test_a_tile_carries_whether_its_range_was_cropped(
    module: Any, tile: Any, cropped: bool
) -> None:
    assert module.get_disparity_range_cropped(tile) is cropped


def test_points_carry_it_too(module: Any) -> None:
    points = pd.DataFrame({"z": [1.0]})
    points.attrs["attributes"] = {"cropped": True}
    assert module.get_disparity_range_cropped(points) is True
