"""What cannot be mapped is refused in one line, before the first tile or at it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from batuta import TiledOutput, map_tiles
from batuta.datasets import SaveOptions, TileError, Window
from batuta.errors import ConfigurationError
from batuta.orchestrator import Event, RunEnded, TileRetried, TilesFailedError
from batuta.tiling import TilePlace
from tests.tiling.rasters import PLACE, heights, write_raster

ONCE = "sequential"
WORKERS = {"mode": "multiprocessing", "nb_workers": 2}


class Events:
    """Keeps the events of a run."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.seen.append(event)


@pytest.fixture
def dem(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "dem.tif", heights(40, 30))


def same(values: Any) -> Any:
    return values


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"overlap": -1}, "overlap: -1 given, a whole number of at least 0 expected"),
        ({"overlap": 1.5}, "overlap: 1.5 given, a whole number of at least 0 expected"),
        ({"edge": "wrap"}, "edge: 'wrap' given, one of nothing, nodata, reflect, symmetric,"),
        ({"missing": "mask"}, "missing: 'mask' given, one of nan, masked, raw expected"),
        ({"arrays": "cupy"}, "arrays: 'cupy' given, one of numpy, xarray expected"),
        ({"tile": 0}, "tile: 0 given, a whole number of pixels, or (rows, columns), expected"),
        ({"tile": (8, 8.5)}, "tile: (8, 8.5) given, a whole number of pixels, or (rows, columns)"),
        ({"tile": (8, 8, 8)}, "tile: (8, 8, 8) given, a whole number of pixels"),
        ({"tile": 4, "overlap": 5}, "overlap: 5 given, tiles are of 4 x 4 pixels: at most 4"),
        ({"out": "a.png"}, "out: 'a.png' given, a name that ends in one of these expected: .tif"),
        ({"out": 3}, "out: 3 given, paths of files expected"),
        ({"out": []}, "out: a list given, paths of files expected"),
        ({"out": ["a.tif", "a.tif"]}, "a.tif given twice"),
        (
            {"out": "a.tif", "dtype": "uint8", "nodata": -1},
            "nodata: -1 given, uint8 holds 0 to 255",
        ),
        ({"out": "a.tif", "dtype": "text"}, "dtype: 'text' given, a data type of numbers expected"),
        ({"mode": "cluster"}, "mode: 'cluster' is not a mode"),
        ({"mode": 3}, "mode: 3 given, the name of a mode or a configuration expected"),
        ({"mode": {"mode": "sequential", "workers": 2}}, "workers: unknown key"),
        ({"observers": [3]}, "observers[0]: 3 given, an object with a method on_event expected"),
        ({"region": (0, 0, 1, 1)}, "region: outside of dem.tif, which has 40 rows and 30 columns"),
        ({"region": (1, 0, 0, 1)}, "region: (1.0, 0.0, 0.0, 1.0) given, left < right"),
        ({"region": "all"}, "region: 'all' given, a Window, (left, bottom, right, top) or"),
        ({"region": Window(0, 41, 0, 30)}, "region: outside of dem.tif"),
        ({"region": {"type": "Point", "coordinates": [0, 0]}}, "region: a geometry 'Point' given"),
        ({"region": {"type": "Polygon", "coordinates": []}}, "region: not a GeoJSON polygon"),
        (
            {"kwargs": {"nothing": 1}},
            "func: same(values: Any) -> Any is called with 1 array, nothing",
        ),
    ],
)
def test_a_wrong_argument_is_refused_before_any_tile(
    dem: Path, arguments: dict[str, Any], line: str
) -> None:
    def never(values: Any) -> Any:
        raise AssertionError(values)

    function = same if "kwargs" in arguments else never
    with pytest.raises(ConfigurationError) as caught:
        map_tiles(function, dem, **{"mode": ONCE, **arguments}).compute()
    (problem,) = caught.value.problems
    assert line in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda folder: folder / "none.tif", "none.tif cannot be read: "),
        (lambda folder: _written(folder / "a.txt", b"text"), "a.txt cannot be read: "),
        (lambda folder: _written(folder / "b.zarr" / "x", b"").parent, "b.zarr cannot be read: "),
        (lambda _: 3, "input: 3 given, a raster file, a Zarr array, an xarray or NumPy array"),
        (lambda _: np.zeros(4), "an array of 1 dimensions given, (rows, columns) or"),
        (lambda _: np.zeros((0, 4)), "an empty array given, of 0 x 4 pixels"),
        (lambda _: np.array([["a"]]), "an array of <U1 given, numbers expected"),
        (lambda _: xr.DataArray(np.zeros((2, 2)), dims=("a", "b")), "dimensions (a, b) given"),
        (lambda _: xr.Dataset(), "a dataset of 0 variables given ()"),
        (
            lambda _: xr.DataArray(
                np.zeros((2, 3)), dims=("y", "x"), coords={"y": [0, 1], "x": [0, 1, 5]}
            ),
            "coordinates x are not evenly spaced",
        ),
    ],
)
def test_what_is_no_raster_is_refused(
    tmp_path: Path, make: Callable[[Path], Any], line: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        map_tiles(same, make(tmp_path))
    (problem,) = caught.value.problems
    assert line in problem
    assert "\n" not in problem


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("shape", "transform", "line"),
    [
        ((40, 31), PLACE, "other.tif is not on the grid of dem.tif: it has width 31 instead of 30"),
        ((40, 30), PLACE @ Affine.scale(2), "it has another transform; with resampling"),
    ],
)
def test_inputs_on_other_grids_are_refused_without_leave(
    tmp_path: Path, dem: Path, shape: tuple[int, int], transform: Affine, line: str
) -> None:
    other = write_raster(tmp_path / "other.tif", heights(*shape), transform=transform)
    with pytest.raises(ConfigurationError, match=line):
        map_tiles(np.add, dem, other)
    with pytest.raises(ConfigurationError, match="resampling: 'best' given, one of nearest,"):
        map_tiles(np.add, dem, other, resampling="best")
    with pytest.raises(ConfigurationError, match="resampling: 'best' given, one of nearest,"):
        map_tiles(np.add, dem, dem, resampling="best")


