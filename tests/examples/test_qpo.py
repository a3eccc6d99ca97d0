import json
from itertools import pairwise

import numpy as np
import pytest

from examples.demo.events import Floats
from examples.demo.qpo import find_blocks
from examples.demo.timing import LightCurve
from tests.examples.products import Made

# The first test that asks for the products waits for all of them to be made.
pytestmark = pytest.mark.timeout(400)


def curve(rates_ct_s: Floats, seed: int) -> LightCurve:
    """Draw counts in bins of 2 s."""
    counts = np.random.default_rng(seed).poisson(rates_ct_s * 2.0).astype(np.float64)
    time_s = np.arange(len(counts), dtype=np.float64) * 2.0 + 1.0
    return LightCurve(time_s, counts, 2.0, 0.0)


def test_a_constant_source_is_one_block() -> None:
    [block] = find_blocks(curve(np.full(200, 20.0), 1))
    assert (block.start_s, block.stop_s) == (0.0, 400.0)
    assert not block.burst
    assert abs(block.rate_ct_s - 20.0) < 4 * block.error_ct_s


def test_changes_of_rate_are_invented_as_rarely_as_stated() -> None:
    rates = np.full(100, 10.0)
    invented = sum(len(find_blocks(curve(rates, seed))) > 1 for seed in range(150))
    # One in a hundred, and three standard errors.
    assert invented <= 1.5 + 3 * np.sqrt(1.5)


def test_a_burst_is_found_where_it_is() -> None:
    rates = np.full(200, 20.0)
    rates[120:130] = 60.0
    blocks = find_blocks(curve(rates, 1))
    [burst] = [block for block in blocks if block.burst]
    assert burst.start_s == pytest.approx(240, abs=2)
    assert burst.stop_s == pytest.approx(260, abs=2)
    assert burst.rate_ct_s == pytest.approx(60, rel=0.15)


def test_a_source_that_faints_has_no_burst() -> None:
    rates = np.full(200, 20.0)
    rates[150:] = 5.0
    blocks = find_blocks(curve(rates, 1))
    assert len(blocks) == 2
    assert not any(block.burst for block in blocks)


def test_blocks_cover_the_light_curve_without_gaps() -> None:
    rates = 20.0 + 15.0 * np.sin(np.arange(200) / 10)
    blocks = find_blocks(curve(rates, 4))
    assert len(blocks) > 3
    assert blocks[0].start_s == 0.0
    assert blocks[-1].stop_s == 400.0
    for before, after in pairwise(blocks):
        assert before.stop_s == after.start_s


def test_the_steady_galaxy_has_no_burst(made: dict[tuple[str, str], Made]) -> None:
    document = json.loads(made["CHANDRA-10027", "BURSTS"].path.read_text())
    assert document["bursts"] == 0
    [block] = document["blocks"]
    assert block["rate_ct_s"] == pytest.approx(4.88, abs=0.05)


@pytest.mark.parametrize("obs_id", ["CHANDRA-10027", "RXTE-93087-01-02-11", "RXTE-M82-2009-12-18"])
def test_no_oscillation_is_claimed_in_so_few_photons(
    obs_id: str, made: dict[tuple[str, str], Made]
) -> None:
    result = made[obs_id, "QPO_SEARCH"]
    document = json.loads(result.path.read_text())
    assert document["detected"] is False
    assert document["peak"]["probability"] > 0.01
    assert document["constant_rate_probability"] is not None
    assert result.metadata["rms_upper_limit_95"] < 0.3
