"""Spectral pipeline: energies of photons, hardness, and eROSITA's excess variance."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from astropy import units as u
from astropy.io import fits

from batuta.pipeline import Context, Output, Pipeline
from examples.demo.events import Events, Floats, Source, read_events, source_of, write_table
from examples.demo.oscillations import constant_rate_probability
from examples.demo.timing import LightCurve, read_light_curve

PHOTONS_PER_CHANNEL: Final = 25
"""Enough for the square root of a number of photons to be its error."""

PHOTONS_PER_POINT: Final = 100
"""A point of hardness needs photons in both bands."""

RANGES_KEV: Final = {"Chandra": (0.5, 8.0), "RXTE": (2.0, 60.0)}
"""Where each telescope's detector sees and is calibrated."""

LEAST_EXPOSURE: Final = 0.1
"""A bin of eROSITA's light curve is kept if the source was in view this part of the time."""

pipeline = Pipeline("spectral_pipeline")


def photons_in_range(events: Events) -> tuple[Floats, Floats]:
    """Return times (s since the start) and energies (keV) of the photons that are well measured.

    Raises
    ------
    ValueError
        If the photons have no energy, or the telescope's range is not known.
    """
    if events.photons.energy is None or events.source.telescope not in RANGES_KEV:
        raise ValueError(
            f"{events.source}: photons of {' or '.join(RANGES_KEV)} with energies are expected"
        )
    low, high = RANGES_KEV[events.source.telescope]
    energy = np.asarray(events.photons.energy, dtype=np.float64)
    time_s = np.asarray(events.photons.time - events.photons.gti[0, 0], dtype=np.float64)
    inside = (energy >= low) & (energy < high)
    return time_s[inside], energy[inside]


@dataclass(frozen=True)
class EnergySpectrum:
    """Photons counted in energy, not corrected for the detector's response or background.

    Attributes
    ----------
    edges_kev : array of shape (channels + 1,)
    counts : array of shape (channels,)
    exposure_s : float
    """

    edges_kev: Floats
    counts: Floats
    exposure_s: float

    @property
    def density(self) -> Floats:
        """Counts per second and keV."""
        return np.asarray(self.counts / np.diff(self.edges_kev) / self.exposure_s)

    @property
    def error(self) -> Floats:
        """Poisson error of `density`."""
        return np.asarray(np.sqrt(self.counts) / np.diff(self.edges_kev) / self.exposure_s)


def compute_energy_spectrum(
    events: Events, photons_per_channel: int = PHOTONS_PER_CHANNEL
) -> EnergySpectrum:
    """Count photons in channels of at least `photons_per_channel`.

    Edges lie between the energies that the detector tells apart, so that a channel never holds
    part of one.
    """
    _, energy = photons_in_range(events)
    values, counts = np.unique(energy, return_counts=True)
    # The first and the last energy are as wide as their neighbours.
    edges, filled = [float(1.5 * values[0] - 0.5 * values[1])], 0
    for index, count in enumerate(counts[:-1]):
        filled += int(count)
        if filled >= photons_per_channel:
            edges.append(float(values[index] + values[index + 1]) / 2)
            filled = 0
    if filled + counts[-1] < photons_per_channel and len(edges) > 1:
        edges.pop()
    edges.append(float(1.5 * values[-1] - 0.5 * values[-2]))
    histogram, _ = np.histogram(energy, bins=edges)
    return EnergySpectrum(
        np.asarray(edges), np.asarray(histogram, dtype=np.float64), events.exposure_s
    )


@dataclass(frozen=True)
class Hardness:
    """(hard - soft) / (hard + soft) along time.

    Attributes
    ----------
    time_s, ratio, error : arrays of shape (points,)
        Middle of the points, in s since the start; the ratio and its 1-sigma error.
    split_kev : float
        Energy between the two bands: half of the photons are below.
    """

    time_s: Floats
    ratio: Floats
    error: Floats
    split_kev: float


