"""Slopes, shades, statistics and steep points of an elevation model, tile by tile.

``python examples/terrain/terrain.py --output DIR`` makes, of the model that comes with
matplotlib or of the one that ``--dem`` names: ``slope.tif`` (degrees), ``hillshade.tif`` (1 to
255, 0 is no data), ``statistics.json`` (one record per tile) and ``steep.parquet`` (one row per
steep pixel). Killed and started again with ``--resume``, it computes what is missing.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr

if __name__ == "__main__":  # run as a script, it finds its neighbours all the same
    sys.path.insert(0, str(Path(__file__).parents[2]))

from batuta.datasets import (
    CarsDataset,
    CarsDict,
    Overlaps,
    Window,
    fill_dataframe,
    fill_dataset,
    fill_dict,
)
from batuta.orchestrator import Observer, Orchestrator, update_saving_infos
from examples.terrain.dem import Dem, write_sample
from examples.terrain.relief import MARGIN_PX, gradient, hillshade, slope_deg

NODATA_SLOPE: Final = float("nan")
SHADES: Final = 255


@dataclass(frozen=True)
class Place:
    """A tile of an elevation model."""

    window: Window
    overlaps: Overlaps

    def inner(self, values: Any) -> Any:
        """Cut the overlaps off an array."""
        rows, cols = self.window.shape
        up, left = self.overlaps.up, self.overlaps.left
        return values[up : up + rows, left : left + cols]


# The tasks: each runs in a worker


def relief(dem: Dem, place: Place, saving_info: dict[str, Any]) -> xr.Dataset:
    """Read the heights of a tile and derive its slope and its shade, overlaps included.

    Shades go from 1, no light, to 255, as files of bytes have no NaN.
    """
    heights = dem.read(place.window, place.overlaps)
    first_row = place.window.row_min - place.overlaps.up
    north, east = gradient(heights, *dem.pixel_size_m(first_row, heights.shape[0]))
    shade = np.rint(1 + (SHADES - 1) * hillshade(north, east))
    tile = xr.Dataset(
        {
            "height": (("row", "col"), heights),
            "slope": (("row", "col"), slope_deg(north, east)),
            "hillshade": (("row", "col"), shade),
        }
    )
    fill_dataset(
        tile,
        saving_info=saving_info,
        window=place.window.as_dict(),
        overlaps=place.overlaps.as_dict(),
        profile=dem.profile,
    )
    return tile


def statistics(tile: xr.Dataset, place: Place, saving_info: dict[str, Any]) -> CarsDict:
    """Sum up a tile, overlaps not counted."""
    slope = place.inner(tile["slope"].to_numpy())
    height = place.inner(tile["height"].to_numpy())
    known = slope[np.isfinite(slope)]
    content: dict[str, Any] = {**place.window.as_dict(), "pixels": int(known.size)}
    if known.size:
        content |= {
            "slope_mean_deg": float(known.mean()),
            "slope_max_deg": float(known.max()),
            "height_min_m": float(np.nanmin(height)),
            "height_max_m": float(np.nanmax(height)),
        }
    summary = CarsDict(content)
    fill_dict(summary, saving_info=saving_info)
    return summary


def steep_points(
    tile: xr.Dataset, dem: Dem, place: Place, steep_deg: float, saving_info: dict[str, Any]
) -> pd.DataFrame:
    """List the pixels steeper than `steep_deg`, by the coordinates of their centres."""
    slope = place.inner(tile["slope"].to_numpy())
    height = place.inner(tile["height"].to_numpy())
    rows, cols = np.nonzero(slope > steep_deg)
    x, y = dem.centres(rows + place.window.row_min, cols + place.window.col_min)
    points = pd.DataFrame({"x": x, "y": y, "z": height[rows, cols], "slope_deg": slope[rows, cols]})
    fill_dataframe(points, saving_info=saving_info)
    return points


# The program


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to make of a model.

    Parameters
    ----------
    tile_px : int
        Side of a tile.
    steep_deg : float
        From which slope a pixel is a steep point.
    """

    tile_px: int = 64
    steep_deg: float = 25.0


