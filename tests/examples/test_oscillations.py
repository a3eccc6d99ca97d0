"""The search is tried on photons of which it is known whether they oscillate."""

import numpy as np
import pytest
from stingray import EventList

from examples.demo.events import Events, Source
from examples.demo.oscillations import Rebinned, fit_continuum, power_law, rebin, search
from examples.demo.qpo import search_oscillation
from examples.demo.timing import PowerSpectrum, compute_light_curve, compute_power_spectrum

DURATION_S = 512
RATE_CT_S = 20.0
STEP_S = 1 / 256


def photons(seed: int, amplitude: float, frequency_hz: float = 3.0) -> Events:
    """Draw photons of a source whose rate is a sinusoid of wandering phase, at 20 ct/s."""
    random = np.random.default_rng(seed)
    time_s = np.arange(0, DURATION_S, STEP_S)
    wandering = np.cumsum(random.normal(0, 0.02, len(time_s)))
    wave = 1 + amplitude * np.sin(2 * np.pi * frequency_hz * time_s + wandering)
    counts = random.poisson(RATE_CT_S * STEP_S * wave)
    times = np.repeat(time_s, counts) + random.uniform(0, STEP_S, counts.sum())
    listed = EventList(time=np.sort(times), gti=[[0, DURATION_S]], dt=1e-4)
    return Events(listed, Source("drawn", "none", "none"), 1e-4)


@pytest.mark.parametrize("frequency_hz", [0.7, 3.0, 21.0])
def test_an_oscillation_is_found_at_its_frequency_with_its_rms(frequency_hz: float) -> None:
    spectrum = compute_power_spectrum(photons(1, 0.35, frequency_hz))
    found = search_oscillation(spectrum, None)
    assert found["detected"]
    assert found["peak"]["sigma"] > 5
    oscillation = found["oscillation"]
    assert oscillation["frequency_hz"] == pytest.approx(frequency_hz, abs=0.05)
    assert abs(oscillation["frequency_hz"] - frequency_hz) < 6 * oscillation["frequency_error_hz"]
    assert oscillation["rms"] == pytest.approx(0.35 / np.sqrt(2), rel=0.25)
    assert oscillation["quality"] > 5
    assert found["rms_upper_limit_95"] is None


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_found_in_photons_that_come_at_random(seed: int) -> None:
    found = search_oscillation(compute_power_spectrum(photons(seed, 0.0)), None)
    assert not found["detected"]
    assert found["oscillation"] is None
    assert 0 < found["rms_upper_limit_95"] < 0.2


def test_false_alarms_are_no_more_frequent_than_stated() -> None:
    """Trials are counted as if bands did not overlap, so chance is at most as good as stated."""
    random = np.random.default_rng(7)
    segments, count, searches = 8, 400, 120
    probabilities = []
    for _ in range(searches):
        leahy = random.gamma(segments, 2 / segments, count)
        spectrum = _spectrum(leahy, segments)
        probabilities.append(search(spectrum, fit_continuum(spectrum)).probability)
    # Three standard errors over the 12 expected at most.
    assert np.sum(np.asarray(probabilities) < 0.1) < 12 + 3 * np.sqrt(10.8)
    assert min(probabilities) > 1e-5


def test_red_noise_is_a_continuum_and_no_oscillation() -> None:
    random = np.random.default_rng(11)
    segments = 16
    frequency_hz = np.arange(1, 513) / 64
    expected = power_law(frequency_hz, np.array([np.log(2.0), np.log(1.0), 1.5]))
    leahy = expected * random.gamma(segments, 1 / segments, len(expected))
    spectrum = _spectrum(leahy, segments)
    continuum = fit_continuum(spectrum)
    assert continuum.name == "constant + power law"
    # The true values, within four standard errors.
    truth = np.array([np.log(2.0), 0.0, 1.5])
    assert np.all(np.abs(continuum.values - truth) < 4 * continuum.errors)
    assert not search(spectrum, continuum).detected


def test_a_fit_s_errors_are_those_of_repeated_draws() -> None:
    random = np.random.default_rng(5)
    fits = []
    for _ in range(60):
        spectrum = _spectrum(random.gamma(10, 2 / 10, 200), 10)
        fits.append(fit_continuum(spectrum))
    white = [fit for fit in fits if fit.name == "constant"]
    assert len(white) > 50
    spread = np.std([fit.values[0] for fit in white])
    assert white[0].errors[0] == pytest.approx(spread, rel=0.4)


def test_the_light_curve_says_whether_the_rate_varies() -> None:
    steady = photons(3, 0.0)
    slow = photons(3, 0.5, frequency_hz=0.01)
    chances = [
        search_oscillation(compute_power_spectrum(each), compute_light_curve(each))[
            "constant_rate_probability"
        ]
        for each in (steady, slow)
    ]
    assert chances[0] > 0.01
    assert chances[1] < 1e-6


def test_rebinning_keeps_the_mean_of_what_it_averages() -> None:
    frequency_hz = np.arange(1.0, 1001)
    power = np.random.default_rng(2).gamma(4, 0.5, 1000)
    bands = rebin(frequency_hz, power, 4)
    assert isinstance(bands, Rebinned)
    assert len(bands.power) < 100
    assert np.all(np.diff(bands.frequency_hz) > 0)
    counts = np.round((2.0 / bands.error * bands.power / 2.0) ** 2 / 4)
    assert counts.sum() == len(power)
    assert np.sum(counts * bands.power) == pytest.approx(power.sum())


def _spectrum(leahy: np.ndarray[tuple[int], np.dtype[np.float64]], segments: int) -> PowerSpectrum:
    return PowerSpectrum(
        frequency_hz=np.arange(1, len(leahy) + 1) / 64,
        leahy=leahy,
        noise=2.0,
        segments=segments,
        segment_s=64.0,
        bin_s=1 / 128,
        rate_ct_s=20.0,
    )
