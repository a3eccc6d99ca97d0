from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.demo.events import Events, read_events
from examples.demo.observations import Observation
from examples.demo.timing import (
    compute_dynamic_spectrum,
    compute_light_curve,
    compute_power_spectrum,
    fractional_rms,
    read_dynamic_spectrum,
    segment_length_s,
    write_dynamic_spectrum,
)
from tests.examples.products import Made

# The first test that asks for the products waits for all of them to be made.
pytestmark = pytest.mark.timeout(400)


def test_chandra_saw_4612_photons_of_m82_in_945_s(chandra: Events) -> None:
    assert str(chandra.source) == "M82, Chandra ACIS"
    assert chandra.count == 4612
    assert chandra.exposure_s == pytest.approx(945.3, abs=0.1)
    assert chandra.rate_ct_s == pytest.approx(4.879, abs=0.001)


def test_photons_out_of_the_good_time_intervals_are_left_out(rxte: Events) -> None:
    # The list holds 3518; its last 2.7 s are not good.
    assert rxte.count == 3415
    start, stop = rxte.photons.gti[0]
    assert rxte.photons.time.min() >= start
    assert rxte.photons.time.max() <= stop


def test_a_bin_is_a_whole_number_of_readings_of_the_detector(chandra: Events) -> None:
    assert chandra.bin_s(0.1) == chandra.resolution_s == pytest.approx(0.44104)
    assert chandra.bin_s(1.0) == pytest.approx(3 * 0.44104)


def test_a_file_that_is_no_event_list_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "events.fits"
    other.write_text("not FITS")
    with pytest.raises(OSError, match="FITS"):
        read_events(other)


def test_the_light_curve_counts_each_photon_of_its_bins_once(chandra: Events) -> None:
    curve = compute_light_curve(chandra)
    seconds = np.asarray(chandra.photons.time - chandra.photons.gti[0, 0], dtype=float)
    covered = seconds < curve.time_s[-1] + curve.bin_s / 2
    assert curve.counts.sum() == covered.sum()
    assert curve.rate_ct_s.mean() == pytest.approx(chandra.rate_ct_s, rel=0.01)
    assert curve.counts.mean() >= 20


def test_the_power_spectrum_holds_the_variance_of_its_segments(rxte: Events) -> None:
    """Parseval: the powers of a segment add up to the variance of its counts."""
    spectrum = compute_power_spectrum(rxte)
    bins = round(spectrum.segment_s / spectrum.bin_s)
    seconds = np.asarray(rxte.photons.time - rxte.photons.gti[0, 0], dtype=float)
    edges = np.arange(spectrum.segments * bins + 1) * spectrum.bin_s
    counts, _ = np.histogram(seconds, bins=edges)
    transforms = np.fft.rfft(counts.reshape(-1, bins), axis=1)[:, 1:-1]
    expected = 2 * (np.abs(transforms) ** 2).mean(axis=0) / counts.reshape(-1, bins).sum(1).mean()
    # The last frequency is Nyquist's or the one below, as bins go.
    np.testing.assert_allclose(spectrum.leahy[: len(expected)], expected, rtol=0.02)


def test_the_rms_of_a_sinusoid_is_its_amplitude_over_the_square_root_of_two() -> None:
    photons, amplitude = 10_000.0, 0.3
    leahy = np.full(100, 2.0)
    leahy[10] += photons * amplitude**2 / 2
    rms, error = fractional_rms(leahy, 2.0, 10, photons)
    assert rms == pytest.approx(amplitude / np.sqrt(2), rel=1e-6)
    assert error is not None
    assert 0 < error < 0.1


def test_there_is_no_rms_where_there_is_no_power_over_the_noise() -> None:
    assert fractional_rms(np.full(100, 1.9), 2.0, 10, 1000.0) == (None, None)


def test_the_noise_of_the_ccd_is_below_that_of_random_photons(chandra: Events) -> None:
    """A photon that piles up on another is lost, so they come more regularly than at random."""
    assert compute_power_spectrum(chandra).noise == pytest.approx(1.85, abs=0.05)


def test_the_windows_of_the_dynamic_spectrum_average_to_noise(rxte: Events) -> None:
    spectrum = compute_dynamic_spectrum(rxte)
    assert spectrum.leahy.shape == (len(spectrum.frequency_hz), len(spectrum.time_s))
    assert len(spectrum.time_s) >= 24
    assert len(spectrum.frequency_hz) <= 64
    assert spectrum.leahy.mean() == pytest.approx(2.05, abs=0.1)


def test_a_dynamic_spectrum_is_read_as_it_was_written(rxte: Events, tmp_path: Path) -> None:
    spectrum = compute_dynamic_spectrum(rxte)
    path = write_dynamic_spectrum(tmp_path / "dynamic.fits", spectrum, rxte.source)
    again, source = read_dynamic_spectrum(path)
    assert source == rxte.source
    np.testing.assert_allclose(again.leahy, spectrum.leahy, rtol=1e-6)
    np.testing.assert_array_equal(again.frequency_hz, spectrum.frequency_hz)
    np.testing.assert_array_equal(again.time_s, spectrum.time_s)
    assert again.window_s == spectrum.window_s


def test_an_observation_too_short_for_its_segments_is_refused(rxte: Events) -> None:
    brief = replace(rxte, resolution_s=10.0)
    with pytest.raises(ValueError, match="too short for 8 segments"):
        segment_length_s(brief, brief.bin_s(10.0), 8)


def test_the_light_curve_carries_its_metadata(made: dict[tuple[str, str], Made]) -> None:
    facts = made["CHANDRA-10027", "LIGHT_CURVE"].metadata
    assert (facts["photons"], facts["target"]) == (4612, "M82")
    assert facts["mean_rate_ct_s"] == pytest.approx(4.879, abs=0.001)


def test_every_observation_is_of_the_sky_or_of_a_scene(observed: dict[str, Observation]) -> None:
    assert len(observed) >= 4
    for observation in observed.values():
        for path in observation.files.values():
            assert b"Fake X-1" not in path.read_bytes()
