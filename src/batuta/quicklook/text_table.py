"""The quicklook of a table in text: CSV, TSV, or ECSV with its units."""

import io
import re
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from PIL import Image

from batuta.quicklook.limits import MAX_COLUMNS, MAX_ROWS, MAX_TEXT_BYTES, CannotDrawError
from batuta.quicklook.series import draw_table

_DELIMITERS: Final = (",", "\t", ";", "|", " ")
_ECSV_COLUMN: Final = re.compile(r"#\s*-\s*\{(?P<keys>.*)\}\s*")
_ECSV_KEY: Final = re.compile(r"\b(name|unit):\s*('[^']*'|\"[^\"]*\"|[^,}]+)")
_MISSING: Final = ["", "NaN", "nan", "NA", "N/A", "null", "None", "--", "INDEF"]


def draw(path: Path) -> Image.Image:
    """Return a chart of its first columns of numbers."""
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES)
        if file.read(1):  # what is left of the last row is no row
            content = content[: content.rfind(b"\n") + 1]
    comments, rows = _split(content.decode("utf-8", "replace").removeprefix("\ufeff"))
    table = _parse(rows)
    if table.num_columns > MAX_COLUMNS:
        raise CannotDrawError(f"it has {table.num_columns} columns (drawn: up to {MAX_COLUMNS})")
    table = table.slice(0, MAX_ROWS)
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            columns[name] = column.to_numpy()
        elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            columns[name] = column.to_numpy().astype("datetime64[ns]")
    return draw_table(columns, _units(comments))


def _split(text: str) -> tuple[list[str], str]:
    """Return the lines of comments before a table, and the table."""
    comments: list[str] = []
    start = 0
    while start < len(text) and text[start] in "#\r\n":
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        comments.append(text[start:end])
        start = end + 1
    return comments, text[start:]


def _parse(rows: str) -> pa.Table:
    head, _, rest = rows.partition("\n")
    if not rest.strip():
        raise CannotDrawError("it has no rows below its head")
    delimiter = max(_DELIMITERS, key=head.count) if any(map(head.count, _DELIMITERS)) else ","
    has_names = not all(_is_number(each) for each in head.split(delimiter))
    return pa_csv.read_csv(
        io.BytesIO(rows.encode()),
        read_options=pa_csv.ReadOptions(use_threads=False, autogenerate_column_names=not has_names),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, invalid_row_handler=lambda _row: "skip"
        ),
        convert_options=pa_csv.ConvertOptions(null_values=_MISSING, strings_can_be_null=True),
    )


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _units(comments: list[str]) -> dict[str, str]:
    """Return the units that the header of an ECSV file tells, by column."""
    units = {}
    for line in comments:
        column = _ECSV_COLUMN.fullmatch(line.strip())
        keys = dict(_ECSV_KEY.findall(column["keys"])) if column else {}
        if "name" in keys and "unit" in keys:
            units[keys["name"].strip().strip("'\"")] = keys["unit"].strip().strip("'\"")
    return units
