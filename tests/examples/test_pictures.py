import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from examples.demo.quicklook import LOOKS, REPORTS, draw
from examples.demo.report import draw_stereo_report, draw_timing_report, timing_verdict
from tests.examples.products import Made

# The first test that asks for the products waits for all of them to be made.
pytestmark = pytest.mark.timeout(400)

STEREO = "MIDDLEBURY-MOTORCYCLE"


def test_all_that_the_graph_can_make_is_made(
    graph: dict[str, Any], made: dict[tuple[str, str], Made]
) -> None:
    products = {product for _, product in made}
    assert products == set(graph["products"])
    assert len(made) == 3 * 8 + 1 + 5


def test_the_metadata_of_every_product_is_json(made: dict[tuple[str, str], Made]) -> None:
    for result in made.values():
        text = json.dumps(dict(result.metadata), allow_nan=False)
        assert json.loads(text) == json.loads(json.dumps(result.metadata))


def test_every_product_has_a_picture(made: dict[tuple[str, str], Made], tmp_path: Path) -> None:
    one_of_each = {product: result for (_, product), result in made.items()}
    for product, result in one_of_each.items():
        png = tmp_path / f"{product}.png"
        draw(product, result.path, png, result.obs_id)
        with Image.open(png) as picture:
            assert min(picture.size) > 500
            pixels = np.asarray(picture.convert("L"))
        # Neither blank nor filled.
        assert 0.005 < np.mean(pixels < 250) < 0.95, png.name


def test_a_product_without_a_picture_is_named_with_those_that_have_one(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"LIGHT_CURVES.*LIGHT_CURVE, POWER_SPECTRUM"):
        draw("LIGHT_CURVES", tmp_path / "none", tmp_path / "none.png")
    assert set(LOOKS).isdisjoint(REPORTS)


def test_a_report_is_made_of_what_there_is(
    made: dict[tuple[str, str], Made], tmp_path: Path
) -> None:
    least = {name: made["CHANDRA-10027", name].path for name in ("LIGHT_CURVE", "POWER_SPECTRUM")}
    page = draw_timing_report("CHANDRA-10027", least, tmp_path / "timing.png")
    full = made["CHANDRA-10027", "TIMING_REPORT"].path
    with Image.open(page) as short, Image.open(full) as long:
        assert short.height < long.height
    assert "not searched" in timing_verdict(least)


def test_a_stereo_report_needs_no_truth(
    made: dict[tuple[str, str], Made], observed: dict[str, Any], tmp_path: Path
) -> None:
    least = {
        "STEREO_LEFT": observed[STEREO].files["STEREO_LEFT"],
        "DISPARITY": made[STEREO, "DISPARITY"].path,
    }
    page = draw_stereo_report(STEREO, least, tmp_path / "stereo.png")
    with Image.open(page) as picture:
        assert picture.format == "PNG"


def test_reports_state_what_they_show(made: dict[tuple[str, str], Made]) -> None:
    shown = made["RXTE-M82-2009-12-18", "TIMING_REPORT"].metadata["shows"]
    assert {"LIGHT_CURVE", "QPO_SEARCH", "BURSTS", "HARDNESS"} <= set(shown)
