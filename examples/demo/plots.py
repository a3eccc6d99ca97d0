"""Drawings of the products, each on axes that it is given: quicklooks and reports share them."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from astropy import units as u
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, Normalize

from examples.demo import style
from examples.demo.disparity import BAD_PX, Pixels, open_raster, read_raster
from examples.demo.events import Floats, Source, read_table
from examples.demo.oscillations import rebin
from examples.demo.timing import read_dynamic_spectrum, read_light_curve, read_power_spectrum

RATE = "Rate (ct s$^{-1}$)"
TIME = "Time since start (s)"
FREQUENCY = "Frequency (Hz)"

TURN_DEG = 14
TILT_DEG = 9


def read_json(path: Path) -> dict[str, Any]:
    """Read a product kept as JSON."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _heading(document: dict[str, Any]) -> str:
    return str(Source(document["target"], document["telescope"], document["instrument"]))


def light_curve(axes: Axes, path: Path) -> str:
    """Draw LIGHT_CURVE."""
    curve, source = read_light_curve(path)
    edges = np.append(curve.time_s - curve.bin_s / 2, curve.time_s[-1] + curve.bin_s / 2)
    low, high = curve.rate_ct_s - curve.error_ct_s, curve.rate_ct_s + curve.error_ct_s
    axes.stairs(high, edges, baseline=low, fill=True, color=style.SKY, alpha=0.6, lw=0)
    axes.stairs(curve.rate_ct_s, edges, color=style.BLUE, lw=1.1, baseline=None)
    mean = float(curve.rate_ct_s.mean())
    axes.axhline(mean, color=style.INK, lw=0.9, ls=(0, (5, 4)))
    axes.set(xlabel=TIME, ylabel=RATE, xlim=(edges[0], edges[-1]), ylim=(0, None))
    style.note(axes, f"mean {mean:.3g} ct/s, bins of {curve.bin_s:.3g} s, 1 sigma band")
    return str(source)


def blocks(axes: Axes, path: Path) -> str:
    """Draw BURSTS: blocks of constant rate; those that are bursts in red."""
    document = read_json(path)
    block_lines(axes, document)
    rates = [block["rate_ct_s"] for block in document["blocks"]]
    start_s, stop_s = document["blocks"][0]["start_s"], document["blocks"][-1]["stop_s"]
    axes.set(xlabel=TIME, ylabel=RATE, xlim=(start_s, stop_s), ylim=(0, 1.4 * max(rates)))
    style.note(axes, blocks_verdict(document))
    return _heading(document)


def block_lines(axes: Axes, document: dict[str, Any]) -> None:
    """Draw the blocks of BURSTS over the light curve of these axes."""
    for block in document["blocks"]:
        span = [block["start_s"], block["stop_s"]]
        colour = style.RED if block["burst"] else style.INK
        rate, error = block["rate_ct_s"], block["error_ct_s"]
        axes.fill_between(span, rate - error, rate + error, color=colour, alpha=0.2, lw=0)
        axes.plot(span, [rate, rate], color=colour, lw=2)


def blocks_verdict(document: dict[str, Any]) -> str:
    """Summarise BURSTS in one line."""
    changes, bursts = len(document["blocks"]) - 1, document["bursts"]
    counted = f"{changes or 'no'} change{'s' if changes > 1 else ''} of rate"
    return f"{counted} (Bayesian blocks, p = 0.01), {bursts or 'no'} burst{'s' * (bursts > 1)}"


def power_spectrum(axes: Axes, path: Path) -> str:
    """Draw POWER_SPECTRUM: every frequency, averages of them, and the noise."""
    spectrum, source = read_power_spectrum(path)
    bands = rebin(spectrum.frequency_hz, spectrum.leahy, spectrum.segments)
    axes.plot(spectrum.frequency_hz, spectrum.leahy, color=style.SKY, lw=0.6, zorder=1)
    style.points(axes, bands.frequency_hz, bands.power, bands.error, style.BLUE, "averaged bands")
    label = f"noise, {spectrum.noise:.3f}"
    axes.axhline(spectrum.noise, color=style.RED, lw=1.1, ls=(0, (5, 4)), label=label)
    axes.set(xscale="log", yscale="log", xlabel=FREQUENCY, ylabel="Power (Leahy)")
    axes.set_xlim(spectrum.frequency_hz[0] * 0.85, spectrum.frequency_hz[-1] * 1.1)
    style.plain_ticks(axes, "y", [0.5, 1, 2, 5, 10, 20])
    axes.set_ylim(spectrum.leahy.min() * 0.9, spectrum.leahy.max() * 1.3)
    axes.legend(loc="upper right", ncols=2)
    style.note(axes, f"{spectrum.segments} periodograms of {spectrum.segment_s:.4g} s")
    return str(source)


