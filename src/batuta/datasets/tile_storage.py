"""Saving and loading one tile in a folder; without pickle, so that any folder is safe to read."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from batuta.datasets.array_tile import ArrayTile
from batuta.datasets.errors import TileError
from batuta.datasets.json_codec import dumps, loads
from batuta.datasets.loaded_libraries import is_data_frame, is_dataset
from batuta.datasets.tiles import CarsDict

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from batuta.datasets.tile_types import Tile

ATTRIBUTES_FILE: Final = "attributes.json"
ARRAYS_FILE: Final = "arrays.npz"
LAYOUT_FILE: Final = "layout.json"
POINTS_FILE: Final = "points.parquet"
DICT_FILE: Final = "dict.json"


def save_tile(tile: "Tile | ArrayTile", folder: Path) -> None:
    """Write `tile` and its attributes to `folder`, which is created."""
    if isinstance(tile, ArrayTile):
        tile = tile.to_dataset()
    save: Callable[[Path], None]
    if is_dataset(tile):
        save = partial(_save_arrays, tile)
    elif is_data_frame(tile):
        save = partial(_save_points, tile)
    elif isinstance(tile, CarsDict):
        save = partial(_save_dict, tile)
    else:
        raise TileError(f"{type(tile).__name__} is not a tile: Dataset, DataFrame or CarsDict")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ATTRIBUTES_FILE).write_text(dumps(tile.attrs), encoding="utf-8")
    save(folder)


def load_tile(folder: Path, dataset_type: str) -> "Tile":
    """Read a tile of `dataset_type` written by `save_tile`."""
    tile = _LOADERS[dataset_type](folder)
    tile.attrs = loads((folder / ATTRIBUTES_FILE).read_text(encoding="utf-8"))
    return tile


def _save_arrays(tile: "xr.Dataset", folder: Path) -> None:
    layout: dict[str, Any] = {"coords": [], "data_vars": []}
    arrays: dict[str, Any] = {}
    kinds = {"coords": tile.coords, "data_vars": tile.data_vars}
    for kind, variables in kinds.items():
        for name, variable in variables.items():
            if variable.dtype.hasobject:
                raise TileError(f"{name}: an array of objects cannot be saved")
            layout[kind].append(
                {"name": name, "dims": list(variable.dims), "attrs": dict(variable.attrs)}
            )
            arrays[f"{kind}/{name}"] = variable.to_numpy()
    (folder / LAYOUT_FILE).write_text(dumps(layout), encoding="utf-8")
    _save_npz(folder / ARRAYS_FILE, arrays)


def _save_npz(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def _load_arrays(folder: Path) -> "xr.Dataset":
    import xarray as xr  # noqa: PLC0415 - of tiles of arrays alone

    layout = loads((folder / LAYOUT_FILE).read_text(encoding="utf-8"))
    with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
        variables = {
            kind: {
                each["name"]: (each["dims"], arrays[f"{kind}/{each['name']}"], each["attrs"])
                for each in layout[kind]
            }
            for kind in ("coords", "data_vars")
        }
    return xr.Dataset(variables["data_vars"], coords=variables["coords"])


def _save_points(tile: "pd.DataFrame", folder: Path) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415 - of tiles of points alone

    from batuta.datasets.point_cloud import table_of  # noqa: PLC0415 - the same

    pq.write_table(table_of(tile), folder / POINTS_FILE)


def _load_points(folder: Path) -> "pd.DataFrame":
    import pyarrow.parquet as pq  # noqa: PLC0415 - of tiles of points alone

    points: pd.DataFrame = pq.read_table(folder / POINTS_FILE).to_pandas()
    return points


def _save_dict(tile: CarsDict, folder: Path) -> None:
    arrays = {key: value for key, value in tile.items() if isinstance(value, np.ndarray)}
    for key, value in arrays.items():
        if value.dtype.hasobject:
            raise TileError(f"{key}: an array of objects cannot be saved")
    rest = {key: value for key, value in tile.items() if key not in arrays}
    (folder / DICT_FILE).write_text(dumps({"order": list(tile), "rest": rest}), encoding="utf-8")
    _save_npz(folder / ARRAYS_FILE, arrays)


def _load_dict(folder: Path) -> CarsDict:
    saved = loads((folder / DICT_FILE).read_text(encoding="utf-8"))
    with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
        values = saved["rest"] | {key: arrays[key] for key in arrays.files}
    return CarsDict({key: values[key] for key in saved["order"]})


_LOADERS: Final[dict[str, Callable[[Path], "Tile"]]] = {
    "arrays": _load_arrays,
    "points": _load_points,
    "dict": _load_dict,
}
