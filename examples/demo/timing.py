"""Timing pipeline: light curves and power spectra of X-ray event lists, by stingray."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy import units as u
from astropy.io import fits

from batuta.pipeline import Context, Output, Pipeline
from examples.demo.events import (
    FINEST_BIN_S,
    Events,
    Floats,
    Source,
    read_events,
    read_table,
    write_table,
)

# Whichever module comes first silences what stingray says at import: `events` does.
from stingray import Lightcurve  # isort: skip
from stingray.gti import time_intervals_from_gtis  # isort: skip
from stingray.powerspectrum import powerspectrum_from_time_array  # isort: skip

PHOTONS_PER_BIN: Final = 20
"""Enough for the square root of a number of photons to be its error, as the next steps assume."""

SEGMENTS: Final = 8
"""A power spectrum averages at least as many periodograms."""

WINDOWS: Final = 24
"""A dynamic power spectrum has at least as many columns."""

FREQUENCIES: Final = 64
"""A dynamic power spectrum has at most as many rows; finer ones are averaged."""

pipeline = Pipeline("timing_pipeline")


@dataclass(frozen=True)
class LightCurve:
    """Photons counted in equal bins.

    Attributes
    ----------
    time_s : array of shape (bins,)
        Middle of the bins, in s since `start_s`.
    counts : array of shape (bins,)
        Photons in each.
    bin_s : float
        Length of a bin, in s.
    start_s : float
        When the first good time interval starts, in s of the mission's clock.
    """

    time_s: Floats
    counts: Floats
    bin_s: float
    start_s: float

    @property
    def rate_ct_s(self) -> Floats:
        """Counts per second in each bin."""
        return self.counts / self.bin_s

    @property
    def error_ct_s(self) -> Floats:
        """Poisson error of `rate_ct_s`: the square root of the counts."""
        return np.sqrt(self.counts) / self.bin_s


def compute_light_curve(events: Events, photons_per_bin: int = PHOTONS_PER_BIN) -> LightCurve:
    """Count photons in bins that hold `photons_per_bin` of them on average, or a little more."""
    bin_s = events.bin_s(max(FINEST_BIN_S, photons_per_bin / events.rate_ct_s))
    start_s = float(events.photons.gti[0, 0])
    curve = Lightcurve.make_lightcurve(
        events.photons.time,
        dt=bin_s,
        tstart=start_s,
        tseg=float(events.photons.gti[-1, 1]) - start_s,
        gti=events.photons.gti,
    )
    curve.apply_gtis()
    time_s = np.asarray(curve.time - start_s, dtype=np.float64)
    return LightCurve(time_s, np.asarray(curve.counts, dtype=np.float64), bin_s, start_s)


@dataclass(frozen=True)
class PowerSpectrum:
    """An averaged periodogram (Bartlett's method).

    Attributes
    ----------
    frequency_hz, leahy : arrays of shape (frequencies,)
        Power in the normalisation of Leahy: 2 for photons that come at random.
    noise : float
        Mean power in the upper half of the frequencies: 2 but for the detector's dead time
        (less) and for one particle that counts twice (more).
    segments : int
        Periodograms averaged.
    segment_s, bin_s : float
        Length of each, and of the bins that photons were counted in, in s.
    rate_ct_s : float
        Mean rate, in counts per second.
    rms, rms_error : float or None
        Fractional rms amplitude over the lower half of the frequencies, the noise taken off;
        None where no power is left.
    """

    frequency_hz: Floats
    leahy: Floats
    noise: float
    segments: int
    segment_s: float
    bin_s: float
    rate_ct_s: float
    rms: float | None = None
    rms_error: float | None = None

    @property
    def fractional(self) -> Floats:
        """Power in units of the squared mean rate, (rms/mean)^2 per Hz."""
        return self.leahy / self.rate_ct_s

    @property
    def photons(self) -> float:
        """Photons in all the segments together."""
        return self.rate_ct_s * self.segments * self.segment_s


def segment_length_s(events: Events, bin_s: float, pieces: int) -> float:
    """Return the longest power of two of bins that fits `pieces` times in the exposure."""
    bins = 2 ** int(np.log2(events.exposure_s / pieces / bin_s))
    if bins < 4:
        raise ValueError(
            f"{events.exposure_s:.0f} s in bins of {bin_s} s are too short for {pieces} segments"
        )
    return float(bins * bin_s)


def compute_power_spectrum(events: Events, segments: int = SEGMENTS) -> PowerSpectrum:
    """Average the periodograms of at least `segments` stretches of the observation."""
    bin_s = events.bin_s(FINEST_BIN_S)
    segment_s = segment_length_s(events, bin_s, segments)
    spectrum = _periodograms(events, bin_s, segment_s)
    rate_ct_s = float(spectrum.nphots) / segment_s
    frequency_hz = np.asarray(spectrum.freq, dtype=np.float64)
    leahy = np.asarray(spectrum.power, dtype=np.float64)
    noise = float(leahy[frequency_hz > frequency_hz[-1] / 2].mean())
    signal = leahy[frequency_hz <= frequency_hz[-1] / 2]
    rms, rms_error = fractional_rms(signal, noise, int(spectrum.m), rate_ct_s * segment_s)
    return PowerSpectrum(
        frequency_hz=frequency_hz,
        leahy=leahy,
        noise=noise,
        segments=int(spectrum.m),
        segment_s=segment_s,
        bin_s=bin_s,
        rate_ct_s=rate_ct_s,
        rms=rms,
        rms_error=rms_error,
    )


def fractional_rms(
    leahy: Floats, noise: float, segments: int, photons_per_segment: float
) -> tuple[float | None, float | None]:
    """Return the fractional rms amplitude under the powers given, and its error.

    None, None where the powers are not above the noise.
    """
    variance = float(np.sum(leahy - noise)) / photons_per_segment
    # Each averaged power scatters by itself over the square root of the number averaged.
    scatter = float(np.sqrt(np.sum(leahy**2) / segments)) / photons_per_segment
    if variance <= 0:
        return None, None
    rms = float(np.sqrt(variance))
    return rms, scatter / (2 * rms)


def _periodograms(
    events: Events, bin_s: float, segment_s: float, *, common_mean: bool = True
) -> Any:
    return powerspectrum_from_time_array(
        events.photons.time,
        dt=bin_s,
        segment_size=segment_s,
        gti=events.photons.gti,
        norm="leahy",
        silent=True,
        save_all=True,
        use_common_mean=common_mean,
    )


@dataclass(frozen=True)
class DynamicSpectrum:
    """Periodograms of successive windows, in the normalisation of Leahy.

    Attributes
    ----------
    leahy : array of shape (frequencies, windows)
    frequency_hz : array of shape (frequencies,)
    time_s : array of shape (windows,)
        Middle of the windows, in s since the first good time interval.
    window_s : float
        Their length, in s.
    """

    leahy: Floats
    frequency_hz: Floats
    time_s: Floats
    window_s: float


def compute_dynamic_spectrum(events: Events, windows: int = WINDOWS) -> DynamicSpectrum:
    """Compute the periodograms of at least `windows` successive stretches of the observation."""
    bin_s = events.bin_s(FINEST_BIN_S)
    window_s = segment_length_s(events, bin_s, windows)
    # Each window by its own mean: otherwise a brighter one looks noisier at every frequency.
    spectrum = _periodograms(events, bin_s, window_s, common_mean=False)
    together = -(-len(spectrum.freq) // FREQUENCIES)
    starts_s, _ = time_intervals_from_gtis(events.photons.gti, window_s)
    middles_s = starts_s - events.photons.gti[0, 0] + window_s / 2
    return DynamicSpectrum(
        leahy=_averaged(np.asarray(spectrum.cs_all, dtype=np.float64), together).T,
        frequency_hz=_averaged(np.asarray(spectrum.freq, dtype=np.float64), together),
        time_s=np.asarray(middles_s, dtype=np.float64),
        window_s=window_s,
    )


def _averaged(values: Floats, together: int) -> Floats:
    """Average each `together` neighbours of the last axis; those left over are dropped."""
    whole = values.shape[-1] // together * together
    pieces = values[..., :whole].reshape(*values.shape[:-1], -1, together)
    return np.asarray(pieces.mean(axis=-1))


def write_dynamic_spectrum(path: Path, spectrum: DynamicSpectrum, source: Source) -> Path:
    """Write a FITS image of power and the tables of its two axes."""
    image = fits.PrimaryHDU(spectrum.leahy.astype(np.float32))
    image.header["OBJECT"] = source.target
    image.header["TELESCOP"] = source.telescope
    image.header["INSTRUME"] = source.instrument
    image.header["BTYPE"] = ("Leahy power", "2 for photons that come at random")
    image.header["WINDOW"] = (spectrum.window_s, "[s] length of each window")
    axes = (("FREQUENCY", "Hz", spectrum.frequency_hz), ("TIME", "s", spectrum.time_s))
    tables = [
        fits.BinTableHDU.from_columns(
            [fits.Column(name=name, format="D", unit=unit, array=values)], name=name
        )
        for name, unit, values in axes
    ]
    fits.HDUList([image, *tables]).writeto(path, overwrite=True)
    return path


def read_light_curve(path: Path) -> tuple[LightCurve, Source]:
    """Read the product LIGHT_CURVE."""
    table, source = read_table(path)
    return LightCurve(
        time_s=table["time"].to_value(u.s),
        counts=table["counts"].to_value(u.ct),
        bin_s=table.meta["bin_s"],
        start_s=table.meta["start_s"],
    ), source


def read_power_spectrum(path: Path) -> tuple[PowerSpectrum, Source]:
    """Read the product POWER_SPECTRUM."""
    table, source = read_table(path)
    facts = {field.name: table.meta.get(field.name) for field in fields(PowerSpectrum)}
    facts["frequency_hz"] = table["frequency"].to_value(u.Hz)
    facts["leahy"] = np.asarray(table["leahy"])
    return PowerSpectrum(**facts), source


def read_dynamic_spectrum(path: Path) -> tuple[DynamicSpectrum, Source]:
    """Read the product DYN_POWER_SPECTRUM."""
    with fits.open(path, memmap=False) as file:
        header = file[0].header
        spectrum = DynamicSpectrum(
            leahy=file[0].data.astype(np.float64),
            frequency_hz=file["FREQUENCY"].data["FREQUENCY"].astype(np.float64),
            time_s=file["TIME"].data["TIME"].astype(np.float64),
            window_s=float(header["WINDOW"]),
        )
    return spectrum, Source(header["OBJECT"], header["TELESCOP"], header["INSTRUME"])


@pipeline.product("LIGHT_CURVE", inputs=["EVENTS"], timeout_s=120)
def light_curve(context: Context) -> Output:
    """Photons counted in equal bins, as ECSV."""
    events = read_events(context.input("EVENTS"))
    curve = compute_light_curve(events)
    context.log.info("%s: %d photons in %.0f s", events.source, events.count, events.exposure_s)
    facts = {
        "photons": events.count,
        "exposure_s": events.exposure_s,
        "mean_rate_ct_s": events.rate_ct_s,
        "bin_s": curve.bin_s,
    }
    columns = {
        "time": curve.time_s * u.s,
        "counts": curve.counts * u.ct,
        "rate": curve.rate_ct_s * u.ct / u.s,
        "rate_error": curve.error_ct_s * u.ct / u.s,
    }
    path = context.output_path("light_curve.ecsv")
    write_table(path, columns, events.source, start_s=curve.start_s, **facts)
    return Output(path, media_type="text/ecsv", metadata={**asdict(events.source), **facts})


@pipeline.product("POWER_SPECTRUM", inputs=["EVENTS"], timeout_s=120)
def power_spectrum(context: Context) -> Output:
    """Averaged periodogram, as ECSV."""
    events = read_events(context.input("EVENTS"))
    spectrum = compute_power_spectrum(events)
    context.log.info("%s: %d periodograms averaged", events.source, spectrum.segments)
    facts = {
        "noise": spectrum.noise,
        "segments": spectrum.segments,
        "segment_s": spectrum.segment_s,
        "bin_s": spectrum.bin_s,
        "rate_ct_s": spectrum.rate_ct_s,
        "rms": spectrum.rms,
        "rms_error": spectrum.rms_error,
    }
    columns = {
        "frequency": spectrum.frequency_hz * u.Hz,
        "leahy": spectrum.leahy,
        "fractional": spectrum.fractional / u.Hz,
    }
    path = write_table(context.output_path("power_spectrum.ecsv"), columns, events.source, **facts)
    return Output(path, media_type="text/ecsv", metadata={**asdict(events.source), **facts})


@pipeline.product("DYN_POWER_SPECTRUM", inputs=["EVENTS"], timeout_s=120)
def dynamic_power_spectrum(context: Context) -> Output:
    """Periodograms of successive windows, as a FITS image with a picture of its own."""
    from examples.demo import quicklook  # noqa: PLC0415  it reads what this module writes

    events = read_events(context.input("EVENTS"))
    spectrum = compute_dynamic_spectrum(events)
    path = context.output_path("dynamic_power_spectrum.fits")
    write_dynamic_spectrum(path, spectrum, events.source)
    rows, windows = spectrum.leahy.shape
    facts = {"windows": windows, "frequencies": rows, "window_s": spectrum.window_s}
    # With its axes: of a FITS image alone, Batuta would draw the pixels.
    picture = context.output_path("dynamic_power_spectrum.png")
    quicklook.draw("DYN_POWER_SPECTRUM", path, picture, context.obs_id)
    return Output(
        path,
        media_type="application/fits",
        metadata={**asdict(events.source), **facts},
        quicklook=picture,
    )
