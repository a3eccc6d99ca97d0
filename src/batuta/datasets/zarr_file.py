"""Arrays in Zarr: a group with the variable, its coordinates and its georeferencing.

Written in Zarr format 2, which all readers support and which has a type for band names. The
group is written to the workspace of the output, and renamed when all tiles are in.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zarr
from affine import Affine
from rasterio.crs import CRS

from batuta.datasets.array_file import ArrayFile, RasterSpec
from batuta.datasets.durable_file import Workspace, remove, replace_folder, sync_tree
from batuta.datasets.errors import TileError
from batuta.datasets.grid import Window
from batuta.datasets.options import SaveOptions
from batuta.datasets.zarr_store import DurableStore
from batuta.errors import ConfigurationError

SPATIAL_REF: Final = "spatial_ref"
"""Variable that holds the georeferencing, by the conventions of CF and GDAL."""

_DIMS: Final = "_ARRAY_DIMENSIONS"
_CODECS: Final[dict[str | None, Any]] = {
    None: {"id": "zstd", "level": 3},
    "zstd": {"id": "zstd", "level": 3},
    "deflate": {"id": "zlib", "level": 6},
    "none": None,
}


class ZarrFile(ArrayFile):
    """A Zarr group of one raster.

    Parameters
    ----------
    path : path
        The folder of the group.
    spec : RasterSpec or None
        The raster; None to resume the existing one.
    options : SaveOptions
        Compression, chunk size, attributes.
    resume : bool
        Whether to resume the group of an earlier run.

    Raises
    ------
    ConfigurationError
        If the name of the variable is not accepted in Zarr.
    TileError
        If there is nothing to resume, or it is another raster.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: RasterSpec | None,
        options: SaveOptions,
        *,
        resume: bool = False,
    ) -> None:
        if spec is not None:
            _check_tag(spec)
        self._final = False
        self._workspace = Workspace(Path(path), resume=resume)
        self._store_folder = DurableStore(self._workspace.folder / "group.zarr")
        if resume:
            self._array, found = _open_existing(self._store_folder, Path(path).name)
            if spec is not None:
                spec.check_matches(found, Path(path).name)
        else:
            found = _require_spec(spec, Path(path).name)
            self._array = _create(self._store_folder, found, options)
        super().__init__(path, spec or found, options)

    def _store(self, bands: npt.NDArray[Any], window: Window) -> None:
        self._array[self._selection(window)] = bands if self._array.ndim == 3 else bands[0]

    def _load(self, window: Window) -> npt.NDArray[Any]:
        pixels: npt.NDArray[Any] = np.asarray(self._array[self._selection(window)])
        return pixels if self._array.ndim == 3 else pixels[np.newaxis]

    def _selection(self, window: Window) -> tuple[slice, ...]:
        rows = slice(window.row_min, window.row_max)
        cols = slice(window.col_min, window.col_max)
        return (slice(None), rows, cols) if self._array.ndim == 3 else (rows, cols)

    def checkpoint(self) -> None:
        """Make everything written so far durable against a killed process and a power loss."""
        self._store_folder.sync()

    def close(self, *, keep: bool = False) -> None:
        """Rename the group to its final name."""
        if self._final:
            return
        group = self._store_folder.root
        draft = group
        if keep:
            self.checkpoint()
            draft = group.with_name("unfinished.zarr")
            remove(draft)
            # A chunk file is replaced, never modified, so both groups may share it by a hard link.
            shutil.copytree(group, draft, copy_function=_hard_link)
        replace_folder(draft, self.path)
        self._final = True
        if not keep:
            self._workspace.remove()

    def suspend(self) -> None:
        """Stop, and keep what was written for a later run."""
        self.checkpoint()

    def abandon(self) -> None:
        """Delete what was written; an earlier group at the path is left as it was."""
        self._final = True
        self._workspace.remove()


def _hard_link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _check_tag(spec: RasterSpec) -> None:
    taken = {SPATIAL_REF, "x", "y", *spec.dims}
    if "/" in spec.tag or "\\" in spec.tag or spec.tag.startswith(".") or spec.tag in taken:
        raise ConfigurationError(
            f"tag: {spec.tag!r} given, Zarr needs a name without / that is not one of"
            f" {', '.join(sorted(taken))}"
        )


def _require_spec(spec: RasterSpec | None, file_name: str) -> RasterSpec:
    if spec is None:
        raise TileError(f"{file_name}: a tile is needed to create the group")
    return spec


