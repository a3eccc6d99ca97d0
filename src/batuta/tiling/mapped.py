"""A function mapped over the tiles of its inputs: planned, saved, or an input of another one."""

import importlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from batuta.datasets import SaveOptions
from batuta.datasets.formats import POINTS
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator
from batuta.orchestrator.display import short_path
from batuta.tiling.bucket_objects import in_bucket
from batuta.tiling.bucket_outputs import staged
from batuta.tiling.calls import CallSource, TileCall
from batuta.tiling.outputs import OutputLike, TiledOutput, check_writable, outputs_of
from batuta.tiling.pixels import as_floats
from batuta.tiling.plan import TilePlan, plan_tiles
from batuta.tiling.raster import Pixels
from batuta.tiling.region import Region
from batuta.tiling.run import RunOptions, TileRun
from batuta.tiling.sources import FileSource, Source

if TYPE_CHECKING:
    import xarray as xr

_IN_MEMORY: Final = TiledOutput(path="in memory.tif")
"""Stands for the raster that `MappedTiles.compute` returns."""


@dataclass(frozen=True, kw_only=True)
class MappedTiles:
    """A function mapped over the tiles of its inputs, as `map_tiles` returns it.

    Parameters
    ----------
    call : TileCall
        The function and its inputs.
    region : Region
        What is computed.
    tile : int, (int, int) or None
        Side, or rows and columns, of a tile; None chooses.
    options : RunOptions
        How tiles are computed.
    paths : tuple of Path or str
        The files that the results are saved in, URLs of those in buckets; empty where nothing was
        computed yet.
    output_block_px : int
        Side of the blocks of these files that workers compress; 1 where they compress none.
    """

    call: TileCall
    region: Region
    tile: int | tuple[int, int] | None
    options: RunOptions
    paths: tuple[Path | str, ...] = ()
    output_block_px: int = 1

    @property
    def plan(self) -> TilePlan:
        """The size of the tiles, how many there are, and what each takes at least.

        Raises
        ------
        ConfigurationError
            If there is no such plan: see `map_tiles`.
        """
        limits = self.options.limits()
        return plan_tiles(self.call, self.region, self.tile, limits, self.output_block_px)

    def opened_by(
        self,
        open_orchestrator: Callable[..., Orchestrator],
        out_dir: str | os.PathLike[str],
    ) -> "MappedTiles":
        """Return the same, computed by orchestrators that `open_orchestrator` opens.

        Parameters
        ----------
        open_orchestrator : callable
            Takes a configuration, a folder and `observers`.
        out_dir : path
            The folder that it is called with.
        """
        options = replace(self.options, open_orchestrator=open_orchestrator, out_dir=out_dir)
        return replace(self, options=options)

    def planned_for(self, outputs: Sequence[TiledOutput]) -> "MappedTiles":
        """Return the same, whose tiles are chosen to be whole blocks of what they are saved in."""
        blocks = [each.block_px for each in outputs if each.block_px is not None]
        return replace(self, output_block_px=math.lcm(*blocks))

    def save(
        self,
        out: OutputLike | Sequence[OutputLike],
        *,
        dtype: str | None = None,
        nodata: float | None = None,
        options: SaveOptions | None = None,
    ) -> "MappedTiles":
        """Compute every tile and save the results; see `map_tiles`.

        Raises
        ------
        ConfigurationError
            One line for each mistake, before any tile is computed.
        TilesFailedError
            Once all else is saved, if tiles failed twice.
        BucketError
            If an output cannot be uploaded to its bucket; it is kept on this machine.
        """
        outputs = outputs_of(out, dtype, nodata, options)
        self._refuse_inputs(outputs)
        check_writable(each for each in outputs if not in_bucket(each.path))
        mapped = replace(
            self.planned_for(outputs), paths=tuple(_saved_path(each) for each in outputs)
        )
        if any(each.dataset_type == POINTS for each in outputs):
            # Before workers are started, which inherit pandas.
            importlib.import_module("batuta.datasets.point_file")
        run = mapped._run()
        with staged(outputs, self.options.out_dir, resume=self.options.resumes) as here:
            run.save(here.outputs)
        return mapped

    def compute(self) -> "xr.DataArray":
        """Compute every tile, and return the whole raster.

        Pixels that no tile gives are NaN; whole numbers then become floats.

        Raises
        ------
        TilesFailedError
            If tiles failed twice.
        """
        tiles = self._run().arrays(_IN_MEMORY)
        whole: Pixels | None = None
        bands: Sequence[str] = ()
        given = np.zeros(self.region.window.shape, dtype=bool)
        for window, variable in tiles:
            pixels = variable.values
            if whole is None:
                bands = variable.bands
                whole = np.empty((*pixels.shape[:-2], *given.shape), pixels.dtype)
            rows = slice(window.row_min, window.row_max)
            whole[..., rows, window.col_min : window.col_max] = pixels
            given[rows, window.col_min : window.col_max] = True
        if whole is None:
            raise ConfigurationError(f"{self.call.name}: every tile is empty")
        if not given.all():
            whole = as_floats(whole)
            whole[..., ~given] = np.nan
        return self._placed(whole, bands)

    def _run(self) -> TileRun:
        return TileRun(call=self.call, region=self.region, plan=self.plan, options=self.options)

    def _placed(self, whole: Pixels, bands: Sequence[str]) -> "xr.DataArray":
        import xarray as xr  # noqa: PLC0415 - for whoever asks for its arrays

        raster = self.call.raster.part(self.region.window)
        array = xr.DataArray(whole, dims=("band", "y", "x")[-whole.ndim :], name=self.call.name)
        if bands:
            array = array.assign_coords(band=list(bands))
        if raster.transform is not None and not (raster.transform.b or raster.transform.d):
            place = raster.transform
            array = array.assign_coords(
                x=place.c + place.a * (np.arange(raster.width) + 0.5),
                y=place.f + place.e * (np.arange(raster.height) + 0.5),
            )
        if raster.crs is not None:
            array.attrs["crs"] = raster.crs
        return array

    def __fspath__(self) -> str:
        if len(self.paths) != 1:
            what = "nothing was saved yet" if not self.paths else f"it has {len(self.paths)} files"
            raise TypeError(f"{self!r} is not the path of a file: {what}")
        return os.fspath(self.paths[0])

    def __repr__(self) -> str:
        where = ", ".join(map(_shown, self.paths)) or "not computed"
        return f"<MappedTiles {self.call.name}: {where}>"

    def _repr_html_(self) -> str:
        plan = self.plan
        rows = [
            ("tiles", f"{plan.tiles} of {plan.tile[0]} x {plan.tile[1]} pixels, {plan.reason}"),
            ("in", ", ".join(each.raster.name for each in self.call.sources)),
            ("overlap", f"{self.call.overlap} pixels"),
            ("a tile takes at least", f"{plan.ram_mb:.3g} MB"),
            *(("saved in", _shown(each)) for each in self.paths),
        ]
        # For notebooks alone.
        from batuta.tiling.display import mapped_html  # noqa: PLC0415

        done = "saved" if self.paths else "not computed"
        return mapped_html(f"{self.call.name}: {done}", plan, self.region, rows, self.paths)

    def _refuse_inputs(self, outputs: Sequence[TiledOutput]) -> None:
        written = {_identity(each.path) for each in outputs}
        for path in _files_of(self.call):
            if _identity(path) in written:
                raise ConfigurationError(f"out: {path} is an input: another name expected")


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | str:
    """Return what is the same for all names of a file, hard links too."""
    try:
        found = Path(path).stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _saved_path(output: TiledOutput) -> Path | str:
    return os.fspath(output.path) if in_bucket(output.path) else Path(output.path).absolute()


def _shown(path: Path | str) -> str:
    return path if isinstance(path, str) else short_path(path)


def _files_of(call: TileCall) -> Sequence[str]:
    found: list[str] = []
    for source in call.sources:
        found += _files_of(source.call) if isinstance(source, CallSource) else _file_of(source)
    return found


def _file_of(source: Source) -> list[str]:
    if isinstance(source, FileSource):
        return [source.path]
    group = getattr(source, "group", None)
    return [] if group is None else [group]
