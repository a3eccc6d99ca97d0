"""Attributes of tiles, and dict tiles, as JSON."""

import json
import math
from collections.abc import Mapping
from datetime import date
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from batuta.datasets.errors import TileError

_CRS: Final = "__crs__"
_AFFINE: Final = "__affine__"


def to_json(value: Any, *, strict: bool = True) -> Any:
    """Convert `value` to what JSON can represent.

    Parameters
    ----------
    value
        Mappings, sequences, numbers, texts, dates, paths, numpy arrays and scalars, `CRS` and
        `Affine`.
    strict : bool
        Whether NaN and infinities, which JSON lacks, become null. False keeps them, as Python's
        own parser accepts.

    Raises
    ------
    TileError
        Naming the keys, and the type that cannot be represented.
    """
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) or not strict else None
    if isinstance(value, CRS):
        return {_CRS: value.to_wkt()}
    if isinstance(value, Affine):
        return {_AFFINE: list(value)[:6]}
    if isinstance(value, (date, PurePath)):
        return value.isoformat() if isinstance(value, date) else str(value)
    return _encode_container(value, strict=strict)


def _encode_container(value: Any, *, strict: bool) -> Any:
    if isinstance(value, Mapping):
        return _encode_mapping(value, strict=strict)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item, strict=strict) for item in value]
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufUSO":
        return to_json(value.tolist(), strict=strict)
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "mM":
        return to_json(np.asarray(value).astype(str).tolist(), strict=strict)
    raise TileError(f"{type(value).__name__} cannot be represented in JSON: {value!r:.80}")


def _encode_mapping(value: Mapping[Any, Any], *, strict: bool) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    for key, item in value.items():
        if str(key) in encoded:
            raise TileError(f"{key}: two keys of this name, as JSON has only texts")
        try:
            encoded[str(key)] = to_json(item, strict=strict)
        except TileError as exc:
            raise TileError(f"{key}: {exc}") from exc
    return encoded


def dumps(value: Any) -> str:
    """Serialize attributes so that `loads` restores them, `CRS`, `Affine` and NaN included."""
    return json.dumps(to_json(value, strict=False))


def loads(text: str) -> Any:
    """Parse what `dumps` wrote."""
    return json.loads(text, object_hook=_decode_object)


def _decode_object(found: dict[str, Any]) -> Any:
    if found.keys() == {_CRS}:
        return CRS.from_wkt(found[_CRS])
    if found.keys() == {_AFFINE}:
        return Affine(*found[_AFFINE])
    return found