def _open_existing(store: DurableStore, file_name: str) -> tuple[Any, RasterSpec]:
    try:
        group = zarr.open_group(store, mode="r+", zarr_format=2)
    except FileNotFoundError as exc:
        raise TileError(f"{file_name}: nothing to resume: not a Zarr group") from exc
    name, array = next((name, each) for name, each in group.arrays() if each.ndim >= 2)
    *bands, height, width = array.shape
    nodata = array.fill_value
    return array, RasterSpec(
        height=height,
        width=width,
        count=bands[0] if bands else 1,
        dtype=str(array.dtype),
        nodata=None if nodata is None else nodata.item(),
        bands=_existing_bands(group, array) if bands else (),
        tag=name,
    )


def _existing_bands(group: Any, array: Any) -> tuple[str, ...]:
    dim = array.attrs[_DIMS][0]
    return tuple(map(str, group[dim][...])) if dim in group else ()


def _create(store: DurableStore, spec: RasterSpec, options: SaveOptions) -> Any:
    group = zarr.open_group(store, mode="w", zarr_format=2, attributes=dict(options.tags))
    dims = _dims(spec)
    _write_coordinates(group, spec, dims)
    sides = (options.block_px,) * 2 if options.block_px else spec.tile_shape
    chunks = tuple(
        min(side, size) for side, size in zip(sides, (spec.height, spec.width), strict=True)
    )
    array = group.create_array(
        spec.tag,
        shape=(spec.count, spec.height, spec.width)[3 - len(dims) :],
        chunks=(1, *chunks)[3 - len(dims) :],
        dtype=spec.dtype,
        fill_value=spec.nodata,
        filters=None,
        compressors=_CODECS[options.compression],
        attributes={_DIMS: list(dims)} | _array_attributes(spec, dims),
        config={"write_empty_chunks": False},
    )
    _consolidate(store)
    sync_tree(store.root.parent)
    return array


def _dims(spec: RasterSpec) -> tuple[str, ...]:
    return spec.dims if spec.transform is None else (*spec.dims[:-2], "y", "x")


def _array_attributes(spec: RasterSpec, dims: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if _is_georeferenced(spec):
        found |= {"grid_mapping": SPATIAL_REF, "coordinates": SPATIAL_REF}
    if len(dims) == 2 and spec.bands:
        found["long_name"] = spec.bands[0]
    return found


def _is_georeferenced(spec: RasterSpec) -> bool:
    return spec.transform is not None or spec.crs is not None


def _write_coordinates(group: Any, spec: RasterSpec, dims: tuple[str, ...]) -> None:
    if len(dims) == 3 and spec.bands:
        _write_array(group, dims[0], np.array(spec.bands), {_DIMS: [dims[0]]})
    if not _is_georeferenced(spec):
        return
    crs = None if spec.crs is None else CRS.from_user_input(spec.crs)
    place: dict[str, Any] = {_DIMS: []}
    if crs is not None:
        place |= {"crs_wkt": crs.to_wkt(), "spatial_ref": crs.to_wkt()}
    if spec.transform is not None:
        transform = Affine(*tuple(spec.transform)[:6])
        place["GeoTransform"] = " ".join(map(repr, transform.to_gdal()))
        _write_axes(group, spec, transform, crs)
    _write_array(group, SPATIAL_REF, np.array(0, dtype=np.int64), place)


def _write_axes(group: Any, spec: RasterSpec, transform: Affine, crs: CRS | None) -> None:
    if transform.b or transform.d:
        return  # rotated: its pixels have no coordinates by axis
    x = transform.c + transform.a * (np.arange(spec.width) + 0.5)
    y = transform.f + transform.e * (np.arange(spec.height) + 0.5)
    names = ("projection_x_coordinate", "projection_y_coordinate")
    if crs is not None and crs.is_geographic:
        names = ("longitude", "latitude")
    _write_array(group, "x", x, {_DIMS: ["x"], "axis": "X", "standard_name": names[0]})
    _write_array(group, "y", y, {_DIMS: ["y"], "axis": "Y", "standard_name": names[1]})


def _write_array(
    group: Any, name: str, values: npt.NDArray[Any], attributes: dict[str, Any]
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=values.shape,
        dtype=values.dtype,
        fill_value=None,
        filters=None,
        compressors=None,
        attributes=attributes,
        config={"write_empty_chunks": True},
    )
    array[...] = values


def _consolidate(store: DurableStore) -> None:
    """Write consolidated metadata, in a fixed order so that the bytes are reproducible."""
    gathered: dict[str, Any] = {}
    for path in sorted(store.root.rglob(".z*")):
        if path.name in {".zgroup", ".zarray", ".zattrs"}:
            key = path.relative_to(store.root).as_posix()
            gathered[key] = json.loads(path.read_text(encoding="utf-8"))
    content = {"metadata": gathered, "zarr_consolidated_format": 1}
    (store.root / ".zmetadata").write_text(json.dumps(content, indent=1), encoding="utf-8")
