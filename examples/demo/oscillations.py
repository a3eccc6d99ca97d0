"""Search for quasi-periodic oscillations in an averaged power spectrum.

The continuum is fitted by maximum likelihood, the spectrum divided by it, and the highest power
left, at any width, is compared with what chance gives in as many trials. Averaged powers follow
chi-squared statistics around their expectation, so the likelihood is that of a gamma distribution
(Barret and Vaughan 2012, ApJ 746, 131); the tail is that of van der Klis (1989).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from scipy import optimize, stats

from examples.demo.events import Floats
from examples.demo.timing import PowerSpectrum

from stingray.stats import (  # isort: skip  (after `events`, which silences its import)
    amplitude_upper_limit,
    equivalent_gaussian_Nsigma,
    pds_probability,
)

FALSE_ALARM: Final = 0.00135
"""A peak is a detection if chance gives one as high in fewer searches than this: 3 sigma."""

_CONVERGED: Final = {"xatol": 1e-5, "fatol": 1e-6, "maxiter": 5000, "maxfev": 5000}

Model: TypeAlias = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Fit:
    """A model of a power spectrum, fitted.

    Attributes
    ----------
    name : str
        What the model is.
    values, errors : arrays
        Its parameters and their standard errors.
    powers : array of shape (frequencies,)
        What it expects, in the normalisation of Leahy.
    bic : float
        Bayesian information criterion: the smaller, the better.
    """

    name: str
    values: Floats
    errors: Floats
    powers: Floats
    bic: float


@dataclass(frozen=True)
class Peak:
    """The least probable power of a search.

    Attributes
    ----------
    frequency_hz, width_hz : float
        Middle and width of the band that holds it.
    ratio : float
        Its mean power over that of the continuum.
    probability : float
        That chance gives one as high anywhere in the search.
    trials : int
        Bands looked at, overlapping ones counted each: an upper bound of the independent ones.
    """

    frequency_hz: float
    width_hz: float
    ratio: float
    probability: float
    trials: int

    @property
    def detected(self) -> bool:
        """Whether it is more than chance."""
        return self.probability < FALSE_ALARM

    @property
    def sigma(self) -> float:
        """Its probability as that of a deviation of a normal law, in sigma; 0 at the least."""
        return max(0.0, float(equivalent_gaussian_Nsigma(self.probability)))


@dataclass(frozen=True)
class Oscillation:
    """A Lorentzian fitted to a detected peak; errors are 1 sigma."""

    frequency_hz: float
    frequency_error_hz: float
    fwhm_hz: float
    fwhm_error_hz: float
    rms: float
    rms_error: float

    @property
    def quality(self) -> float:
        """Frequency over width."""
        return self.frequency_hz / self.fwhm_hz


def constant(frequency: Floats, parameters: Floats) -> Floats:
    """White noise; the parameter is the logarithm of its level."""
    return np.full_like(frequency, np.exp(parameters[0]))


def power_law(frequency: Floats, parameters: Floats) -> Floats:
    """White noise and red noise; logarithms of their levels (at 1 Hz), and the slope."""
    red = np.exp(parameters[1]) * frequency ** -parameters[2]
    return np.asarray(np.exp(parameters[0]) + red)


def lorentzian(frequency: Floats, parameters: Floats) -> Floats:
    """Return a peak of logarithmic height, logarithmic FWHM and frequency."""
    half = np.exp(parameters[1]) / 2
    return np.asarray(np.exp(parameters[0]) / (1 + ((frequency - parameters[2]) / half) ** 2))


def fit(
    spectrum: PowerSpectrum,
    name: str,
    model: Model,
    start: Floats,
    bounds: list[tuple[float, float]],
) -> Fit:
    """Fit `model` by maximum likelihood.

    Raises
    ------
    ArithmeticError
        If the fit does not converge.
    """
    frequency, power, m = spectrum.frequency_hz, spectrum.leahy, spectrum.segments

    def surprise(parameters: Floats) -> float:
        expected = model(frequency, parameters)
        return float(m * np.sum(np.log(expected) + power / expected))

    # Without derivatives: theirs, by differences, are noise next to the maximum.
    found = optimize.minimize(
        surprise, start, method="Nelder-Mead", bounds=bounds, options=_CONVERGED
    )
    if not found.success:
        raise ArithmeticError(f"{name}: the fit does not converge: {found.message}")
    slopes = optimize.approx_fprime(found.x, lambda p: np.log(model(frequency, p)), 1e-6)
    information = m * slopes.T @ slopes
    return Fit(
        name=name,
        values=np.asarray(found.x),
        errors=np.sqrt(np.diag(np.linalg.pinv(information))),
        powers=model(frequency, found.x),
        bic=float(2 * found.fun + len(start) * np.log(len(power))),
    )


def fit_continuum(spectrum: PowerSpectrum) -> Fit:
    """Fit white noise, and white with red noise; keep the one that the BIC prefers."""
    level = float(np.log(spectrum.leahy.mean()))
    levels = (level - 3, level + 3)
    white = fit(spectrum, "constant", constant, np.array([level]), [levels])
    start = np.array([level, level - 3, 1.0])
    bounds = [levels, (level - 30, level + 10), (0.3, 4.0)]
    red = fit(spectrum, "constant + power law", power_law, start, bounds)
    return min(white, red, key=lambda each: each.bic)


def search(spectrum: PowerSpectrum, continuum: Fit) -> Peak:
    """Find the least probable power over the continuum, over bands of every width.

    Bands are 1, 2, 4, ... frequencies wide, up to an eighth of the spectrum, and overlap by half.
    """
    ratio = spectrum.leahy / continuum.powers
    bands = list(_bands(len(ratio)))
    trials = sum(len(starts) for _, starts in bands)
    sums = np.concatenate(([0.0], np.cumsum(ratio)))
    peaks = []
    for width, starts in bands:
        means = (sums[starts + width] - sums[starts]) / width
        best = int(np.argmax(means))
        first = int(starts[best])
        probability = pds_probability(
            2 * means[best], ntrial=trials, n_summed_spectra=spectrum.segments, n_rebin=width
        )
        peaks.append(
            Peak(
                frequency_hz=float(spectrum.frequency_hz[first : first + width].mean()),
                width_hz=width / spectrum.segment_s,
                ratio=float(means[best]),
                probability=float(probability),
                trials=trials,
            )
        )
    return min(peaks, key=lambda peak: peak.probability)


def _bands(count: int) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.intp]]]]:
    """Width of the bands and where they start, in frequencies."""
    width = 1
    while width == 1 or width <= count // 8:
        yield width, np.arange(0, count - width + 1, max(1, width // 2), dtype=np.intp)
        width *= 2


def fit_oscillation(spectrum: PowerSpectrum, continuum: Fit, peak: Peak) -> Oscillation:
    """Fit a Lorentzian over the continuum where the peak is; the continuum stays as it is."""
    height = np.log(2 * max(peak.ratio - 1, 1e-3))
    width = np.log(peak.width_hz)
    found = fit(
        spectrum,
        "Lorentzian",
        lambda frequency, p: continuum.powers + lorentzian(frequency, p),
        np.array([height, width, peak.frequency_hz]),
        [
            (height - 5, height + 5),
            (np.log(0.5 / spectrum.segment_s), width + 2),
            (peak.frequency_hz - 2 * peak.width_hz, peak.frequency_hz + 2 * peak.width_hz),
        ],
    )
    fwhm_hz = float(np.exp(found.values[1]))
    power = np.exp(found.values[0]) * np.pi / 2 * fwhm_hz
    rms = float(np.sqrt(power / spectrum.rate_ct_s))
    return Oscillation(
        frequency_hz=float(found.values[2]),
        frequency_error_hz=float(found.errors[2]),
        fwhm_hz=fwhm_hz,
        fwhm_error_hz=float(fwhm_hz * found.errors[1]),
        rms=rms,
        rms_error=float(rms * np.hypot(found.errors[0], found.errors[1]) / 2),
    )


def rms_upper_limit(spectrum: PowerSpectrum, continuum: Fit, confidence: float = 0.95) -> float:
    """Return the fractional rms of the strongest sinusoid compatible with the spectrum."""
    highest = 2 * float(np.max(spectrum.leahy / continuum.powers))
    amplitude = amplitude_upper_limit(
        highest,
        spectrum.rate_ct_s * spectrum.segment_s,
        n=spectrum.segments,
        c=confidence,
        fft_corr=True,
        summed_flag=False,
    )
    return float(amplitude / np.sqrt(2))


@dataclass(frozen=True)
class Rebinned:
    """A spectrum averaged over bands that widen with frequency, to be looked at.

    Attributes
    ----------
    frequency_hz, power, error : arrays of shape (bands,)
        Mean frequency and power of each band, and the 1-sigma error of the power.
    """

    frequency_hz: Floats
    power: Floats
    error: Floats


def rebin(frequency_hz: Floats, power: Floats, segments: int, growth: float = 1.08) -> Rebinned:
    """Average a spectrum over bands each `growth` times wider than the one before."""
    ends = np.unique(np.ceil(growth ** np.arange(0, np.log(len(power)) / np.log(growth) + 1)))
    starts = np.concatenate(([0], ends[ends < len(power)])).astype(np.intp)
    counts = np.diff(np.append(starts, len(power)))
    mean = np.add.reduceat(power, starts) / counts
    return Rebinned(
        np.add.reduceat(frequency_hz, starts) / counts, mean, mean / np.sqrt(segments * counts)
    )


def constant_rate_probability(rate: Floats, error: Floats) -> float:
    """Return the probability that a constant source scatters as much as `rate` (chi-squared)."""
    weights = np.broadcast_to(error**-2.0, rate.shape)
    mean = np.average(rate, weights=weights)
    return float(stats.chi2.sf(np.sum(weights * (rate - mean) ** 2), len(rate) - 1))