def dynamic_spectrum(axes: Axes, path: Path) -> str:
    """Draw DYN_POWER_SPECTRUM."""
    spectrum, source = read_dynamic_spectrum(path)
    half = spectrum.window_s / 2
    times = np.append(spectrum.time_s - half, spectrum.time_s[-1] + half)
    step = spectrum.frequency_hz[1] - spectrum.frequency_hz[0]
    edges = np.append(spectrum.frequency_hz - step / 2, spectrum.frequency_hz[-1] + step / 2)
    limits = Normalize(0, float(np.percentile(spectrum.leahy, 99.5)))
    style.as_image(axes)
    mesh = axes.pcolormesh(times, edges, spectrum.leahy, cmap="magma", norm=limits, rasterized=True)
    style.colour_bar(axes, mesh, "Power (Leahy)", extend="max")
    axes.set(xlabel=TIME, ylabel=FREQUENCY)
    style.note(axes, f"windows of {spectrum.window_s:.3g} s; 2 is noise")
    return str(source)


def qpo_search(axes: Axes, path: Path) -> str:
    """Draw QPO_SEARCH: the power over its continuum, and the least probable band."""
    document = read_json(path)
    ratio, peak = document["ratio_to_continuum"], document["peak"]
    style.points(axes, ratio["frequency_hz"], ratio["power"], ratio["error"], style.BLUE, None)
    axes.axhline(1, color=style.INK, lw=0.9, ls=(0, (5, 4)))
    low = max(peak["frequency_hz"] - peak["width_hz"] / 2, ratio["frequency_hz"][0] / 2)
    high = peak["frequency_hz"] + peak["width_hz"] / 2
    colour = style.RED if document["detected"] else style.SAND
    axes.axvspan(low, high, color=colour, alpha=0.35, lw=0)
    axes.plot(peak["frequency_hz"], peak["ratio"], marker="v", ms=8, color=colour, ls="none")
    axes.set(xscale="log", xlabel=FREQUENCY, ylabel="Power / continuum")
    axes.set_ylim(bottom=0)
    style.note(axes, verdict(document))
    return _heading(document)


def verdict(document: dict[str, Any]) -> str:
    """Summarise QPO_SEARCH in one line."""
    peak = document["peak"]
    found = document["oscillation"]
    if found is not None:
        return (
            f"QPO at {found['frequency_hz']:.4g} ± {found['frequency_error_hz']:.2g} Hz,"
            f" rms {found['rms'] * 100:.1f} %, {peak['sigma']:.1f} sigma"
        )
    limit = document["rms_upper_limit_95"] * 100
    return (
        f"no oscillation above chance: best {peak['frequency_hz']:.3g} Hz,"
        f" p = {peak['probability']:.2f} over {peak['trials']} trials; rms < {limit:.0f} % (95 %)"
    )


def energy_spectrum(axes: Axes, path: Path) -> str:
    """Draw ENERGY_SPECTRUM."""
    table, source = read_table(path)
    low, high = (table[f"energy_{end}"].to_value(u.keV) for end in ("low", "high"))
    unit = u.ct / u.s / u.keV
    density, error = table["density"].to_value(unit), table["error"].to_value(unit)
    edges = np.append(low, high[-1])
    axes.stairs(density, edges, color=style.BLUE, lw=1.2, baseline=None)
    middle = np.sqrt(low * high)
    axes.errorbar(middle, density, error, fmt="none", ecolor=style.BLUE, elinewidth=0.8, alpha=0.7)
    axes.set(xscale="log", yscale="log", xlabel="Energy (keV)")
    axes.set_ylabel("Counts (ct s$^{-1}$ keV$^{-1}$)")
    ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]
    style.plain_ticks(axes, "x", [tick for tick in ticks if low[0] <= tick <= high[-1]])
    style.plain_ticks(axes, "y", [tick for tick in ticks if density.min() / 2 <= tick < 5])
    style.note(axes, f"{table.meta['photons']} photons; response and background included")
    return str(source)


