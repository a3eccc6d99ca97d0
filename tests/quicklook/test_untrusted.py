"""Files that are cut, lie, or are made to harm: a reason comes of them, in time, and no more."""

import asyncio
import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import Affine

from batuta.pipeline.inputs import media_type_of
from batuta.quicklook import DRAWN, CannotDrawError, Drawer, Kind, check_image, find_kind
from batuta.quicklook.kinds import HEAD_BYTES
from batuta.quicklook.process import DrawingInterruptedError
from tests.quicklook.files import MAKERS, png_that_declares, raster
from tests.quicklook.test_drawing import drawn
from tests.support.waiting import eventually


@pytest.mark.parametrize("kind", [name for name in MAKERS if name not in {"csv", "ecsv"}])
def test_a_file_that_is_cut_is_not_drawn_or_drawn_as_far_as_it_goes(
    tmp_path: Path, kind: str
) -> None:
    path = MAKERS[kind](tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert _outcome(path) == "a picture or a reason in one line"


def _outcome(path: Path) -> str:
    try:
        drawn(path)
    except CannotDrawError as exc:
        text = str(exc)
        if not text or "\n" in text or "ended by" in text:
            return text
    return "a picture or a reason in one line"


def _png_bomb(path: Path) -> None:
    path.write_bytes(png_that_declares(60_000, 60_000))


def _sparse_raster(path: Path) -> None:
    place = Affine(1, 0, 5e5, 0, -1, 4e6)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "tiled": True, "transform": place}
    with rasterio.open(path, "w", width=200_000, height=200_000, SPARSE_OK=True, **profile):
        pass


def _fits_of_declared_rows(path: Path) -> None:
    text = MAKERS["events"](path.parent).read_bytes()
    path.write_bytes(
        text.replace(b"NAXIS2  =                 2000", b"NAXIS2  =        2000000000000")
    )


def _gzip_bomb(path: Path) -> None:
    with gzip.open(path, "wb", 9) as file:
        for _ in range(300):
            file.write(bytes(2**20))


def _las_of_declared_points(path: Path) -> None:
    content = bytearray(MAKERS["laz"](path.parent).read_bytes())
    content[107:111] = (2**32 - 1).to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("bomb.png", _png_bomb, "it has 60000 x 60000 pixels"),
        ("sparse.tif", _sparse_raster, "it has 200000 x 200000 pixels and no overview"),
        ("rows.fits", _fits_of_declared_rows, "it cannot be read|it needs more than"),
        ("bomb.fits.gz", _gzip_bomb, "larger than 268435456 bytes once unpacked"),
        ("points.laz", _las_of_declared_points, "it cannot be read"),
    ],
)
def test_what_declares_more_than_it_may_is_refused(
    tmp_path: Path, name: str, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(CannotDrawError, match=reason):
        drawn(tmp_path / name)


def test_a_table_of_more_rows_than_are_read_is_drawn_from_some(tmp_path: Path) -> None:
    group = pa.table({"value": np.zeros(1_000_000)})
    with pq.ParquetWriter(tmp_path / "a.parquet", group.schema) as writer:
        for _ in range(40):
            writer.write_table(group)
    assert (tmp_path / "a.parquet").stat().st_size < 2**20
    assert drawn(tmp_path / "a.parquet").width == 720


def test_a_raster_that_names_other_files_is_not_followed(tmp_path: Path) -> None:
    raster(tmp_path / "secret.tif")
    vrt = f"<VRTDataset><SourceFilename>{tmp_path / 'secret.tif'}</SourceFilename></VRTDataset>"
    (tmp_path / "a.tif").write_bytes(b"II*\0" + vrt.encode())
    with pytest.raises(CannotDrawError, match="it cannot be read"):
        drawn(tmp_path / "a.tif")


async def test_a_drawing_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = MAKERS["png"](tmp_path)
    drawer = Drawer(max_time_s=0.01)
    with pytest.raises(CannotDrawError, match=r"drawing it took more than 0\.01 s"):
        await drawer.draw(_kind_of(path), path)
    assert not [*_drawing()]


async def test_a_drawing_that_never_stops_writing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = MAKERS["png"](tmp_path)
    monkeypatch.setattr(sys, "executable", _endless(tmp_path))
    with pytest.raises(CannotDrawError, match="its picture is larger than 8388608 bytes"):
        await Drawer().draw(_kind_of(path), path)


async def test_a_drawing_that_is_ended_while_it_writes_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = MAKERS["png"](tmp_path)
    monkeypatch.setattr(sys, "executable", _endless(tmp_path))
    monkeypatch.setattr("batuta.quicklook.process.MAX_PICTURE_BYTES", 2**40)
    for _ in range(20):  # what it has written meanwhile is more or less than is read ahead
        with pytest.raises(CannotDrawError, match="drawing it took more than"):
            async with asyncio.timeout(20):
                await Drawer(max_time_s=0.02).draw(_kind_of(path), path)


def _endless(folder: Path) -> str:
    """Make a program that never stops writing."""
    endless = folder / "endless"
    endless.write_text("#!/bin/sh\nexec yes\n")
    endless.chmod(0o700)
    return str(endless)


async def test_a_drawing_that_is_ended_from_outside_is_no_failure_of_its_file(
    tmp_path: Path,
) -> None:
    path = MAKERS["png"](tmp_path)
    task = asyncio.create_task(Drawer().draw(_kind_of(path), path))

    async def ended() -> bool:
        for each in _drawing():
            each.terminate()
        return task.done()

    await eventually(ended, 30)
    with pytest.raises(DrawingInterruptedError, match="SIGTERM"):
        await task


def _drawing() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [each for each in children if "batuta.quicklook" in each.cmdline()]


def _kind_of(path: Path) -> Kind:
    return find_kind(path.name, media_type_of(path), path.read_bytes()[:HEAD_BYTES])


@pytest.mark.parametrize(
    ("name", "media_type", "head", "reason"),
    [
        ("a.svg", "image/svg+xml", b"<svg", f"is not drawn (drawn: {DRAWN})"),
        (None, "application/octet-stream", b"SIMPLE  =", "a file without a name of type"),
        ("a.las", "text/csv", b"\0\0", "called LAS or LAZ or CSV, TSV or ECSV, and does not begin"),
    ],
)
def test_a_file_is_what_its_name_and_its_beginning_say(
    name: str | None, media_type: str, head: bytes, reason: str
) -> None:
    with pytest.raises(CannotDrawError) as e:
        find_kind(name, media_type, head)
    assert reason in str(e.value)


def test_a_name_that_says_nothing_leaves_the_media_type() -> None:
    assert find_kind(None, "application/fits", b"SIMPLE  =").module == "fits"
    assert find_kind("README", "image/png", b"\x89PNG\r\n\x1a\n").module == "image"


def test_a_picture_that_is_given_may_not_be_larger_than_a_screen() -> None:
    with pytest.raises(CannotDrawError, match="too large"):
        check_image(png_that_declares(60_000, 60_000))
    assert check_image(png_that_declares(4096, 4096)).width_px == 4096
