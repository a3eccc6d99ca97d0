"""Dict tiles gathered in one JSON file."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batuta.datasets.json_codec import plain
from batuta.datasets.part_files import GatheredFile, refuse_other_tile
from batuta.datasets.tiles import ATTRIBUTES, CarsDict


class DocumentFile(GatheredFile):
    """Dict tiles in one JSON file: a list of ``{"row", "col", "data", "attributes"}``.

    Arrays become lists; NaN and infinities, which JSON has not, become null.
    """

    def write_part(self, tile: CarsDict | dict[str, Any], row: int, col: int, part: Path) -> None:
        """Write one dict tile."""
        refuse_other_tile(self.path.name, tile, (CarsDict, dict))
        record: dict[str, Any] = {"row": row, "col": col, "data": plain(dict(tile))}
        if isinstance(tile, CarsDict) and ATTRIBUTES in tile.attrs:
            record["attributes"] = plain(tile.attrs[ATTRIBUTES])
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")

    def gather(self, parts: Sequence[Path], target: Path, selected: str | None = None) -> None:  # noqa: ARG002
        """Write the list, one tile per line."""
        with target.open("wb") as stream:
            stream.write(b"[\n")
            for index, part in enumerate(parts):
                stream.write(b",\n" if index else b"")
                with part.open("rb") as record:
                    shutil.copyfileobj(record, stream)
            stream.write(b"\n]\n")
