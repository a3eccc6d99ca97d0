"""Options of an output file: compression, blocks, tags, bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from batuta.errors import ConfigurationError

COMPRESSIONS: Final = ("none", "deflate", "lzw", "zstd", "lerc", "gzip", "snappy")
"""Compressions of all formats together; all are lossless."""


@dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """Options of one output file; those left out take the default of the format.

    Parameters
    ----------
    compression : str, optional
        A lossless compression of the format (docs/reference/formats.md), or ``"none"``. None
        means none for GeoTIFF, zstd for Zarr, snappy for Parquet.
    block_px : int, optional
        Side of a GeoTIFF block (a multiple of 16) or of a Zarr chunk, in pixels.
    cloud_optimized : bool
        Whether a GeoTIFF is cloud-optimised (COG), with overviews.
    tags : mapping of str to str
        Metadata of the GeoTIFF; attributes of the Zarr group.
    band_descriptions : sequence of str
        Name of each band; takes precedence over the band coordinate of the tile.
    nbits : int, optional
        Bits of a value in a GeoTIFF, where less than its data type has: 1 to 7 for uint8, 9 to 15
        for uint16, 17 to 31 for uint32.

    Raises
    ------
    ConfigurationError
        One line per invalid value.
    """

    compression: str | None = None
    block_px: int | None = None
    cloud_optimized: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    band_descriptions: Sequence[str] = ()
    nbits: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"options.{name}: {getattr(self, name)!r} given, {accepted} expected"
            for name, (fits, accepted) in _ACCEPTED.items()
            if not fits(getattr(self, name))
        ]
        if problems:
            raise ConfigurationError(problems)
        object.__setattr__(self, "tags", dict(self.tags))
        object.__setattr__(self, "band_descriptions", tuple(self.band_descriptions))

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their default."""
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) not in (None, False, (), {})
        }


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_side(value: object) -> bool:
    return value is None or (_is_whole(value) and isinstance(value, int) and value >= 1)


def _is_nbits(value: object) -> bool:
    return value is None or (_is_whole(value) and isinstance(value, int) and 1 <= value <= 31)


def _is_tags(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, str) for pair in value.items() for each in pair
    )


def _is_strings(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(each, str) for each in value)
    )


_ACCEPTED: Final[dict[str, tuple[Any, str]]] = {
    "compression": (
        lambda value: value is None or value in COMPRESSIONS,
        f"one of {', '.join(COMPRESSIONS)}",
    ),
    "block_px": (_is_side, "a whole number of at least 1"),
    "cloud_optimized": (lambda value: isinstance(value, bool), "true or false"),
    "tags": (_is_tags, "a mapping of texts to texts"),
    "band_descriptions": (_is_strings, "a list of texts"),
    "nbits": (_is_nbits, "a whole number from 1 to 31"),
}
