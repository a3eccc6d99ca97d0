"""Dict tiles in one JSON file."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batuta.datasets.assembled_file import AssembledFile, check_tile_type
from batuta.datasets.json_codec import to_json
from batuta.datasets.tiles import ATTRIBUTES, CarsDict


class JsonFile(AssembledFile):
    """Dict tiles in one JSON file: a list of ``{"row", "col", "data", "attributes"}``.

    Arrays become lists; NaN and infinities, which JSON lacks, become null.
    """

    def write_part(self, tile: CarsDict | dict[str, Any], row: int, col: int, part: Path) -> None:
        """Write one dict tile."""
        check_tile_type(tile, (CarsDict, dict))
        record: dict[str, Any] = {"row": row, "col": col, "data": to_json(dict(tile))}
        if isinstance(tile, CarsDict) and ATTRIBUTES in tile.attrs:
            record["attributes"] = to_json(tile.attrs[ATTRIBUTES])
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")

    def assemble(self, parts: Sequence[Path], target: Path, selected: str | None = None) -> None:  # noqa: ARG002
        """Write the list, one tile per line."""
        with target.open("wb") as stream:
            stream.write(b"[\n")
            for index, part in enumerate(parts):
                stream.write(b",\n" if index else b"")
                with part.open("rb") as record:
                    shutil.copyfileobj(record, stream)
            stream.write(b"\n]\n")
