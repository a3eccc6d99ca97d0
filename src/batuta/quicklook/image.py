"""The quicklook of a picture: itself, smaller."""

from pathlib import Path

from PIL import Image, ImageOps

from batuta.quicklook.canvas import fitted
from batuta.quicklook.limits import MAX_PIXELS, SIZE_PX, CannotDrawError

_FORMATS = ("PNG", "JPEG", "WEBP")


def draw(path: Path) -> Image.Image:
    """Return a picture, its longer side of at most `SIZE_PX` pixels."""
    # Checked below, in one place; the pixels are not decoded by opening it.
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS // 4:
            raise CannotDrawError(
                f"it has {image.width} x {image.height} pixels (drawn: up to {MAX_PIXELS // 4:,})"
            )
        image.draft("RGB", (SIZE_PX, SIZE_PX))
        upright = ImageOps.exif_transpose(image)
        has_alpha = upright.has_transparency_data
        if upright.mode.startswith("I;16"):  # whose conversion cuts at 255
            upright = upright.point(lambda value: value / 256).convert("L")
        plain = upright.convert("RGBA" if has_alpha else "RGB")
    size = fitted(plain.width, plain.height, SIZE_PX)
    return plain if size == plain.size else plain.resize(size, Image.Resampling.BOX)