def compute_hardness(
    events: Events, curve: LightCurve, photons_per_point: int = PHOTONS_PER_POINT
) -> Hardness:
    """Compute the hardness of groups of bins of the light curve.

    The bands are split at the median energy, where the ratio is measured best; it says how the
    spectrum changes, and compares nothing between telescopes.
    """
    time_s, energy = photons_in_range(events)
    split_kev = float(np.median(energy))
    bins = max(1, round(photons_per_point / (len(energy) / events.exposure_s) / curve.bin_s))
    first_s = curve.time_s[0] - curve.bin_s / 2
    count = max(1, len(curve.time_s) // bins)
    edges = first_s + np.arange(count + 1) * bins * curve.bin_s
    hard, _ = np.histogram(time_s[energy > split_kev], bins=edges)
    soft, _ = np.histogram(time_s[energy <= split_kev], bins=edges)
    seen = hard + soft > 0
    total = (hard + soft)[seen]
    return Hardness(
        time_s=((edges[:-1] + edges[1:]) / 2)[seen],
        ratio=(hard - soft)[seen] / total,
        error=2 * np.sqrt(hard[seen] * soft[seen] / total**3),
        split_kev=split_kev,
    )


@dataclass(frozen=True)
class ExcessVariance:
    """How much more a source varies than photons counted at random.

    Attributes
    ----------
    value, error : float
        Normalised excess variance and its error (Vaughan et al. 2003, MNRAS 345, 1271, eq. 11).
    constant_probability : float
        That a constant source varies as much.
    """

    value: float
    error: float
    constant_probability: float


@dataclass(frozen=True)
class NetCurve:
    """A light curve corrected for exposure and background.

    Attributes
    ----------
    time_s : array of shape (bins,)
        Middle of the bins, in s since that of the first.
    rate_ct_s, error_ct_s : arrays of shape (bins,)
        Net counts per second, and their 1-sigma error.
    """

    time_s: Floats
    rate_ct_s: Floats
    error_ct_s: Floats


def read_erosita_curve(path: Path) -> tuple[NetCurve, Source]:
    """Read the full band of an eROSITA light curve (srctool), where the source was in view.

    Raises
    ------
    ValueError
        If it has fewer than three such bins.
    """
    with fits.open(path, memmap=False) as file:
        data, header = file["RATE"].data, file["RATE"].header
        kept = data["FRACEXP"][:, 0] > LEAST_EXPOSURE
        time_s, rate, error = (
            np.asarray(values, dtype=np.float64)[kept]
            for values in (data["TIME"], data["RATE"][:, 0], data["RATE_ERR"][:, 0])
        )
    if len(time_s) < 3:
        raise ValueError(f"{path.name}: {len(time_s)} bins with the source in view, 3 expected")
    named = replace(source_of(header), target=f"source {header['OBJECT']}", instrument="TM1-7")
    return NetCurve(time_s - time_s[0], rate, error), named


def compute_excess_variance(curve: NetCurve) -> ExcessVariance:
    """Compute the normalised excess variance of a light curve; negative where it varies less."""
    rate, mean, count = curve.rate_ct_s, curve.rate_ct_s.mean(), len(curve.rate_ct_s)
    noise = float(np.mean(curve.error_ct_s**2))
    value = (rate.var(ddof=1) - noise) / mean**2
    spread = np.sqrt(2 / count) * noise / mean**2
    signal = np.sqrt(noise / count) * 2 * np.sqrt(max(value, 0.0)) / mean
    probability = constant_rate_probability(rate, curve.error_ct_s)
    return ExcessVariance(float(value), float(np.hypot(spread, signal)), probability)


@pipeline.product("ENERGY_SPECTRUM", inputs=["EVENTS"], timeout_s=120)
def energy_spectrum(context: Context) -> Output:
    """Photons counted in energy, as ECSV."""
    events = read_events(context.input("EVENTS"))
    spectrum = compute_energy_spectrum(events)
    low, high = spectrum.edges_kev[:-1], spectrum.edges_kev[1:]
    facts = {
        "photons": int(spectrum.counts.sum()),
        "channels": len(spectrum.counts),
        "range_kev": [float(low[0]), float(high[-1])],
        "exposure_s": spectrum.exposure_s,
    }
    context.log.info("%s: %d photons", events.source, facts["photons"])
    columns = {
        "energy_low": low * u.keV,
        "energy_high": high * u.keV,
        "counts": spectrum.counts * u.ct,
        "density": spectrum.density * u.ct / u.s / u.keV,
        "error": spectrum.error * u.ct / u.s / u.keV,
    }
    path = context.output_path("energy_spectrum.ecsv")
    write_table(path, columns, events.source, **facts)
    return Output(path, media_type="text/ecsv", metadata={**asdict(events.source), **facts})


@pipeline.product("HARDNESS", inputs=["EVENTS", "LIGHT_CURVE"], timeout_s=120)
def hardness(context: Context) -> Output:
    """Hardness along time, on the bins of the light curve, as ECSV."""
    events = read_events(context.input("EVENTS"))
    curve, _ = read_light_curve(context.input("LIGHT_CURVE"))
    result = compute_hardness(events, curve)
    steady = constant_rate_probability(result.ratio, result.error)
    facts = {
        "split_kev": result.split_kev,
        "range_kev": list(RANGES_KEV[events.source.telescope]),
        "points": len(result.ratio),
        "constant_probability": steady,
    }
    context.log.info("%s: %d points", events.source, facts["points"])
    columns = {
        "time": result.time_s * u.s,
        "hardness": result.ratio,
        "error": result.error,
    }
    path = write_table(context.output_path("hardness.ecsv"), columns, events.source, **facts)
    return Output(path, media_type="text/ecsv", metadata={**asdict(events.source), **facts})


@pipeline.product("EXCESS_VARIANCE", inputs=["EROSITA_LIGHT_CURVE"], timeout_s=120)
def excess_variance(context: Context) -> Output:
    """Variability of an eROSITA light curve over its noise, as ECSV."""
    curve, source = read_erosita_curve(context.input("EROSITA_LIGHT_CURVE"))
    variance = compute_excess_variance(curve)
    facts = {
        "normalised_excess_variance": variance.value,
        "normalised_excess_variance_error": variance.error,
        "constant_probability": variance.constant_probability,
        "bins": len(curve.time_s),
    }
    context.log.info("%s: %.4f +- %.4f", source, variance.value, variance.error)
    columns = {
        "time": curve.time_s * u.s,
        "rate": curve.rate_ct_s * u.ct / u.s,
        "rate_error": curve.error_ct_s * u.ct / u.s,
    }
    path = write_table(context.output_path("excess_variance.ecsv"), columns, source, **facts)
    return Output(path, media_type="text/ecsv", metadata={**asdict(source), **facts})
