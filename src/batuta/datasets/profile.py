"""The profile of a raster: its size and georeferencing, in whatever types a program has them."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.rpc import RPC
from rasterio.transform import guard_transform

from batuta.datasets.errors import TileError
from batuta.errors import one_line


def read_profile(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a profile tells of a raster: sizes as int, an `Affine` and a rasterio `CRS`.

    Raises
    ------
    TileError
        Naming the key whose value is nothing of the kind.
    """
    return {
        name: read(profile[name])
        for name, read in _READERS.items()
        if profile.get(name) is not None
    }


def differing(profile: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Return the first key by which a profile is of another raster, if any.

    Parameters
    ----------
    profile : mapping
        Of a tile; what it does not tell, or what is not expected, does not differ.
    expected : mapping
        As given by `read_profile`.

    Raises
    ------
    TileError
        As `read_profile`.
    """
    for name, there in expected.items():
        given = profile.get(name)
        if given is None or there is None or given is there:
            continue
        if not _is_same(_READERS[name](given), there):
            return name
    return None


def _is_same(given: Any, there: Any) -> bool:
    if isinstance(given, CRS):
        # Their texts are compared in no time, the CRS themselves in that of a small tile.
        return bool(given.wkt == there.wkt or given == there)
    if isinstance(given, Affine):
        return given == there or np.allclose(given[:6], there[:6], rtol=1e-9, atol=1e-12)
    return bool(given == there)


def _read_size(value: Any) -> int:
    whole = int(value)
    if whole != float(value) or whole < 1:
        raise ValueError(value)
    return whole


def _read_transform(value: Any) -> Affine:
    found: Affine = guard_transform(value)
    return found


def _read_crs(value: Any) -> CRS:
    # Most programs have a CRS, or the same text in every tile.
    if isinstance(value, CRS):
        return value
    return _parse_crs(value) if isinstance(value, str | int) else CRS.from_user_input(value)


@lru_cache(maxsize=64)
def _parse_crs(value: str | int) -> CRS:
    return CRS.from_user_input(value) if value != "" else CRS()


def _read_rpcs(value: Any) -> RPC:
    if isinstance(value, RPC):
        return value
    found: RPC = RPC.from_gdal(value)
    return found


def _reader(name: str, read: Callable[[Any], Any], expected: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        try:
            return read(value)
        except (CRSError, KeyError, IndexError, OverflowError, TypeError, ValueError) as exc:
            given = one_line(value)
            raise TileError(f"profile: {name} {given} given, {expected} expected") from exc

    return checked


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    name: _reader(name, read, expected)
    for name, read, expected in (
        ("height", _read_size, "a whole number of at least 1"),
        ("width", _read_size, "a whole number of at least 1"),
        ("transform", _read_transform, "an Affine, or its coefficients a, b, c, d, e, f"),
        ("crs", _read_crs, "a coordinate reference system"),
        ("rpcs", _read_rpcs, "an RPC, or its fields as GDAL names them"),
    )
}
