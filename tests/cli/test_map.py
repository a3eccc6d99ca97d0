"""`batuta map`: a function applied to rasters from the command line."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from batuta.cli import main
from tests.support.checkout import PYTHON_PATH
from tests.tiling.rasters import heights, pixels_of, write_raster
from tools.slurm import LocalSlurm

FUNCTIONS = """
import numpy as np


def steepness(z):
    return np.hypot(*np.gradient(z))


def ratio(a, b):
    return a / (b + 1), {"highest": float(a.max())}


def broken(z):
    raise ValueError("no light")


NUMBER = 3
"""

Map = Callable[..., int]


@pytest.fixture
def run_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Map:
    """Run the command in a folder with a raster and a module, whose name no other test has."""
    module = f"terrain_{abs(hash(request.node.name))}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path(f"{module}.py").write_text(FUNCTIONS)
    write_raster(Path("dem.tif"), heights(60, 50))

    def run(function: str, *options: str, mode: str = "sequential") -> int:
        words = ["map", f"{module}:{function}", "dem.tif", *options, "--mode", mode]
        monkeypatch.setattr(sys, "argv", ["batuta", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def test_a_function_of_a_module_in_this_folder_is_applied_by_workers(
    run_map: Map, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("-o", "slope.tif", "--overlap", "1", "--tile", "16x20", "--cog")
    assert run_map("steepness", *options, mode="multiprocessing") == 0
    told = capsys.readouterr().out
    assert "steepness: 12 tiles of 16 x 20 pixels (as asked), 2 at a time" in told
    assert "slope.tif: " in told
    np.testing.assert_array_equal(
        pixels_of("slope.tif"), np.hypot(*np.gradient(pixels_of("dem.tif")))
    )
    with rasterio.open("slope.tif") as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_several_rasters_and_results_are_named_one_after_the_other(run_map: Map) -> None:
    options = ("dem.tif", "-o", "r.tif", "-o", "r.json", "--dtype", "float64", "--nodata", "-1")
    assert run_map("ratio", *options) == 0
    whole = pixels_of("dem.tif")
    np.testing.assert_allclose(pixels_of("r.tif"), whole / (whole + 1))
    assert '"highest": 2999.0' in Path("r.json").read_text()


def test_a_plan_is_shown_and_nothing_computed(
    run_map: Map, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_map("broken", "-o", "a.tif", "--dry-run") == 0
    assert "broken: " in capsys.readouterr().out
    assert not Path("a.tif").exists()


def test_the_plan_is_of_whole_blocks_of_a_cloud_optimised_file(
    run_map: Map, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raster(Path("dem.tif"), heights(1400, 1500), block_px=256)
    assert run_map("steepness", "-o", "a.tif", "--cog", "--dry-run") == 0
    assert "4 tiles of 1024 x 1024 pixels (blocks of 512 x 512 of the output)" in (
        capsys.readouterr().out
    )


def test_jobs_of_slurm_compute_the_tiles(
    run_map: Map, slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)  # not the folder of the module
    monkeypatch.setenv("SBATCH_ACCOUNT", "observatory")
    Path("one.yaml").write_text("nb_workers: 1")
    options = ("-o", "slope.tif", "--overlap", "1", "--tile", "32", "--config", "one.yaml")
    assert run_map("steepness", *options, "--cog", mode="slurm_dask") == 0
    np.testing.assert_array_equal(
        pixels_of("slope.tif"), np.hypot(*np.gradient(pixels_of("dem.tif")))
    )
    assert not [each for each in slurm.queue.active_jobs() if each.state == "PENDING"]


@pytest.mark.parametrize(
    ("function", "options", "line"),
    [
        ("none", (), "has no 'none' (accepted: MODULE:FUNCTION)"),
        ("NUMBER", (), "has a int 'NUMBER' (accepted: MODULE:FUNCTION)"),
        ("steepness", ("--tile", "a"), "--tile 'a' (accepted: 512, or 512x1024)"),
        ("steepness", ("--edge", "wrap"), "edge: 'wrap' given, one of nothing, nodata,"),
        ("steepness", ("--region", "0", "0", "1", "1"), "region: outside of dem.tif"),
        ("ratio", ("other.tif",), "input 2: other.tif cannot be read: "),
        ("steepness", ("-o", "a.png"), "out: 'a.png' given, a name that ends in one of these"),
        ("steepness", ("--compression", "zip", "--dry-run"), "options.compression: 'zip' given"),
        ("steepness", ("--config", "none.yaml"), "none.yaml"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    run_map: Map,
    capsys: pytest.CaptureFixture[str],
    function: str,
    options: tuple[str, ...],
    line: str,
) -> None:
    assert run_map(function, "-o", "a.tif", *options) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told
    assert not Path("a.tif").exists()


def test_a_function_that_fails_fails_the_command_with_its_line(
    run_map: Map, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_map("broken", "-o", "a.tif", mode="multiprocessing") == 1
    assert "ValueError: no light (in task broken, terrain_" in capsys.readouterr().err
