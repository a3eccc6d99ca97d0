"""Files of an earlier run do not pass for the product of this one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from batuta.datasets import CarsDataset
from batuta.orchestrator import Orchestrator, TilesFailedError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def make(path: Path, tiles: list[Any], *, by_pair: bool = False) -> None:
    """Save a row of tiles in a file."""
    kind = "arrays" if path.suffix in {".tif", ".zarr"} else "points"
    with Orchestrator({"mode": "sequential"}) as orchestrator:
        dataset = CarsDataset(kind, name="row")
        dataset.create_grid(len(tiles), 1, 1, 1)
        for col, tile in enumerate(tiles):
            dataset[0, col] = tile
        orchestrator.add_to_save_lists(path, "z", dataset, save_points_cloud_by_pair=by_pair)


def points(pair: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0], "y": [2.0], "z": [3.0], "global_id": [pair]})


def pixel() -> xr.Dataset:
    return xr.Dataset({"z": (("row", "col"), np.ones((1, 1), "f4"))})


def tile_of(path: Path) -> Any:
    return pixel() if path.suffix in {".tif", ".zarr"} else points()


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{path}.manifest.json").read_text())
    return found


@pytest.mark.parametrize("name", ["a.csv", "a.tif", "a.zarr"])
def test_a_run_whose_tiles_are_all_none_leaves_no_file_of_an_earlier_one(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    make(path, [tile_of(path)])
    assert path.exists()
    make(path, [None])
    assert not path.exists()
    account = manifest(path)
    assert (account["complete"], account["files"], account["earlier_files"]) == (True, [], [])


def test_files_of_former_pairs_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "p.laz"
    make(path, [points(pair) for pair in range(4)], by_pair=True)
    make(tmp_path / "p_3.laz", [points()])  # an output of its own, from now on
    (tmp_path / "p_notes.laz").touch()
    make(path, [points(0), points(1)], by_pair=True)
    assert sorted(each.name for each in tmp_path.glob("p_*.laz")) == [
        "p_0.laz",
        "p_1.laz",
        "p_3.laz",
        "p_notes.laz",
    ]
    assert manifest(path)["files"] == ["p_0.laz", "p_1.laz"]


def test_a_file_that_no_manifest_lists_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("by hand")
    make(path, [None])
    assert path.read_text() == "by hand"


@pytest.mark.parametrize("name", ["../a_x.csv", "/a_x.csv", "b.csv", "a_y.csv/../a_x.csv", 3])
def test_a_manifest_from_elsewhere_has_no_other_file_removed(name: Any, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for each in (tmp_path / "a_x.csv", folder / "a_x.csv", folder / "b.csv"):
        each.touch()
    told = name if name != "/a_x.csv" else str(folder / "a_x.csv")
    account = {"complete": True, "files": [told], "earlier_files": told}
    (folder / "a.csv.manifest.json").write_text(json.dumps(account))
    make(folder / "a.csv", [points()])
    assert (tmp_path / "a_x.csv").exists()
    assert (folder / "a_x.csv").exists()
    assert (folder / "b.csv").exists()


def test_a_damaged_manifest_stands_for_its_own_raster_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    make(path, [pixel()])
    Path(f"{path}.manifest.json").write_text('{"files": [')
    make(path, [None])
    assert not path.exists()


def test_when_every_tile_fails_the_earlier_file_stays_and_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    make(path, [points()])
    before = path.read_bytes()
    for _ in range(2):  # the second reads what the first told
        with pytest.raises(TilesFailedError):
            make(path, ["no points"])
        account = manifest(path)
        assert (account["complete"], account["files"]) == (False, [])
        assert account["earlier_files"] == ["a.csv"]
    assert path.read_bytes() == before
    make(path, [None])
    assert not path.exists()


def test_a_run_that_is_interrupted_says_which_files_are_not_its_own(tmp_path: Path) -> None:
    class Interrupts:
        def on_event(self, event: object) -> None:
            if type(event).__name__ == "TileDone":
                raise KeyboardInterrupt

    path = tmp_path / "p.laz"
    make(path, [points(0), points(1)], by_pair=True)
    dataset = CarsDataset("points")
    dataset.create_grid(1, 1, 1, 1)
    dataset[0, 0] = points(5)
    orchestrator = Orchestrator({"mode": "sequential"}, observers=[Interrupts()])
    orchestrator.add_to_save_lists(path, "z", dataset, save_points_cloud_by_pair=True)
    with pytest.raises(KeyboardInterrupt):
        orchestrator.breakpoint()
    orchestrator.cleanup()
    account = manifest(path)
    assert (account["complete"], account["earlier_files"]) == (False, ["p_0.laz", "p_1.laz"])
    make(path, [points(5)], by_pair=True)
    assert [each.name for each in tmp_path.glob("p_*.laz")] == ["p_5.laz"]


def test_a_folder_that_is_not_a_zarr_group_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    make(path, [points()])
    path.unlink()
    path.mkdir()
    make(path, [None])
    assert path.is_dir()
    assert manifest(path)["earlier_files"] == ["a.csv"]
