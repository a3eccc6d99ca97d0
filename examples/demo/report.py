"""Report pipeline: one page per observation, of the products available."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from batuta.pipeline import Context, Output, Pipeline
from examples.demo import plots, style
from examples.demo.quicklook import LOOKS
from examples.demo.timing import read_light_curve

PANELS: Final = (
    "LIGHT_CURVE",
    "POWER_SPECTRUM",
    "DYN_POWER_SPECTRUM",
    "QPO_SEARCH",
    "ENERGY_SPECTRUM",
    "HARDNESS",
)
"""BURSTS is drawn over LIGHT_CURVE."""

STEREO_PANELS: Final = ("DISPARITY", "POINTS", "HEIGHTS", "DISPARITY_ERROR")

pipeline = Pipeline("report_pipeline")

Panel = Callable[[Axes], None]


def draw_page(heading: str, verdict: str, panels: Mapping[str, Panel], png: Path) -> Path:
    """Draw panels in two columns under a heading; each is given its title and its drawing."""
    rows = -(-len(panels) // 2)
    with style.styled():
        figure = style.new_figure(15.0, 0.9 + 4.6 * rows)
        _head(figure, heading, verdict)
        for index, (title, panel) in enumerate(panels.items(), start=1):
            last_alone = index == len(panels) and index % 2 == 1
            place: int | tuple[int, int] = (index, index + 1) if last_alone else index
            axes = figure.add_subplot(rows, 2, place)
            panel(axes)
            style.title(axes, title)
        return style.save(figure, png)


def _head(figure: Figure, heading: str, verdict: str) -> None:
    figure.suptitle(
        f"{heading}\n", x=0.012, ha="left", fontsize=19, fontweight="bold", color=style.INK
    )
    inches = figure.get_size_inches()[1]
    figure.text(0.012, 1 - 0.62 / inches, verdict, fontsize=12.5, color=style.BLUE)


def timing_verdict(found: Mapping[str, Path]) -> str:
    """Summarise in one line what was found, from the products that state it."""
    parts = []
    if "QPO_SEARCH" in found:
        parts.append(plots.verdict(plots.read_json(found["QPO_SEARCH"])))
    if "BURSTS" in found:
        parts.append(plots.blocks_verdict(plots.read_json(found["BURSTS"])))
    return "; ".join(parts) or "not searched for oscillations or bursts"


def draw_timing_report(obs_id: str, found: Mapping[str, Path], png: Path) -> Path:
    """Draw the page of an X-ray observation.

    Parameters
    ----------
    obs_id : str
        For the heading.
    found : mapping of str to Path
        Products to show; LIGHT_CURVE and POWER_SPECTRUM at least.
    png : Path
        The page to write.
    """
    _, source = read_light_curve(found["LIGHT_CURVE"])
    panels = {LOOKS[name].title: _panel(name, found[name]) for name in PANELS if name in found}
    if "BURSTS" in found:
        panels[LOOKS["LIGHT_CURVE"].title] = lambda axes: _with_blocks(axes, found)
    return draw_page(f"{source} · {obs_id}", timing_verdict(found), panels, png)


def draw_stereo_report(obs_id: str, found: Mapping[str, Path], png: Path) -> Path:
    """Draw the page of a stereo pair; `found` holds STEREO_LEFT and DISPARITY at least."""
    panels = {"Left image": lambda axes: _ignore(plots.picture(axes, found["STEREO_LEFT"]))}
    panels |= {
        LOOKS[name].title: _panel(name, found[name]) for name in STEREO_PANELS if name in found
    }
    if "TRUE_DISPARITY" in found:
        computed, truth = found["DISPARITY"], found["TRUE_DISPARITY"]
        panels["Difference"] = lambda axes: plots.disparity_difference(axes, computed, truth)
    verdict = "without a truth to compare with"
    if "DISPARITY_ERROR" in found:
        error = plots.read_json(found["DISPARITY_ERROR"])
        verdict = (
            f"{error['bad_percent']:.2f} % of matched pixels off by more than 2 px;"
            f" median error {error['median_error_px']:.2f} px;"
            f" {error['density_percent']:.1f} % of known pixels matched"
        )
    return draw_page(obs_id, verdict, panels, png)


def _panel(product: str, path: Path) -> Panel:
    return lambda axes: _ignore(LOOKS[product].draw(axes, path))


def _with_blocks(axes: Axes, found: Mapping[str, Path]) -> None:
    plots.light_curve(axes, found["LIGHT_CURVE"])
    plots.block_lines(axes, plots.read_json(found["BURSTS"]))


def _ignore(_: str) -> None:
    """Leave out the source: the heading of the page says it."""


def _gather(context: Context, product: str) -> dict[str, Path]:
    """All the inputs that are available."""
    spec = pipeline.products[product]
    found = {name: context.input(name) for name in spec.inputs}
    optional = {name: context.optional_input(name) for name in spec.optional}
    return found | {name: path for name, path in optional.items() if path is not None}


@pipeline.product(
    "TIMING_REPORT",
    inputs=["LIGHT_CURVE", "POWER_SPECTRUM"],
    optional=["DYN_POWER_SPECTRUM", "QPO_SEARCH", "BURSTS", "ENERGY_SPECTRUM", "HARDNESS"],
    timeout_s=120,
)
def timing_report(context: Context) -> Output:
    """One page on an X-ray observation, as PNG."""
    found = _gather(context, "TIMING_REPORT")
    png = draw_timing_report(context.obs_id, found, context.output_path("timing_report.png"))
    context.log.info("with %s", ", ".join(found))
    return Output(png, media_type="image/png", metadata={"shows": list(found)})


@pipeline.product(
    "STEREO_REPORT",
    inputs=["STEREO_LEFT", "DISPARITY"],
    optional=["DISPARITY_ERROR", "TRUE_DISPARITY", "POINTS", "HEIGHTS"],
    timeout_s=120,
)
def stereo_report(context: Context) -> Output:
    """One page on a stereo pair, as PNG."""
    found = _gather(context, "STEREO_REPORT")
    png = draw_stereo_report(context.obs_id, found, context.output_path("stereo_report.png"))
    context.log.info("with %s", ", ".join(found))
    return Output(png, media_type="image/png", metadata={"shows": list(found)})
