"""`batuta map`: a function applied to rasters tile by tile."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.signals import interrupted_by_sigterm
from batuta.errors import ConfigurationError, printable
from batuta.formatting import format_count
from batuta.importing import Reference, import_module

if TYPE_CHECKING:
    from batuta.datasets import SaveOptions

_ACCEPTED: Final = "accepted: MODULE:FUNCTION"
_JOB_MODES: Final = {"slurm_dask", "pbs_dask"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("map")(map_command)


def map_command(  # noqa: PLR0913, PLR0917 - options of a command
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="The function.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="RASTER",
            help="Files that GDAL reads, arrays of Zarr groups; also s3://bucket/key.",
        ),
    ],
    out: Annotated[
        list[str],
        typer.Option(
            "--out",
            "-o",
            help="File of the result: .tif, .zarr, .csv, .parquet, .geoparquet, .las, .laz or"
            " .json, also s3://bucket/key; repeat for several results.",
        ),
    ],
    tile: Annotated[
        str | None,
        typer.Option(help="Side of a tile in pixels, or ROWSxCOLUMNS; chosen if not given."),
    ] = None,
    overlap: Annotated[int, typer.Option(help="Pixels given beyond each tile, on each side.")] = 0,
    edge: Annotated[
        str,
        typer.Option(help="Given beyond the raster: nothing, nodata, reflect, symmetric, nearest."),
    ] = "nothing",
    dtype: Annotated[
        str | None, typer.Option(help="Data type of the rasters; by default of the first tile.")
    ] = None,
    nodata: Annotated[float | None, typer.Option(help="Value of pixels without one.")] = None,
    missing: Annotated[
        str, typer.Option(help="How the function is given such pixels: nan, masked, raw.")
    ] = "nan",
    arrays: Annotated[str, typer.Option(help="What it takes: numpy or xarray.")] = "numpy",
    resampling: Annotated[
        str | None, typer.Option(help="How inputs on another grid are warped: nearest, cubic, ...")
    ] = None,
    region: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="LEFT BOTTOM RIGHT TOP", help="The box that is computed."),
    ] = None,
    compression: Annotated[
        str | None, typer.Option(help="Of the files: deflate, zstd, lzw, lerc, ...")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="sequential, multiprocessing, auto, local_dask, ...; auto if not given."),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="Of jobs of Slurm or PBS; else that of --config, or for Slurm SBATCH_ACCOUNT."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML or JSON file: a configuration of the orchestrator.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Folder of logs, of the profile and of what is resumed.")
    ] = None,
    *,
    cloud_optimized: Annotated[
        bool, typer.Option("--cog", help="Make GeoTIFFs cloud-optimised.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the tiles that an interrupted run saved.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, and compute nothing.")
    ] = False,
) -> None:
    """Apply a function to rasters, tile by tile, and save the results.

    The function takes an array of each raster, and returns one of the same size: as in
    `batuta map terrain:slope dem.tif -o slope.tif --overlap 1`.
    """
    from batuta.tiling import map_tiles  # noqa: PLC0415 - other commands start without it
    from batuta.tiling.outputs import outputs_of  # noqa: PLC0415

    mapped = map_tiles(
        _load(function),
        *inputs,
        tile=_sides(tile),
        overlap=overlap,
        edge=edge,
        missing=missing,
        arrays=arrays,
        resampling=resampling,
        region=region,
        mode=_configuration(mode, account, config),
        resume=resume,
        out_dir=out_dir,
    )
    options = _save_options(compression, cloud_optimized=cloud_optimized)
    outputs = outputs_of(out, dtype, nodata, options)
    typer.echo(f"{mapped.call.name}: {mapped.planned_for(outputs).plan}")
    if dry_run:
        return
    with interrupted_by_sigterm():
        saved = mapped.save(outputs)
    # What is not written was warned of.
    written = [each for each in saved.paths if not isinstance(each, Path) or each.exists()]
    for path in written:
        size = f": {format_count(path.stat().st_size, 'byte')}" if isinstance(path, Path) else ""
        typer.echo(printable(f"{path}{size}"))
    if not written:
        raise typer.Exit(1)


def _load(text: str) -> Callable[..., Any]:
    reference = Reference(kind="function", text=text, accepted=_ACCEPTED, example="slope")
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise reference.error(f"not the name of a function ({_ACCEPTED})")
    module = import_module(reference, module_name)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        what = "has no" if found is None else f"has a {type(found).__name__}"
        raise reference.error(f"module {module_name!r} {what} {name!r} ({_ACCEPTED})")
    function: Callable[..., Any] = found
    return function


def _sides(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(each.isdecimal() for each in sides):
        raise ConfigurationError(f"--tile {text!r} (accepted: 512, or 512x1024)")
    numbers = [int(each) for each in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _configuration(mode: str | None, account: str | None, config: Path | None) -> dict[str, Any]:
    from batuta.cli.options import read_document  # noqa: PLC0415 - it imports YAML

    read = {} if config is None else read_document(config)
    found = {**read, "mode": mode or read.get("mode", "auto")}
    if found["mode"] not in _JOB_MODES:
        return found
    # The variable is Slurm's own: of PBS, it would say nothing.
    of_slurm = os.environ.get("SBATCH_ACCOUNT") if found["mode"] == "slurm_dask" else None
    payer = account or read.get("account") or of_slurm
    return {**found, "account": payer} if payer else found


def _save_options(compression: str | None, *, cloud_optimized: bool) -> "SaveOptions | None":
    from batuta.datasets import SaveOptions  # noqa: PLC0415

    if compression is None and not cloud_optimized:
        return None
    return SaveOptions(compression=compression, cloud_optimized=cloud_optimized)