def hardness(axes: Axes, path: Path) -> str:
    """Draw HARDNESS."""
    table, source = read_table(path)
    time_s = table["time"].to_value(u.s)
    ratio, error = np.asarray(table["hardness"]), np.asarray(table["error"])
    style.points(axes, time_s, ratio, error, style.BLUE, None)
    axes.axhline(np.average(ratio, weights=error**-2), color=style.INK, lw=0.9, ls=(0, (5, 4)))
    axes.set(xlabel=TIME, ylabel="Hardness (H - S) / (H + S)")
    (low, high), split = table.meta["range_kev"], table.meta["split_kev"]
    chance = table.meta["constant_probability"]
    style.note(
        axes, f"S: {low:g} to {split:.3g} keV, H: to {high:g} keV; constant: p = {chance:.2g}"
    )
    return str(source)


def excess_variance(axes: Axes, path: Path) -> str:
    """Draw EXCESS_VARIANCE: the light curve, its mean, and how much it varies."""
    table, source = read_table(path)
    rate, error = (table[name].to_value(u.ct / u.s) for name in ("rate", "rate_error"))
    hours = table["time"].to_value(u.hour)
    style.points(axes, hours, rate, error, style.BLUE, None)
    axes.axhline(np.average(rate, weights=error**-2), color=style.INK, lw=0.9, ls=(0, (5, 4)))
    axes.set(xlabel="Time since first scan (h)", ylabel=RATE, ylim=(0, None))
    value, spread = (table.meta[f"normalised_excess_variance{end}"] for end in ("", "_error"))
    chance = table.meta["constant_probability"]
    style.note(axes, f"excess variance {value:.4f} ± {spread:.4f}; constant: p = {chance:.2f}")
    return str(source)


def disparity(axes: Axes, path: Path) -> str:
    """Draw DISPARITY, or TRUE_DISPARITY."""
    values = read_raster(path)
    style.as_image(axes)
    low, high = np.nanpercentile(values, (0.5, 99.5))
    image = axes.imshow(values, cmap=style.COLOUR_MAP, vmin=low, vmax=high, interpolation="nearest")
    style.colour_bar(axes, image, "Disparity (px)")
    axes.set(xlabel="Column (px)", ylabel="Row (px)")
    style.note(axes, f"{np.isfinite(values).mean() * 100:.1f} % of pixels; none where grey")
    return ""


def disparity_error(axes: Axes, path: Path) -> str:
    """Draw DISPARITY_ERROR: the share of pixels off by more than each threshold."""
    error = read_json(path)
    over_px, over = np.asarray(error["over_px"]), np.asarray(error["over_percent"])
    axes.plot(over_px, over, color=style.BLUE, marker="o", ms=5, lw=1.6)
    bad = error["bad_percent"]
    axes.plot(BAD_PX, bad, marker="o", ms=10, color=style.RED)
    axes.annotate(
        f"{bad:.2f} % off by more than 2 px",
        (BAD_PX, bad),
        xytext=(10, 16),
        textcoords="offset points",
        color=style.RED,
        fontweight="bold",
    )
    axes.set(xscale="log", yscale="log", xlabel="Error larger than (px)")
    axes.set_ylabel("Pixels with a disparity (%)")
    axes.set_xscale("log", base=2)
    style.plain_ticks(axes, "x", list(over_px))
    style.plain_ticks(axes, "y", [1, 2, 5, 10, 20, 50, 100])
    style.note(
        axes,
        f"median {error['median_error_px']:.3f} px; density {error['density_percent']:.1f} %",
    )
    return ""


