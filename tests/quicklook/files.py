"""Small files of each kind that is drawn."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import geopandas
import laspy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from astropy import units
from astropy.io import fits
from astropy.table import QTable, Table
from PIL import Image
from rasterio.transform import Affine

RNG = np.random.default_rng(7)


def raster(path: Path, bands: int = 1, dtype: str = "float32", **options: Any) -> Path:
    """A GeoTIFF of a slope from left to right; its left quarter has no data."""
    values = np.tile(np.linspace(0, 200, 80), (bands, 60, 1)).astype(dtype)
    values[:, :, :20] = 255 if dtype == "uint8" else -9999
    profile = {
        "driver": "GTiff",
        "width": 80,
        "height": 60,
        "count": bands,
        "dtype": dtype,
        "nodata": 255 if dtype == "uint8" else -9999,
        "crs": "EPSG:32631",
        "transform": Affine(1, 0, 5e5, 0, -1, 4e6),
    }
    with rasterio.open(path, "w", **profile, **options) as dataset:
        dataset.write(values)
        dataset.set_band_unit(1, "m")
    return path


def _float_raster(folder: Path) -> Path:
    return raster(folder / "heights.tif")


def _rgb_raster(folder: Path) -> Path:
    return raster(folder / "scene.tif", 4, "uint8")


def laz(folder: Path, count: int = 5000) -> Path:
    """A slope of points in LAZ."""
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales = np.array([0.01, 0.01, 0.01])
    points = laspy.LasData(header)
    points.x, points.y = RNG.uniform(0, 100, count), RNG.uniform(0, 50, count)
    points.z = np.asarray(points.x) * 2
    points.write(folder / "cloud.laz")
    return folder / "cloud.laz"


def _parquet_points(folder: Path) -> Path:
    x, y = RNG.uniform(0, 100, 3000), RNG.uniform(0, 100, 3000)
    pq.write_table(pa.table({"X": x, "Y": y, "Z": x}), folder / "points.parquet")
    return folder / "points.parquet"


def geoparquet(folder: Path) -> Path:
    """Points in well-known binary alone."""
    x, y, z = RNG.uniform(0, 10, (3, 500))
    frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(x, y, z), crs="EPSG:32631")
    frame.to_parquet(folder / "places.parquet")
    return folder / "places.parquet"


def _parquet_table(folder: Path) -> Path:
    when = np.datetime64("2026-11-29T00:00:00") + np.arange(50) * np.timedelta64(1, "m")
    table = pa.table({"name": ["a"] * 50, "time": when, "flux": np.arange(50.0)})
    pq.write_table(table, folder / "series.parquet")
    return folder / "series.parquet"


def events(folder: Path, count: int = 2000) -> Path:
    """A list of events, behind an empty primary extension and before its good times."""
    path = folder / "events.fits"
    times = np.sort(RNG.uniform(5e8, 5e8 + 1000, count))
    hdus = [Table({"TIME": times, "PI": RNG.integers(0, 1000, count)}), Table({"START": [0.0]})]
    tables = [fits.table_to_hdu(each) for each in hdus]
    tables[0].name, tables[1].name = "EVENTS", "GTI"
    tables[0].columns["TIME"].unit = "s"
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    return path


def _packed_events(folder: Path) -> Path:
    path = folder / "events.evt.gz"
    path.write_bytes(gzip.compress(events(folder).read_bytes()))
    return path


def _light_curve(folder: Path) -> Path:
    table = Table({"TIME": np.arange(300.0), "RATE": RNG.poisson(20, (300, 3)).astype(float)})
    table["RATE"].unit = "count/s"
    table.write(folder / "curve.fits")
    return folder / "curve.fits"


def _fits_image(folder: Path) -> Path:
    sky = RNG.poisson(0.05, (2, 90, 120)).astype(np.float32)
    sky[:, 40:44, 60:64] = 500
    sky[:, :10, :10] = np.nan
    fits.writeto(folder / "sky.fits", sky)
    return folder / "sky.fits"


def _csv(folder: Path) -> Path:
    rows = "".join(f"{n},{n * n},text\n" for n in range(100))
    (folder / "curve.csv").write_text("time_s,rate [ct/s],note\n" + rows)
    return folder / "curve.csv"


def _ecsv(folder: Path) -> Path:
    table = QTable({"frequency": np.arange(1.0, 50.0) * units.Hz, "power": RNG.uniform(0, 9, 49)})
    table.write(folder / "spectrum.ecsv")
    return folder / "spectrum.ecsv"


def _json(folder: Path) -> Path:
    value = {"mean": 4.9, "detected": False, "peak": {"frequency_hz": 0.2}, "bins": [1, 2, 3]}
    (folder / "statistics.json").write_text(json.dumps(value))
    return folder / "statistics.json"


def _image(kind: str, mode: str = "RGB") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"photo.{kind.lower()}"
        Image.new(mode, (1600, 900), 1000 if mode.startswith("I") else "teal").save(path, kind)
        return path

    return make


MAKERS: dict[str, Callable[[Path], Path]] = {
    "raster of one band": _float_raster,
    "raster of four bands": _rgb_raster,
    "laz": laz,
    "points in parquet": _parquet_points,
    "geoparquet": geoparquet,
    "table in parquet": _parquet_table,
    "events": events,
    "packed events": _packed_events,
    "light curve": _light_curve,
    "fits image": _fits_image,
    "csv": _csv,
    "ecsv": _ecsv,
    "json": _json,
    "png": _image("PNG"),
    "png of 16 bits": _image("PNG", "I;16"),
    "jpeg": _image("JPEG"),
    "webp": _image("WEBP"),
}


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG of few bytes that says that it is large."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)
