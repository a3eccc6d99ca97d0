"""How a map over tiles is displayed in a notebook: its grid, states of tiles, a picture."""

import base64
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from batuta.datasets.display import (
    DONE_FILL,
    FAILED_FILL,
    NO_FILL,
    grid_drawing,
    html_table,
    html_text,
    html_title,
)
from batuta.datasets.raster_file import ignore_missing_georeferencing
from batuta.formatting import format_count
from batuta.orchestrator.stale_outputs import manifest_path
from batuta.quicklook.stretch import coloured, grey, scaled, value_range, with_alpha
from batuta.tiling.plan import TilePlan, grid_spec
from batuta.tiling.raster import Pixels
from batuta.tiling.region import Region

_QUICKLOOK_PX: Final = 240
"""Of its longer side."""
_MAX_READ_PX: Final = 400_000_000
"""A larger raster without overviews is not read for a picture."""


def mapped_html(
    title: str,
    plan: TilePlan,
    region: Region,
    rows: Sequence[tuple[str, object]],
    saved: Sequence[Path | str],
) -> str:
    """Return a map over tiles as HTML.

    Parameters
    ----------
    title : str
        The map in a line.
    plan : TilePlan
        Its tiles.
    region : Region
        What they cover.
    rows : sequence of (str, object)
        Of its table.
    saved : sequence of Path or str
        The files that it was saved in; of those in buckets, the URLs. Empty before.
    """
    paths = [each for each in saved if isinstance(each, Path)]
    failed = _failed_tiles(paths)
    fills = np.where(plan.touched & bool(saved), DONE_FILL, NO_FILL).tolist()
    for row, col in failed:
        fills[row][col] = FAILED_FILL
    states = []
    if saved:
        counts = [f"{plan.tiles - len(failed)} done", f"{len(failed)} failed"]
        states = [("states", ", ".join(counts if failed else counts[:1]))]
    if skipped := plan.touched.size - plan.tiles:
        states.append(("outside of the region", format_count(skipped, "tile")))
    drawing = grid_drawing(grid_spec(plan, region).tiling(), fills)
    table = html_table([*rows[:1], *states, *rows[1:]])
    return html_title(title) + drawing + _quicklook(paths) + table


def _failed_tiles(paths: Sequence[Path]) -> set[tuple[int, int]]:
    """Return the row and column of each tile that an output lacks, as the manifests tell."""
    failed: set[tuple[int, int]] = set()
    for path in paths:
        with contextlib.suppress(OSError):  # removed since: the tiles are as the run left them
            content = json.loads(manifest_path(path).read_text(encoding="utf-8"))
            failed.update((each["row"], each["col"]) for each in content["failed"])
    return failed


def _quicklook(paths: Sequence[Path]) -> str:
    """Return a picture of the first GeoTIFF; nothing where there is none to read."""
    found = next((each for each in paths if each.suffix in {".tif", ".tiff"}), None)
    if found is None:
        return ""
    try:
        with ignore_missing_georeferencing(), rasterio.open(found) as raster:
            if raster.height * raster.width > _MAX_READ_PX and not raster.overviews(1):
                return ""
            scale = _QUICKLOOK_PX / max(raster.shape)
            height, width = (max(1, round(side * scale)) for side in raster.shape)
            bands = [1, 2, 3] if raster.count >= 3 else [1]
            pixels = raster.read(bands, out_shape=(len(bands), height, width), masked=True)
    except (OSError, RasterioError):
        return ""  # removed since: the display is of the map, not of its file
    encoded = base64.b64encode(_png(_rgba(pixels))).decode()
    return f'<img alt="{html_text(found.name)}" src="data:image/png;base64,{encoded}"/>'


def _rgba(pixels: Any) -> Pixels:
    values = np.abs(pixels.data) if pixels.dtype.kind == "c" else pixels.data
    shown = ~np.ma.getmaskarray(pixels).all(axis=0) & np.isfinite(values).any(axis=0)
    fractions = [scaled(each, value_range(each[shown])) for each in values]
    if len(fractions) == 3:
        rgb = (np.stack(fractions, axis=-1) * 255).astype(np.uint8)
    else:
        rgb = (coloured if values.dtype.kind == "f" else grey)(fractions[0])
    return with_alpha(rgb, shown)


def _png(rgba: Pixels) -> bytes:
    height, width = rgba.shape[:2]
    with ignore_missing_georeferencing(), MemoryFile() as memory:
        with memory.open(
            driver="PNG", height=height, width=width, count=4, dtype="uint8"
        ) as picture:
            picture.write(np.moveaxis(rgba, -1, 0))
        return bytes(memory.read())
