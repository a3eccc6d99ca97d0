"""`map_tiles` and `reduce_tiles`: a function of arrays, applied to rasters tile by tile."""

import functools
import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from batuta.datasets import SaveOptions
from batuta.errors import ConfigurationError, describe_value
from batuta.orchestrator import Observer
from batuta.orchestrator.arguments import checked_observers
from batuta.tiling.adding import add_results
from batuta.tiling.calls import (
    CallSource,
    TileCall,
    check_combine,
    check_function,
    takes_place,
)
from batuta.tiling.edges import EDGES, NOTHING
from batuta.tiling.mapped import MappedTiles
from batuta.tiling.opening import check_resampling, open_source, warped_to
from batuta.tiling.outputs import OutputLike
from batuta.tiling.pixels import ARRAYS, MISSING, NAN, NUMPY, XARRAY
from batuta.tiling.plan import plan_tiles
from batuta.tiling.region import region_of
from batuta.tiling.run import RunOptions, TileRun
from batuta.tiling.sources import FileSource, Source

_CHOICES: Final = {"edge": EDGES, "missing": MISSING, "arrays": ARRAYS}


def map_tiles(  # noqa: PLR0913 - each is a choice of whoever writes one line
    func: Callable[..., Any],
    *inputs: Any,
    out: OutputLike | Sequence[OutputLike] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int = 0,
    edge: str = NOTHING,
    dtype: str | None = None,
    nodata: float | None = None,
    missing: str = NAN,
    arrays: str = NUMPY,
    resampling: str | None = None,
    region: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    options: SaveOptions | None = None,
    mode: str | Mapping[str, Any] = "auto",
    resume: bool = False,
    out_dir: str | os.PathLike[str] | None = None,
    observers: Iterable[Observer] = (),
) -> MappedTiles:
    """Apply a function to rasters, tile by tile, and save its results.

    The result is that of the function on the whole rasters, where it needs no more than `overlap`
    pixels around each.

    Parameters
    ----------
    func : callable
        Takes an array of each input, of shape (rows, columns), or (bands, rows, columns) where it
        has several bands, overlaps included. Returns an array of the same rows and columns, or of
        those without overlaps; a DataFrame or a dictionary for outputs that hold such; a tuple of
        them for several outputs; None for an empty tile. A parameter `place` is told where the
        tile lies: a `batuta.tiling.TilePlace`.
    *inputs : path, xarray or NumPy array, or MappedTiles
        On one grid. Paths are of anything that GDAL reads, or of arrays in Zarr groups
        (``data.zarr/ndvi``). A result of `map_tiles` that is not saved is computed tile by tile
        with this one, and no file is between them.
    out : path, TiledOutput, or a sequence of them, optional
        One for each result; the suffix selects the format. Without it, nothing is computed:
        call `save` or `compute` of what is returned, or pass that as an input.
    tile : int or (int, int), optional
        Side, or rows and columns, of a tile in pixels, without overlaps. By default chosen by
        the blocks of the first input, the memory of a worker and the number of workers.
    overlap : int
        Pixels that the function is given beyond each tile, on each side.
    edge : str
        What it is given beyond the edges of the raster: ``nothing`` (its arrays end there),
        ``nodata``, ``reflect``, ``symmetric`` or ``nearest``; the last three as `numpy.pad` has
        them.
    dtype : str, optional
        Data type of the rasters. Default: that of the first tile.
    nodata : float, optional
        Value of pixels without one in them: those that the function returns as NaN or masked,
        and those of empty tiles. Default: NaN in floats, none in whole numbers.
    missing : str
        How the function is given pixels without a value: ``nan`` (whole numbers then become
        floats), ``masked`` (masked arrays) or ``raw`` (as they are stored).
    arrays : str
        ``numpy``, or ``xarray`` for DataArrays with coordinates.
    resampling : str, optional
        Name of rasterio's resampling by which inputs on another grid are warped to that of the
        first, tile by tile. Without it, they are refused.
    region : Window, (left, bottom, right, top) or polygon, optional
        The part that is computed, and that the outputs cover: in pixels, or in coordinates of
        the raster. Of a polygon (GeoJSON, or of shapely), only tiles that it touches.
    kwargs : mapping, optional
        Passed to the function each time.
    options : SaveOptions, optional
        Compression, blocks, tags and other options of the outputs.
    mode : str or mapping
        How tiles are computed: ``sequential``, ``multiprocessing``, ``auto``, ``local_dask``,
        ``slurm_dask``, ``pbs_dask``, ``dask``; or a whole configuration of the orchestrator.
    resume : bool
        Whether tiles that an interrupted run saved are kept, where nothing that they are made
        from has changed.
    out_dir : path, optional
        Folder of logs, of the profile and of what is kept to resume. Default: ``<out>.run``
        beside the first output, where there is any of these.
    observers : iterable of Observer
        Called with each event of the run.

    Returns
    -------
    MappedTiles
        Also a path, once it is saved in one file.

    Raises
    ------
    ConfigurationError
        One line for each mistake, before any tile is computed.
    TilesFailedError
        Once all else is saved, if tiles failed twice.
    """
    call = _call_of(
        func,
        inputs,
        overlap=overlap,
        edge=edge,
        missing=missing,
        arrays=arrays,
        resampling=resampling,
        kwargs=kwargs,
    )
    mapped = MappedTiles(
        call=call,
        region=region_of(region, call.raster),
        tile=tile,
        options=RunOptions(
            mode=mode, resume=resume, out_dir=out_dir, observers=checked_observers(observers)
        ),
    )
    return mapped if out is None else mapped.save(out, dtype=dtype, nodata=nodata, options=options)