def points(axes: Axes, path: Path) -> str:
    """Draw POINTS as seen from the left and above the camera, far ones first."""
    cloud = pd.read_parquet(path)
    seen, depth = _turned(cloud[["x", "y", "z"]].to_numpy(np.float64))
    order = np.argsort(-depth)
    across, up = seen[order].T
    coloured = "r" in cloud
    colours: Any = cloud[["r", "g", "b"]].to_numpy() / 255 if coloured else cloud["z"].to_numpy()
    axes.scatter(across, up, s=0.9, c=colours[order], lw=0, rasterized=True)
    axes.set_aspect("equal")
    axes.set(xlabel="Across (m)", ylabel="Up (m)")
    (left, bottom), (right, top) = np.percentile(seen, (0.2, 99.8), axis=0)
    axes.set_xlim(left - 0.05, right + 0.05)
    axes.set_ylim(bottom - 0.05, top + 0.05)
    style.note(axes, f"{len(cloud):,} points, turned by {TURN_DEG}° and tilted by {TILT_DEG}°")
    return ""


def _turned(xyz: Floats) -> tuple[Pixels, Pixels]:
    """Across and up, as seen from elsewhere, and how far."""
    turn, tilt = np.radians(TURN_DEG), np.radians(TILT_DEG)
    x, y, z = (xyz - np.median(xyz, axis=0)).T
    across = np.cos(turn) * x + np.sin(turn) * z
    away = np.cos(turn) * z - np.sin(turn) * x
    up = np.cos(tilt) * y + np.sin(tilt) * away
    return np.column_stack([across, up]), np.cos(tilt) * away - np.sin(tilt) * y


def heights(axes: Axes, path: Path) -> str:
    """Draw HEIGHTS, in colours and lit from the upper left."""
    values = read_raster(path)
    with open_raster(path) as raster:
        left, bottom, right, top = raster.bounds
    low, high = np.nanpercentile(values, (0.5, 99.5))
    limits = Normalize(low, high)
    shaded = _shaded(values, limits, right - left)
    style.as_image(axes)
    axes.imshow(shaded, extent=(left, right, bottom, top), interpolation="nearest")
    rows, cols = np.nonzero(np.isfinite(values))
    cell = (right - left) / values.shape[1]
    (row_0, row_1), (col_0, col_1) = (np.percentile(each, (0.3, 99.7)) for each in (rows, cols))
    axes.set_xlim(left + col_0 * cell, left + (col_1 + 1) * cell)
    axes.set_ylim(top - (row_1 + 1) * cell, top - row_0 * cell)
    mapped = ScalarMappable(limits, style.COLOUR_MAP)
    style.colour_bar(axes, mapped, "Height over the plane at 5 m (m)")
    axes.set(xlabel="x (m)", ylabel="y (m)")
    style.note(axes, f"cells of {cell * 1000:.0f} mm")
    return ""


def _shaded(values: Any, limits: Normalize, width_m: float) -> Any:
    cell = width_m / values.shape[1]
    filled = np.where(np.isfinite(values), values, np.nanmin(values))
    light = LightSource(azdeg=315, altdeg=50)
    lit = light.shade(
        filled,
        mpl.colormaps[style.COLOUR_MAP],
        norm=limits,
        blend_mode="soft",
        dx=cell,
        dy=cell,
        vert_exag=0.5,
    )
    lit[~np.isfinite(values), 3] = 0
    return lit


def picture(axes: Axes, path: Path) -> str:
    """Draw STEREO_LEFT."""
    style.as_image(axes)
    image = read_raster(path)
    axes.imshow(image)
    style.note(axes, f"{image.shape[1]} x {image.shape[0]} pixels")
    axes.set(xlabel="Column (px)", ylabel="Row (px)")
    return ""


def disparity_difference(axes: Axes, computed: Path, truth: Path) -> None:
    """Draw where DISPARITY and TRUE_DISPARITY differ, and by how much."""
    error = np.abs(read_raster(computed) - read_raster(truth))
    style.as_image(axes)
    image = axes.imshow(error, cmap="magma", vmin=0, vmax=2 * BAD_PX, interpolation="nearest")
    style.colour_bar(axes, image, "Error (px)", extend="max")
    axes.set(xlabel="Column (px)", ylabel="Row (px)")
    style.note(axes, "absolute difference from the truth; grey where either is missing")
