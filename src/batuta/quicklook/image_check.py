"""Checks a picture that somebody gives: browsers are to show it, and to run nothing."""

import io
from dataclasses import dataclass
from typing import Final

from batuta.errors import describe_error
from batuta.quicklook.kinds import is_image
from batuta.quicklook.limits import MAX_GIVEN_BYTES, MAX_GIVEN_PX, CannotDrawError

_ACCEPTED: Final = "accepted: a PNG, JPEG or WebP picture"
_MEDIA_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True)
class QuicklookImage:
    """A picture that may be shown.

    Attributes
    ----------
    media_type : str
        As its content says.
    width_px, height_px : int
        Its size.
    """

    media_type: str
    width_px: int
    height_px: int


def check_image(content: bytes) -> QuicklookImage:
    """Return what a picture is, by its content alone; its pixels are not decoded.

    Raises
    ------
    CannotDrawError
        If it is not a PNG, JPEG or WebP picture, is too large, or was cut.
    """
    if len(content) > MAX_GIVEN_BYTES:
        raise CannotDrawError(f"larger than {MAX_GIVEN_BYTES} bytes (accepted: at most that)")
    if not is_image(content):
        # SVG is refused with the rest: it may have scripts.
        raise CannotDrawError(f"it begins with {content[:12]!r} ({_ACCEPTED})")
    # Loaded by few imports alone.
    from PIL import Image  # noqa: PLC0415  see above

    try:
        # The header alone: pixels are not decoded in this process.
        with Image.open(io.BytesIO(content), formats=tuple(_MEDIA_TYPES)) as image:
            kind, (width, height) = image.format or "", image.size
    except Image.DecompressionBombError as exc:
        raise _too_large_image(str(exc)) from exc
    except Exception as exc:  # the library raises what its decoders raise
        raise CannotDrawError(f"it cannot be read: {describe_error(exc)} ({_ACCEPTED})") from exc
    if max(width, height) > MAX_GIVEN_PX:
        raise _too_large_image(f"{width} x {height} pixels")
    if kind == "PNG" and not content.rstrip(b"\0").endswith(b"IEND\xaeB`\x82"):
        raise CannotDrawError("it is cut: a PNG picture ends with IEND")
    if kind == "JPEG" and b"\xff\xd9" not in content[-64:]:
        raise CannotDrawError("it is cut: a JPEG picture ends with its end marker")
    return QuicklookImage(_MEDIA_TYPES[kind], width, height)


def _too_large_image(given: str) -> CannotDrawError:
    return CannotDrawError(
        f"too large: {given} (accepted: at most {MAX_GIVEN_PX} x {MAX_GIVEN_PX} pixels)"
    )
