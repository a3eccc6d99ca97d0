"""Files that stay open to be read tile by tile."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import rasterio

from batuta.datasets import Window
from batuta.tiling.opening import open_source
from batuta.tiling.sources import close_files
from tests.tiling.rasters import heights, write_raster


def test_a_file_is_opened_once_by_each_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(write_raster(tmp_path / "dem.tif", heights(40, 30)), "input")
    opened: list[Any] = []
    open_file = rasterio.open

    def counted(path: str) -> Any:
        opened.append(open_file(path))
        return opened[-1]

    monkeypatch.setattr(rasterio, "open", counted)
    both = Barrier(2)

    def read(first_row: int) -> Any:
        both.wait()
        pixels = [source.read(Window(first_row, first_row + 10, 0, 30)) for _ in range(3)]
        close_files()
        return pixels[-1].tolist()

    with ThreadPoolExecutor(2) as threads:
        found = [*threads.map(read, (0, 20))]
    assert found == [heights(40, 30)[:10].tolist(), heights(40, 30)[20:30].tolist()]
    assert len(opened) == 2
    assert all(each.closed for each in opened)