def make_products(
    dem: Dem,
    output: Path,
    conf: dict[str, Any],
    settings: Settings | None = None,
    observers: Iterable[Observer] = (),
) -> None:
    """Make the four products of `dem` in the folder `output`.

    Parameters
    ----------
    dem : Dem
        The elevation model.
    output : path
        Made if it is not there.
    conf : dict
        Of the orchestrator.
    settings : Settings, optional
        What to make.
    observers : iterable of Observer
        Told of each tile.
    """
    settings = settings or Settings()
    with Orchestrator(conf, output, observers=observers) as orchestrator:
        reliefs = CarsDataset("arrays", name="relief")
        side, margin = settings.tile_px, MARGIN_PX
        reliefs.create_grid(dem.cols, dem.rows, side, side, margin, margin)
        summaries, points = (
            CarsDataset("dict", name="statistics"),
            CarsDataset("points", name="steep"),
        )
        summaries.create_empty_copy(reliefs)
        points.create_empty_copy(reliefs)
        _save(orchestrator, output, reliefs, summaries, points)
        infos = orchestrator.get_saving_infos([reliefs, summaries, points])
        create_task = orchestrator.cluster.create_task
        for row, col in reliefs.positions():
            place = _place(reliefs, row, col)
            of_relief, of_summary, of_points = (
                update_saving_infos(info, row=row, col=col) for info in infos
            )
            tile = create_task(relief)(dem, place, of_relief)
            reliefs[row, col] = tile
            summaries[row, col] = create_task(statistics)(tile, place, of_summary)
            points[row, col] = create_task(steep_points)(
                tile, dem, place, settings.steep_deg, of_points
            )


def _save(
    orchestrator: Orchestrator,
    output: Path,
    reliefs: CarsDataset,
    summaries: CarsDataset,
    points: CarsDataset,
) -> None:
    orchestrator.add_to_save_lists(output / "slope.tif", "slope", reliefs, nodata=NODATA_SLOPE)
    orchestrator.add_to_save_lists(
        output / "hillshade.tif", "hillshade", reliefs, dtype="uint8", nodata=0
    )
    orchestrator.add_to_save_lists(output / "statistics.json", "statistics", summaries)
    orchestrator.add_to_save_lists(output / "steep.parquet", "steep", points)


def _place(dataset: CarsDataset, row: int, col: int) -> Place:
    return Place(
        Window.from_mapping(dataset.get_window_as_dict(row, col)),
        Overlaps.from_mapping(dataset.get_overlaps_as_dict(row, col)),
    )


def main(arguments: Sequence[str] | None = None, observers: Iterable[Observer] = ()) -> None:
    """Read the command line and make the products."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the products")
    parser.add_argument(
        "--dem", type=Path, help="GeoTIFF of heights in m; matplotlib's if not given"
    )
    parser.add_argument(
        "--mode", default="multiprocessing", help="sequential, multiprocessing, auto"
    )
    parser.add_argument("--workers", type=int, default=2, help="of the mode multiprocessing")
    parser.add_argument("--tile", type=int, default=Settings.tile_px, help="side, in pixels")
    parser.add_argument("--steep", type=float, default=Settings.steep_deg, help="degrees")
    parser.add_argument("--resume", action="store_true", help="go on where a run was interrupted")
    parser.add_argument("--profile", action="store_true", help="show where time and memory went")
    asked = parser.parse_args(arguments)
    asked.output.mkdir(parents=True, exist_ok=True)
    source = asked.dem
    if source is None:
        source = asked.output / "elevation.tif"
        write_sample(source)
    conf: dict[str, Any] = {"mode": asked.mode}
    if asked.mode == "multiprocessing":
        conf["nb_workers"] = asked.workers
    if asked.resume:
        conf["resume"] = True
    if asked.profile:
        conf["profiling"] = {}
    settings = Settings(tile_px=asked.tile, steep_deg=asked.steep)
    make_products(Dem.opened(source), asked.output, conf, settings, observers)


if __name__ == "__main__":
    main()