def reduce_tiles(  # noqa: PLR0913 - as `map_tiles`
    func: Callable[..., Any],
    *inputs: Any,
    combine: Callable[[Any, Any], Any] = add_results,
    tile: int | tuple[int, int] | None = None,
    overlap: int = 0,
    edge: str = NOTHING,
    missing: str = NAN,
    arrays: str = NUMPY,
    resampling: str | None = None,
    region: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    mode: str | Mapping[str, Any] = "auto",
    out_dir: str | os.PathLike[str] | None = None,
    observers: Iterable[Observer] = (),
) -> Any:
    """Apply a function to rasters, tile by tile, and combine its results to one.

    Parameters
    ----------
    func : callable
        As in `map_tiles`, but it may return any object: a number, a histogram, a `Counter`, a
        `batuta.Statistics`, a tuple of them; None for nothing. `batuta.Percentiles` is one.
    *inputs, tile, overlap, edge, missing, arrays, resampling, region, kwargs, mode, out_dir, \
    observers
        As in `map_tiles`.
    combine : callable
        Takes two results, and returns that of both. Default: their sum; of tuples, the sum of
        each of their elements. It is called in this process, tile by tile, row by row: the result
        is the same whoever computes.

    Returns
    -------
    Any
        The combined result.

    Raises
    ------
    ConfigurationError
        One line for each mistake, before any tile is computed; or if every tile gives None.
    TilesFailedError
        If tiles failed twice: a result of the others would be wrong.
    """
    call = _call_of(
        func,
        inputs,
        overlap=overlap,
        edge=edge,
        missing=missing,
        arrays=arrays,
        resampling=resampling,
        kwargs=kwargs,
    )
    check_combine(combine)
    options = RunOptions(mode=mode, out_dir=out_dir, observers=checked_observers(observers))
    found = region_of(region, call.raster)
    plan = plan_tiles(call, found, tile, options.limits())
    run = TileRun(call=call, region=found, plan=plan, options=options)
    partials = run.partials(added=combine is add_results)
    first = next(partials, None)
    if first is None:
        raise ConfigurationError(f"{call.name}: every tile is empty")
    return functools.reduce(combine, partials, first)


def _call_of(
    func: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    resampling: str | None,
    kwargs: Mapping[str, Any] | None,
    **how: Any,
) -> TileCall:
    """Return the call that is asked for, checked."""
    _check_choices(**{key: how[key] for key in _CHOICES})
    overlap = how["overlap"]
    if not isinstance(overlap, int) or isinstance(overlap, bool) or overlap < 0:
        raise ConfigurationError(
            f"overlap: {describe_value(overlap)} given, a whole number of at least 0 expected"
        )
    if not inputs:
        raise ConfigurationError("inputs: none given, at least one expected")
    if how["arrays"] == XARRAY:
        # Before workers are started, which inherit it.
        importlib.import_module("batuta.datasets.tile_types")
    check_function(func, len(inputs), kwargs or {})
    check_resampling(resampling)
    sources = _sources_of(inputs, resampling)
    return TileCall(
        function=func,
        sources=sources,
        raster=sources[0].raster,
        kwargs=dict(kwargs or {}),
        takes_place=takes_place(func),
        **how,
    )


def _check_choices(**given: str) -> None:
    problems = [
        f"{key}: {describe_value(value)} given, one of {', '.join(_CHOICES[key])} expected"
        for key, value in given.items()
        if value not in _CHOICES[key]
    ]
    if problems:
        raise ConfigurationError(problems)


def _sources_of(inputs: Sequence[Any], resampling: str | None) -> tuple[Source, ...]:
    names = (
        ["input"] if len(inputs) == 1 else [f"input {rank}" for rank in range(1, len(inputs) + 1)]
    )
    sources = [_source_of(each, name) for each, name in zip(inputs, names, strict=True)]
    grid = sources[0].raster
    problems: list[str] = []
    for rank, source in enumerate(sources[1:], start=1):
        difference = grid.grid_difference(source.raster)
        if difference is None:
            continue
        if resampling is not None:
            sources[rank] = warped_to(source, grid, resampling, names[rank])
            continue
        hint = "; with resampling, it is warped" if isinstance(source, FileSource) else ""
        problems.append(
            f"{names[rank]}: {source.raster.name} is not on the grid of {grid.name}: it has"
            f" {difference}{hint}"
        )
    if problems:
        raise ConfigurationError(problems)
    return tuple(sources)


def _source_of(given: Any, name: str) -> Source:
    if not isinstance(given, MappedTiles):
        return open_source(given, name)
    if given.paths:
        return open_source(given, name)
    if given.region.window != given.call.raster.window:
        raise ConfigurationError(f"{name}: it has a region: pass that to the last call instead")
    return CallSource(call=given.call)
