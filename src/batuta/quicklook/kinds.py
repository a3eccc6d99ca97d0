"""The kinds of files that are drawn: how each is recognised, and by which module."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from batuta.quicklook.limits import CannotDrawError

HEAD_BYTES: Final = 512
"""What is needed of the beginning of a file to recognise it."""

_GZIP: Final = b"\x1f\x8b"
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
        What it is called in messages.
    module : str
        The module of this package whose ``draw(path)`` returns a picture.
    suffixes, media_types : tuple of str
        How files of this kind are named, and what their media types are.
    begins : callable
        Tells by its first bytes whether a file may be of this kind.
    libraries : tuple of str
        What it is read with, as it is imported.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    begins: Callable[[bytes], bool]
    libraries: tuple[str, ...] = ()


def _begins_with(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _is_text(head: bytes) -> bool:
    return bool(head.strip()) and b"\0" not in head


def _is_json(head: bytes) -> bool:
    return (
        _is_text(head) and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in b'{["-0123456789tfn'
    )


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def is_image(head: bytes) -> bool:
    """Return whether bytes begin as PNG, JPEG or WebP do."""
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or _is_webp(head)


KINDS: Final = (
    Kind(
        name="GeoTIFF",
        module="raster",
        suffixes=(".tif", ".tiff"),
        media_types=("image/tiff", "image/geotiff"),
        begins=_begins_with(*_TIFF),
        libraries=("rasterio",),
    ),
    Kind(
        name="LAS or LAZ",
        module="las",
        suffixes=(".las", ".laz"),
        media_types=("application/vnd.las", "application/vnd.laszip"),
        begins=_begins_with(b"LASF"),
        libraries=("laspy", "lazrs"),
    ),
    Kind(
        name="Parquet",
        module="parquet",
        suffixes=(".parquet", ".geoparquet"),
        media_types=("application/vnd.apache.parquet", "application/x-parquet"),
        begins=_begins_with(b"PAR1"),
        libraries=("pyarrow",),
    ),
    Kind(
        name="FITS",
        module="fits",
        suffixes=(".fits", ".fit", ".fts", ".evt", ".lc", ".fits.gz", ".fit.gz", ".evt.gz"),
        media_types=("application/fits", "image/fits"),
        begins=_begins_with(b"SIMPLE  =", _GZIP),
        libraries=("astropy",),
    ),
    Kind(
        name="CSV, TSV or ECSV",
        module="text_table",
        suffixes=(".csv", ".tsv", ".ecsv"),
        media_types=("text/csv", "text/tab-separated-values", "text/ecsv"),
        begins=_is_text,
        libraries=("pyarrow",),
    ),
    Kind(
        name="JSON",
        module="json_text",
        suffixes=(".json", ".geojson"),
        media_types=("application/json", "application/geo+json"),
        begins=_is_json,
    ),
    Kind(
        name="PNG, JPEG or WebP",
        module="image",
        suffixes=(".png", ".jpg", ".jpeg", ".webp"),
        media_types=("image/png", "image/jpeg", "image/webp"),
        begins=is_image,
    ),
)

DRAWN: Final = ", ".join(kind.name for kind in KINDS)
"""What is drawn, in words."""

_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,12})(\.gz)?$", re.ASCII)
_DRAWS: Final = "PIL"


def find_kind(filename: str | None, media_type: str, head: bytes | None = None) -> Kind:
    """Return the kind of a file, by what it is called and how it begins.

    Parameters
    ----------
    filename : str or None
        Its name.
    media_type : str
        Its media type.
    head : bytes, optional
        Its first `HEAD_BYTES` bytes, or all of it. Without them, by its name alone.

    Raises
    ------
    CannotDrawError
        If it is of no kind that is drawn, or what draws it is not installed.
    """
    found = _SUFFIX.search(filename or "")
    suffix = found.group().lower() if found else ""
    called = [kind for kind in KINDS if suffix in kind.suffixes or media_type in kind.media_types]
    if not called:
        raise CannotDrawError(
            f"{filename or 'a file without a name'} of type {media_type} is not drawn "
            f"(drawn: {DRAWN})"
        )
    for kind in called:
        if head is None or kind.begins(head):
            _require(_DRAWS, *kind.libraries)
            return kind
    names = " or ".join(kind.name for kind in called)
    raise CannotDrawError(f"it is called {names}, and does not begin as one (drawn: {DRAWN})")


def _require(*libraries: str) -> None:
    missing = [each for each in libraries if importlib.util.find_spec(each) is None]
    if missing:
        raise CannotDrawError(
            f"{' and '.join(missing)} not installed here: pip install 'batuta[quicklooks]'"
        )
