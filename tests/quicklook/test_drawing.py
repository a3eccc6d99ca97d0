"""A picture of each kind of file, as the process that draws it returns it."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from batuta.pipeline.inputs import media_type_of
from batuta.quicklook import CannotDrawError, Drawer, find_kind
from batuta.quicklook.canvas import PAPER, number, ticks
from batuta.quicklook.kinds import HEAD_BYTES
from batuta.quicklook.limits import SIZE_PX
from tests.quicklook.files import MAKERS, raster


def drawn(path: Path) -> Image.Image:
    """Draw a file as the sdb does."""
    kind = find_kind(path.name, media_type_of(path), path.read_bytes()[:HEAD_BYTES])
    content = asyncio.run(Drawer().draw(kind, path))
    picture = Image.open(io.BytesIO(content), formats=["PNG"])
    picture.load()
    return picture


def colours(picture: Image.Image) -> int:
    found = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    return len(np.unique(found, axis=0))


@pytest.mark.parametrize(
    "kind", [name for name in MAKERS if not name.startswith(("png", "jp", "w"))]
)
def test_each_kind_is_drawn_and_is_no_empty_picture(tmp_path: Path, kind: str) -> None:
    picture = drawn(MAKERS[kind](tmp_path))
    assert 400 <= picture.width <= SIZE_PX
    assert picture.height <= SIZE_PX + 80
    assert colours(picture) > 20


@pytest.mark.parametrize("kind", ["png", "png of 16 bits", "jpeg", "webp"])
def test_a_picture_is_made_smaller_in_its_shape(tmp_path: Path, kind: str) -> None:
    picture = drawn(MAKERS[kind](tmp_path))
    assert picture.size == (768, 432)
    expected = (3, 3, 3) if "16" in kind else (0, 128, 128)
    given = picture.convert("RGB").getpixel((300, 200))
    assert isinstance(given, tuple)
    assert max(abs(a - b) for a, b in zip(given, expected, strict=True)) <= 3


def test_a_raster_is_clear_where_it_has_no_data_and_stretched_elsewhere(tmp_path: Path) -> None:
    whole = np.asarray(drawn(raster(tmp_path / "a.tif")))
    left = (whole.shape[1] - 400) // 2
    # Each of its 80 by 60 pixels is shown by 5 by 5: it is small.
    pixels = whole[:300:5, left : left + 400 : 5]
    assert set(pixels[:, :20, 3].ravel()) == {0}
    assert set(pixels[:, 20:, 3].ravel()) == {255}
    # From the darkest to the brightest colour of the map.
    assert tuple(pixels[30, 21, :3]) == (68, 1, 84)
    assert tuple(pixels[30, 79, :3]) == (253, 231, 37)


def test_bands_of_a_picture_keep_their_colours(tmp_path: Path) -> None:
    pixels = np.asarray(drawn(raster(tmp_path / "a.tif", 3, "uint8")))[::5, ::5]
    assert pixels.shape == (60, 80, 4)
    shown = pixels[30, 20:, :3].astype(int)
    assert (shown[:, 0] == shown[:, 1]).all()
    assert shown[-1, 0] == 255
    assert (np.diff(shown[:, 0]) >= 0).all()


def test_a_chart_has_a_ground_of_its_own_and_is_not_clear(tmp_path: Path) -> None:
    picture = drawn(MAKERS["csv"](tmp_path))
    assert picture.mode == "RGB"
    assert picture.getpixel((1, 1)) == PAPER


def test_points_are_brighter_where_they_are_higher(tmp_path: Path) -> None:
    pixels = np.asarray(drawn(MAKERS["laz"](tmp_path)))[:300]
    shown = pixels[..., 3] == 255
    brightness = np.where(shown, pixels[..., :3].sum(axis=-1, dtype=int), 0)
    quarter = pixels.shape[1] // 4
    left, right = slice(0, quarter), slice(-quarter, None)
    means = [brightness[:, each][shown[:, each]].mean() for each in (left, right)]
    assert means[0] + 100 < means[1]


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        ("name,city\na,b\n", "names.csv", "it has no column of numbers, or no rows"),
        ("time,rate\n", "empty.csv", "it has no rows below its head"),
        ("rate,note\nnan,a\n", "nan.csv", "it has no column of numbers"),
        ("{", "cut.json", "it cannot be read: JSONDecodeError"),
        ("[" * 100_000, "deep.json", "it cannot be read: RecursionError"),
    ],
)
def test_what_has_nothing_to_show_says_so(
    tmp_path: Path, content: str, name: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CannotDrawError, match=reason):
        drawn(tmp_path / name)


def test_a_raster_without_a_pixel_of_data_says_so(tmp_path: Path) -> None:
    raster(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.write(np.full((1, 60, 80), -9999, "float32"))
    with pytest.raises(CannotDrawError, match="it has no pixel with data"):
        drawn(tmp_path / "a.tif")


def test_ticks_are_round_and_numbers_have_the_digits_that_tell_them_apart() -> None:
    assert ticks(0.013, 0.048, 4) == pytest.approx([0.02, 0.03, 0.04])
    assert [number(each, 0.01) for each in (0.02, 0.03, 0.0)] == ["0.02", "0.03", "0"]
    assert ticks(-5, 12, 4) == [-5, 0, 5, 10]
    assert number(1234567.0, 1e5) == "1.23e+06"