def test_an_array_of_another_size_is_refused(dem: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"it has height 3 instead of 40$"):
        map_tiles(np.add, dem, np.zeros((3, 30)))


@pytest.mark.parametrize(
    ("out", "line"),
    [
        ("folder.tif", "out: folder.tif is a folder: another name expected"),
        ("dem.tif/a.tif", "out: dem.tif/a.tif cannot be written: File exists"),
        ("/proc/none/a.tif", "out: /proc/none/a.tif cannot be written: "),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_the_first_tile(
    dem: Path, monkeypatch: pytest.MonkeyPatch, out: str, line: str
) -> None:
    monkeypatch.chdir(dem.parent)
    Path("folder.tif").mkdir()
    ran: list[Any] = []
    with pytest.raises(ConfigurationError, match=line):
        map_tiles(ran.append, "dem.tif", out=out, mode=ONCE)
    assert not ran


@pytest.mark.parametrize(
    ("dtype", "nodata", "line"),
    [
        (
            "float16",
            None,
            "a.tif: dtype: float16 given, which GeoTIFF does not hold; float32 is accepted",
        ),
        ("uint8", -5, "a.tif: nodata: -5 given, uint8 holds 0 to 255"),
    ],
)
def test_what_no_cloud_optimised_file_holds_is_told_as_of_others(
    tmp_path: Path, dtype: str, nodata: float | None, line: str
) -> None:
    options = SaveOptions(cloud_optimized=True, block_px=16)
    with pytest.raises(TilesFailedError, match=line):
        map_tiles(
            lambda z: z.astype(dtype),
            np.zeros((32, 32)),
            out=tmp_path / "a.tif",
            nodata=nodata,
            options=options,
            mode="sequential",
        )


def test_an_output_that_is_an_input_is_refused_and_left_as_it_is(tmp_path: Path, dem: Path) -> None:
    before = dem.read_bytes()
    link = tmp_path / "link.tif"
    link.symlink_to(dem)
    hard = tmp_path / "hard.tif"
    hard.hardlink_to(dem)
    chained = map_tiles(same, dem)
    for source, out in ((dem, dem), (dem, link), (link, dem), (chained, dem), (dem, hard)):
        with pytest.raises(ConfigurationError, match="is an input: another name expected"):
            map_tiles(same, source, out=out, mode=ONCE)
    assert dem.read_bytes() == before


@pytest.mark.parametrize(
    ("returned", "outputs", "line"),
    [
        (
            lambda z: z[:-1],
            ["a.tif"],
            "returned an array of 39 x 30, that of its arguments expected",
        ),
        (lambda z: z[0], ["a.tif"], "returned an array of 30, that of its arguments expected"),
        (lambda z: z.tolist(), ["a.tif"], "returned list, an array expected"),
        (lambda z: z.astype("U4"), ["a.tif"], "returned an array of <U4, numbers expected"),
        (lambda z: z, ["a.tif", "b.tif"], "returned ndarray, a tuple of 2 results expected"),
        (lambda z: (z,), ["a.tif", "b.tif"], "returned 1 results, 2 expected"),
        (lambda z: z, ["a.csv"], "returned ndarray, a DataFrame for a.csv expected"),
        (lambda z: z, ["a.json"], "returned ndarray, a dictionary for a.json expected"),
        (
            lambda z: np.ma.masked_less(z.astype(int), 9),
            ["a.tif"],
            "masked int64: nodata is needed",
        ),
    ],
)
def test_a_wrong_result_is_refused_at_the_first_tile(
    tmp_path: Path,
    dem: Path,
    monkeypatch: pytest.MonkeyPatch,
    returned: Callable[[Any], Any],
    outputs: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TileError, match=line):
        map_tiles(returned, dem, out=outputs, tile=100, mode=ONCE)
    assert [path for path in tmp_path.iterdir() if path.suffix == ".tif"] == [dem]


def test_a_run_whose_first_tiles_are_all_refused_computes_no_others(
    tmp_path: Path, dem: Path
) -> None:
    events = Events()
    with pytest.raises(TilesFailedError, match=r"4 of 48 tiles failed:") as raised:
        map_tiles(
            lambda z: z[:-1],
            dem,
            out=tmp_path / "a.tif",
            tile=5,
            mode=WORKERS,
            observers=[events],
        )
    assert raised.value.__notes__ == ["the first 4 tiles were refused: no other was computed"]
    assert not (tmp_path / "a.tif").exists()
    assert not any(isinstance(each, TileRetried) for each in events.seen)
    assert events.seen[-1] == RunEnded(done=0, failed=4, total=48)


def test_a_run_that_is_to_continue_computes_the_others_and_raises_nothing(
    tmp_path: Path, dem: Path
) -> None:
    events = Events()
    mode = {**WORKERS, "on_tile_failure": "continue"}
    out = tmp_path / "a.tif"
    map_tiles(lambda z: z[:-1], dem, out=out, tile=5, mode=mode, observers=[events])
    assert events.seen[-1] == RunEnded(done=0, failed=48, total=48)
    assert not out.exists()


def test_a_tile_that_is_refused_once_others_are_saved_costs_no_other(
    tmp_path: Path, dem: Path
) -> None:
    def cut_last_row(z: Any, place: TilePlace) -> Any:
        return z[:-1] if place.window.row_min >= 35 else z

    out = tmp_path / "a.tif"
    with pytest.raises(TilesFailedError, match=r"6 of 48 tiles failed:") as raised:
        map_tiles(cut_last_row, dem, out=out, tile=5, mode=WORKERS)
    assert not hasattr(raised.value, "__notes__")
    assert {(each.row, each.col) for each in raised.value.failures} == {(7, n) for n in range(6)}
    with rasterio.open(out) as raster, rasterio.open(dem) as given:
        assert np.array_equal(raster.read(1)[:35], given.read(1)[:35])


@pytest.mark.parametrize("mode", [ONCE, WORKERS], ids=["sequential", "multiprocessing"])
def test_a_function_that_returns_none_for_each_tile_is_told(
    tmp_path: Path, dem: Path, caplog: pytest.LogCaptureFixture, mode: Any
) -> None:
    def forgetful(z: Any) -> None:
        z + 1

    out = tmp_path / "a.tif"
    map_tiles(forgetful, dem, out=out, tile=20, mode=mode)
    assert not out.exists()
    assert "a.tif: not written: all 4 tiles are empty" in caplog.text


def test_of_several_outputs_the_one_without_any_value_is_told(
    tmp_path: Path, dem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def no_peaks(z: Any, place: TilePlace) -> Any:
        return (z if not place.window.row_min else None), None

    map_tiles(no_peaks, dem, out=[tmp_path / "a.tif", tmp_path / "a.csv"], tile=20, mode=ONCE)
    assert (tmp_path / "a.tif").exists()
    assert "a.csv: not written: all 4 tiles are empty" in caplog.text
    assert "a.tif: not written" not in caplog.text


def test_no_input_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="inputs: none given, at least one expected"):
        map_tiles(same)


def test_what_cannot_be_called_with_the_inputs_is_refused(dem: Path) -> None:
    with pytest.raises(ConfigurationError, match="is called with 2 arrays: too many positional"):
        map_tiles(same, dem, dem)
    with pytest.raises(ConfigurationError, match="func: 3 given, a function expected"):
        map_tiles(3, dem)  # type: ignore[arg-type]  # that is the mistake


def test_a_result_that_is_not_saved_is_no_path(dem: Path) -> None:
    with pytest.raises(TypeError, match="is not the path of a file: nothing was saved yet"):
        Path(map_tiles(same, dem))


def test_a_region_of_a_chained_call_is_refused(dem: Path) -> None:
    part = map_tiles(same, dem, region=Window(0, 10, 0, 10))
    with pytest.raises(ConfigurationError, match="it has a region: pass that to the last call"):
        map_tiles(same, part)


def test_an_output_states_its_mistakes_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError) as caught:
        TiledOutput(path="a.tif", dtype="text", nodata="none")  # type: ignore[arg-type]  # mistakes
    assert [each.partition(":")[0] for each in caught.value.problems] == ["dtype", "nodata"]
