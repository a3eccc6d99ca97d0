"""Files that results are saved in."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, TypeAlias

import numpy as np

from batuta.datasets import SaveOptions, TileError, Window
from batuta.datasets.array_file import RasterSpec, raster_dtype
from batuta.datasets.block_codec import BlockCodec, EncodedPixels
from batuta.datasets.conversion import fit, nodata_in
from batuta.datasets.formats import ARRAYS, DICT, FORMATS, POINTS, ZARR, output_problems
from batuta.datasets.raster_file import COG_BLOCK_PX
from batuta.durable_folders import create_folder
from batuta.errors import ConfigurationError, describe_value
from batuta.tiling.raster import Pixels

NAN_IF_FLOAT: Final = float("nan")
"""The default of `nodata`: NaN in files of floats, none in files of whole numbers."""


@dataclass(frozen=True, kw_only=True)
class TiledOutput:
    """A file that the results of a function are saved in.

    Parameters
    ----------
    path : path
        Its suffix selects the format: rasters in GeoTIFF or Zarr, tables in CSV, Parquet,
        GeoParquet, LAS or LAZ, documents in JSON.
    dtype : str, optional
        Data type of a raster. Default: that of the first tile.
    nodata : float, optional
        Value of the pixels of a raster that have none. Default: NaN in floats; none otherwise.
    options : SaveOptions, optional
        Compression, blocks, tags and other options of the file.

    Raises
    ------
    ConfigurationError
        One line for each invalid value.
    """

    path: str | os.PathLike[str]
    dtype: str | None = None
    nodata: float | None = None
    options: SaveOptions | None = None

    def __post_init__(self) -> None:
        problems = _path_problems(self.path) or output_problems(
            self.path, self.dataset_type, self.dtype, self.nodata, self.options
        )
        if problems:
            raise ConfigurationError(each.replace("file_name:", "out:", 1) for each in problems)

    @property
    def dataset_type(self) -> str:
        """The type of dataset that the file holds: arrays, points or dict."""
        return _TYPES[Path(self.path).suffix]

    @property
    def file_nodata(self) -> float | None:
        """The value of pixels without one, as the orchestrator takes it."""
        if self.nodata is not None or self.dataset_type != ARRAYS:
            return self.nodata
        whole = self.dtype is not None and not _is_float(self.dtype)
        return None if whole else NAN_IF_FLOAT

    @property
    def block_px(self) -> int | None:
        """The side of the blocks that workers compress; None where they compress none."""
        if self.options is None or not self.options.cloud_optimized:
            return None
        return self.options.block_px or COG_BLOCK_PX

    def encoded(
        self, pixels: Pixels, window: Window, shape: tuple[int, int]
    ) -> EncodedPixels | None:
        """Return pixels with the blocks of the file that they fill, compressed.

        Parameters
        ----------
        pixels : array of shape (rows, columns) or (bands, rows, columns)
            Of a tile.
        window : Window
            Where they are in the file.
        shape : (int, int)
            Rows and columns of the file.

        Returns
        -------
        EncodedPixels or None
            None where workers compress no blocks for such a file, or there can be none of such
            pixels, which whoever opens it then tells.

        Raises
        ------
        TileError
            If the file cannot hold the pixels.
        """
        if self.block_px is None or self.options is None:
            return None
        dtype = raster_dtype(self.dtype or pixels.dtype)
        nodata = self.file_nodata
        if nodata is not None and np.isnan(nodata) and not _is_float(dtype):
            nodata = None
        if output_problems(self.path, ARRAYS, dtype, nodata, self.options):
            return None
        try:
            fitted, loss = fit(pixels, dtype, nodata, self.options.nbits)
        except TileError as exc:
            raise exc.of_file(Path(self.path).name) from exc
        spec = RasterSpec(
            height=shape[0],
            width=shape[1],
            count=1 if pixels.ndim == 2 else len(pixels),
            dtype=dtype,
            nodata=None if nodata is None else nodata_in(dtype, nodata),
        )
        return EncodedPixels(fitted, window, BlockCodec.of(spec, self.options), loss)

    @property
    def tag(self) -> str:
        """The name of its variable."""
        return Path(self.path).stem if self.dataset_type == ARRAYS else ""


OutputLike: TypeAlias = str | os.PathLike[str] | TiledOutput
"""A path, or an output with options of its own."""

_TYPES: Final = {suffix: each.dataset_type for each in FORMATS for suffix in each.suffixes}


def outputs_of(
    out: OutputLike | Sequence[OutputLike],
    dtype: str | None,
    nodata: float | None,
    options: SaveOptions | None,
) -> tuple[TiledOutput, ...]:
    """Return the outputs that are asked for, checked.

    Parameters
    ----------
    out : path, TiledOutput, or a sequence of them
        As many as the function returns.
    dtype, nodata, options : optional
        Of those that are given by their paths; those of rasters for rasters alone.

    Raises
    ------
    ConfigurationError
        One line for each invalid value.
    """
    listed = [out] if isinstance(out, str | os.PathLike | TiledOutput) else out
    if not isinstance(listed, Sequence) or not listed:
        raise ConfigurationError(f"out: {describe_value(out)} given, paths of files expected")
    found = tuple(_output_of(each, dtype, nodata, options) for each in listed)
    paths = [os.path.realpath(each.path) for each in found]
    twice = sorted({each for each in paths if paths.count(each) > 1})
    if twice:
        raise ConfigurationError(f"out: {', '.join(twice)} given twice")
    return found


def check_writable(outputs: Iterable[TiledOutput]) -> None:
    """Make the folders of outputs, and refuse those that cannot be written.

    Raises
    ------
    ConfigurationError
        One line for each.
    """
    problems: list[str] = []
    for output in outputs:
        path = Path(output.path)
        if path.is_dir() and path.suffix not in ZARR.suffixes:
            problems.append(f"out: {path} is a folder: another name expected")
            continue
        try:
            create_folder(path.parent)
            with TemporaryFile(dir=path.parent):
                pass
        except OSError as exc:
            problems.append(f"out: {path} cannot be written: {exc.strerror}")
    if problems:
        raise ConfigurationError(problems)


def _output_of(given: Any, dtype: str | None, nodata: Any, options: Any) -> TiledOutput:
    if isinstance(given, TiledOutput):
        return given
    if problems := _path_problems(given):
        raise ConfigurationError(problems)
    if _TYPES[Path(given).suffix] != ARRAYS:
        return TiledOutput(path=given, options=options)
    return TiledOutput(path=given, dtype=dtype, nodata=nodata, options=options)


def _path_problems(path: Any) -> list[str]:
    if not isinstance(path, str | os.PathLike):
        return [f"out: {describe_value(path)} given, the path of a file expected"]
    if Path(path).suffix not in _TYPES:
        known = ", ".join(
            f"{' '.join(suffix for suffix, kind in _TYPES.items() if kind == each)} for {what}"
            for each, what in ((ARRAYS, "rasters"), (POINTS, "tables"), (DICT, "documents"))
        )
        return [
            f"out: {os.fspath(path)!r} given, a name that ends in one of these expected: {known}"
        ]
    return []


def _is_float(dtype: str) -> bool:
    return np.dtype(dtype).kind in "fc"
