"""QPO pipeline: significant peaks in frequency, and bursts in time."""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from astropy.stats import bayesian_blocks

from batuta.pipeline import Context, Output, Pipeline
from examples.demo.oscillations import (
    FALSE_ALARM,
    constant_rate_probability,
    fit_continuum,
    fit_oscillation,
    rebin,
    rms_upper_limit,
    search,
)
from examples.demo.timing import (
    LightCurve,
    PowerSpectrum,
    read_light_curve,
    read_power_spectrum,
)

BLOCK_FALSE_ALARM: Final = 0.01
"""Probability of finding a change of rate in a constant source."""

BURST_SIGMA: Final = 3.0
"""A block is a burst if it is brighter than the rest by as many standard errors."""

pipeline = Pipeline("qpo_pipeline")


def search_oscillation(spectrum: PowerSpectrum, curve: LightCurve | None) -> dict[str, Any]:
    """Search a power spectrum for an oscillation; report what was found, or an upper limit.

    With the light curve, say also whether the rate varies at all.
    """
    continuum = fit_continuum(spectrum)
    peak = search(spectrum, continuum)
    oscillation = fit_oscillation(spectrum, continuum, peak) if peak.detected else None
    ratio = rebin(spectrum.frequency_hz, spectrum.leahy / continuum.powers, spectrum.segments)
    steady = curve and constant_rate_probability(curve.counts, np.sqrt(curve.counts.mean()))
    return {
        "detected": peak.detected,
        "false_alarm_threshold": FALSE_ALARM,
        "peak": {**asdict(peak), "sigma": peak.sigma},
        "oscillation": oscillation and {**asdict(oscillation), "quality": oscillation.quality},
        "rms_upper_limit_95": None if oscillation else rms_upper_limit(spectrum, continuum),
        "continuum": {
            "model": continuum.name,
            "parameters": continuum.values.tolist(),
            "errors": continuum.errors.tolist(),
        },
        "ratio_to_continuum": {key: value.tolist() for key, value in asdict(ratio).items()},
        "searched_hz": [float(spectrum.frequency_hz[0]), float(spectrum.frequency_hz[-1])],
        "constant_rate_probability": steady,
    }


@dataclass(frozen=True)
class Block:
    """A stretch of constant rate; times in s from the start, rates in counts per second."""

    start_s: float
    stop_s: float
    rate_ct_s: float
    error_ct_s: float
    burst: bool


def find_blocks(curve: LightCurve, false_alarm: float = BLOCK_FALSE_ALARM) -> list[Block]:
    """Cut a light curve where its rate changes (Bayesian blocks; Scargle et al. 2013).

    A block is a burst if it lasts less than half of the observation and is brighter than the
    rest of it by 3 standard errors.
    """
    # Anscombe's transform: the error of each bin is 1 whatever its rate, as the blocks suppose.
    level = 2 * np.sqrt(curve.counts + 3 / 8)
    edges = bayesian_blocks(curve.time_s, level, 1.0, fitness="measures", p0=false_alarm)
    edges[0] -= curve.bin_s / 2
    edges[-1] += curve.bin_s / 2
    return [_block(curve, float(start), float(stop)) for start, stop in pairwise(edges)]


def _block(curve: LightCurve, start_s: float, stop_s: float) -> Block:
    inside = (curve.time_s >= start_s) & (curve.time_s < stop_s)
    rate, error = _rate(curve, inside)
    burst = False
    if 0 < inside.sum() < len(inside) / 2:
        rest, rest_error = _rate(curve, ~inside)
        burst = rate - rest > BURST_SIGMA * float(np.hypot(error, rest_error))
    return Block(start_s, stop_s, rate, error, burst)


def _rate(curve: LightCurve, bins: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[float, float]:
    photons, exposure_s = float(curve.counts[bins].sum()), float(bins.sum()) * curve.bin_s
    return photons / exposure_s, float(np.sqrt(max(photons, 1.0))) / exposure_s


def write_json(path: Path, document: dict[str, Any]) -> Path:
    """Write a document that people read too."""
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


@pipeline.product("QPO_SEARCH", inputs=["POWER_SPECTRUM"], optional=["LIGHT_CURVE"], timeout_s=120)
def qpo_search(context: Context) -> Output:
    """Search for a quasi-periodic oscillation, as JSON."""
    spectrum, source = read_power_spectrum(context.input("POWER_SPECTRUM"))
    curve_path = context.optional_input("LIGHT_CURVE")
    curve = read_light_curve(curve_path)[0] if curve_path else None
    found = search_oscillation(spectrum, curve)
    peak = found["peak"]
    context.log.info(
        "%s: %s; highest peak at %.4g Hz, %.1f sigma after %d trials",
        source,
        "detected" if found["detected"] else "no oscillation above chance",
        peak["frequency_hz"],
        peak["sigma"],
        peak["trials"],
    )
    path = write_json(context.output_path("qpo_search.json"), {**asdict(source), **found})
    summary = {
        "detected": found["detected"],
        "frequency_hz": peak["frequency_hz"],
        "sigma": peak["sigma"],
        "rms_upper_limit_95": found["rms_upper_limit_95"],
    }
    return Output(path, media_type="application/json", metadata={**asdict(source), **summary})


@pipeline.product("BURSTS", inputs=["LIGHT_CURVE"], timeout_s=120)
def bursts(context: Context) -> Output:
    """Changes of rate, and which are bursts, as JSON."""
    curve, source = read_light_curve(context.input("LIGHT_CURVE"))
    blocks = find_blocks(curve)
    count = sum(block.burst for block in blocks)
    context.log.info("%s: %d blocks, %d bursts", source, len(blocks), count)
    document = {
        **asdict(source),
        "false_alarm_probability": BLOCK_FALSE_ALARM,
        "bursts": count,
        "blocks": [asdict(block) for block in blocks],
    }
    path = write_json(context.output_path("bursts.json"), document)
    summary = {**asdict(source), "bursts": count, "blocks": len(blocks)}
    return Output(path, media_type="application/json", metadata=summary)
