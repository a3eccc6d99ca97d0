import numpy as np
import pytest

from examples.demo.events import Events
from examples.demo.observations import Observation
from examples.demo.spectral import (
    NetCurve,
    compute_energy_spectrum,
    compute_excess_variance,
    compute_hardness,
    photons_in_range,
    read_erosita_curve,
)
from examples.demo.timing import compute_light_curve


def test_each_photon_in_range_is_in_one_channel(chandra: Events) -> None:
    _, energy = photons_in_range(chandra)
    spectrum = compute_energy_spectrum(chandra)
    assert spectrum.counts.sum() == len(energy) == 3859
    assert spectrum.counts.min() >= 25
    assert np.all(np.diff(spectrum.edges_kev) > 0)
    assert np.sum(spectrum.density * np.diff(spectrum.edges_kev)) == pytest.approx(
        len(energy) / chandra.exposure_s
    )


def test_no_channel_holds_part_of_an_energy_that_the_detector_resolves(rxte: Events) -> None:
    _, energy = photons_in_range(rxte)
    edges = compute_energy_spectrum(rxte).edges_kev
    assert not np.isin(edges, energy).any()


def test_hardness_is_balanced_by_its_split(chandra: Events) -> None:
    result = compute_hardness(chandra, compute_light_curve(chandra))
    assert len(result.ratio) > 20
    assert np.all(np.abs(result.ratio) <= 1)
    assert np.average(result.ratio, weights=result.error**-2) == pytest.approx(0, abs=0.05)
    # One hundred photons a point.
    assert np.median(result.error) == pytest.approx(0.1, rel=0.1)


def test_erosita_s_bins_without_the_source_are_left_out(observed: dict[str, Observation]) -> None:
    path = observed["EROSITA-300007"].files["EROSITA_LIGHT_CURVE"]
    curve, source = read_erosita_curve(path)
    assert len(curve.time_s) == 17
    assert source.telescope == "eROSITA"
    assert curve.rate_ct_s.mean() == pytest.approx(3.0, abs=0.2)


def test_the_excess_variance_of_a_source_that_varies_is_found() -> None:
    random = np.random.default_rng(9)
    error = np.full(2000, 0.5)
    rate = 10 * (1 + 0.2 * random.normal(size=2000)) + random.normal(0, error)
    variance = compute_excess_variance(NetCurve(np.arange(2000.0), rate, error))
    assert variance.value == pytest.approx(0.04, abs=4 * variance.error + 0.004)
    assert variance.constant_probability < 1e-6


def test_a_constant_source_has_no_excess_variance() -> None:
    random = np.random.default_rng(9)
    error = np.full(500, 0.5)
    rate = 10 + random.normal(0, error)
    variance = compute_excess_variance(NetCurve(np.arange(500.0), rate, error))
    assert abs(variance.value) < 3 * variance.error
    assert variance.constant_probability > 0.01
