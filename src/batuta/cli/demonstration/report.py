"""The report of the demonstration: a table, pictures, and the error of the disparity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.markup import escape

from batuta.cli.output import console, print_table
from batuta.formatting import format_bytes, format_count, format_seconds
from batuta.sdb import StoredProduct

ERROR_PRODUCT: Final = "DISPARITY_ERROR"


@dataclass(frozen=True)
class MadeProduct:
    """A product made, the duration of its processing in seconds, and its file."""

    stored: StoredProduct
    duration_s: float | None
    file: Path


def print_report(made: Sequence[MadeProduct], output: Path, retries: int) -> None:
    """Print the table of products, and write their pictures into the folder `output`."""
    console.print()
    retried = "1 retry" if retries == 1 else f"{retries:,} retries"
    print_table(
        f"{format_count(len(made), 'product')} made, {retried}",
        ["observation", "product", "v", "pipeline", "time", "size"],
        [_row(one) for one in made],
    )
    pictures = draw_all(made, output)
    count = format_count(len(pictures), "quicklook picture")
    console.print(f"{count} in {output}", highlight=False)
    for one in made:
        if one.stored.product == ERROR_PRODUCT:
            console.print(_error_line(one.stored.obs_id, one.stored.metadata), highlight=False)


def print_situations(happened: Mapping[str, str | None]) -> bool:
    """Print what happened; return False if something did not, which is named.

    Parameters
    ----------
    happened : mapping of str to str or None
        Each situation, and what the record tells of it.
    """
    console.print("What happened, as the conductor has recorded it:")
    for situation, told in happened.items():
        line = "[bold red]did not happen[/]" if told is None else escape(told)
        console.print(f"  {escape(situation)}: {line}", highlight=False)
    return None not in happened.values()


def draw_all(made: Sequence[MadeProduct], output: Path) -> list[Path]:
    """Draw a quicklook of each product into the folder `output`."""
    from examples.demo.quicklook import draw  # noqa: PLC0415  found at run time

    output.mkdir(parents=True, exist_ok=True)
    pictures = []
    for one in made:
        picture = output / f"{one.stored.obs_id}-{one.stored.product}.png"
        draw(one.stored.product, one.file, picture, one.stored.obs_id)
        pictures.append(picture)
    return pictures


def _row(one: MadeProduct) -> list[Any]:
    stored = one.stored
    duration = "" if one.duration_s is None else format_seconds(one.duration_s)
    size = format_bytes(stored.size)
    # All five providers are named ..._pipeline; without it the table fits in 80 columns.
    provider = (stored.provider or "").removesuffix("_pipeline")
    return [stored.obs_id, stored.product, stored.version, provider, duration, size]


def _error_line(obs_id: str, error: dict[str, Any]) -> str:
    return (
        f"Disparity of {obs_id} against the ground truth: {error['bad_percent']:.2f} % of the "
        f"valid pixels off by more than 2 px, median error {error['median_error_px']:.2f} px, "
        f"{error['density_percent']:.1f} % of the pixels matched."
    )
