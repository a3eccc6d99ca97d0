"""Resume folders written by earlier versions: they still open, or refuse in one clear line."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import batuta.cluster
import batuta.datasets
import batuta.orchestrator
from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Orchestrator, TileDone, TileKept
from tests.orchestrator.inspection import EventRecorder, manifest, raster

RECORDED = Path(__file__).parent / "recorded_resume"
"""What version 0.1.0 left of the run below, interrupted after 3 of its 5 tiles."""

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A copy of the recorded run, whose output folder it takes for its own."""
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    (tmp_path / "resume").rename(tmp_path / ".resume")
    for folder in (tmp_path / ".resume", *(tmp_path / ".resume").iterdir()):
        folder.chmod(0o700)
        for path in folder.iterdir():
            if path.is_file():
                path.chmod(0o600)
    journal = tmp_path / ".resume" / "0001-0001" / "journal"
    journal.write_text(journal.read_text().replace("OUT_DIR", str(tmp_path)))
    return tmp_path


def run_program(out_dir: Path, conf: dict[str, Any], recorder: EventRecorder) -> Any:
    """Run the program of the recording; return the tile that was replaced."""
    with Orchestrator(conf, out_dir, observers=[recorder]) as orchestrator:
        notes, heights = CarsDataset("dict", name="notes"), CarsDataset("arrays", name="heights")
        notes.create_grid(1, 1, 1, 1)
        notes[0, 0] = CarsDict({"answer": 42})
        heights.create_grid(8, 8, 4, 4)
        for row, col in heights.positions():
            values = np.full((4, 4), 2 * row + col, dtype=np.float32)
            heights[row, col] = xr.Dataset({"height": (("row", "col"), values)})
        orchestrator.add_to_replace_lists(notes)
        orchestrator.add_to_save_lists(out_dir / "heights.tif", "height", heights, nodata=-1)
    return notes[0, 0]


def test_a_run_of_an_earlier_version_resumes_to_the_same_bytes(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = EventRecorder()
    note = run_program(recorded, {"mode": "sequential", "resume": True}, recorder)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert (recorder.count(TileKept), recorder.count(TileDone)) == (3, 2)
    assert note.data == {"answer": 42}
    assert manifest(recorded / "heights.tif")["complete"]
    whole = tmp_path_factory.mktemp("whole")
    run_program(whole, {"mode": "sequential"}, EventRecorder())
    assert (recorded / "heights.tif").read_bytes() == (whole / "heights.tif").read_bytes()
    assert raster(recorded / "heights.tif")[-1, -1] == 3


def test_a_journal_of_another_format_is_refused_by_one_line(
    recorded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = recorded / ".resume" / "0001-0001" / "journal"
    journal.write_text(journal.read_text().replace('"format":2', '"format":1'))
    recorder = EventRecorder()
    run_program(recorded, {"mode": "sequential", "resume": True}, recorder)
    (warning,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert warning.getMessage() == (
        "heights cannot resume; recomputing all tiles: its journal has format 1, and this version"
        " of Batuta reads 2"
    )
    assert recorder.count(TileDone) == 4


WRITTEN_NAMES = {
    "batuta.datasets.cars_dataset": ("CarsDataset",),
    "batuta.datasets.tiles": ("CarsDict", "fill_dataframe", "fill_dataset", "fill_dict"),
    "batuta.orchestrator.orchestrator": ("Orchestrator",),
    "batuta.orchestrator.saving_infos": ("flatten_object", "update_saving_infos"),
}


@pytest.mark.parametrize("module", WRITTEN_NAMES)
def test_names_that_digests_and_values_hold_stay_in_their_module(module: str) -> None:
    packages = (batuta.cluster, batuta.datasets, batuta.orchestrator)
    for name in WRITTEN_NAMES[module]:
        (found,) = [getattr(each, name) for each in packages if name in each.__all__]
        assert (found.__module__, found.__qualname__) == (module, name)
