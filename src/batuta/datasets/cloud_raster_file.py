"""Cloud-optimised GeoTIFF: blocks that workers have compressed are placed in it as they are.

Until all tiles are in, blocks are appended to a file of records in a hidden folder next to the
output. Pixels that do not fill a block, and those of tiles that no worker encoded, are written to
an uncompressed raster there, and compressed at the end.
"""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from batuta.datasets.array_file import ArrayFile, RasterSpec
from batuta.datasets.block_codec import BlockCodec, EncodedPixels, Position
from batuta.datasets.block_store import BlockStore
from batuta.datasets.cloud_raster_assembly import assemble, complete, empty_pixels
from batuta.datasets.durable_file import Workspace, remove, replace_file, sync_file
from batuta.datasets.errors import TileError
from batuta.datasets.grid import Window
from batuta.datasets.options import SaveOptions
from batuta.datasets.raster_file import RasterFile, create_raster, existing_spec, making_final

_PLAIN: Final = SaveOptions()


class CloudRasterFile(ArrayFile):
    """A cloud-optimised GeoTIFF, made once all tiles are in.

    Parameters
    ----------
    path : path
        The file.
    spec : RasterSpec or None
        The raster; None to resume the existing one.
    options : SaveOptions
        Compression, blocks and tags.
    resume : bool
        Whether to resume the file of an earlier run.

    Raises
    ------
    TileError
        If there is nothing to resume, or it is another raster.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: RasterSpec | None,
        options: SaveOptions,
        *,
        resume: bool = False,
    ) -> None:
        self._final = False
        self._options = options
        self._workspace = Workspace(Path(path), resume=resume)
        folder = self._workspace.folder
        self._template = folder / "template.tif"
        found = existing_spec(self._template, spec) if resume else self._created(spec)
        super().__init__(path, found, options)
        self._codec = BlockCodec.of(found, options)
        self._blocks = BlockStore(folder / "blocks.bin", resume=resume)
        self._loose_path = folder / "pixels.tif"
        self._loose: RasterFile | None = None
        """What is not compressed yet; None as long as there is nothing."""
        if resume and self._loose_path.is_file():
            self._loose = RasterFile(self._loose_path, found, _PLAIN, resume=True)

    def _created(self, spec: RasterSpec | None) -> RasterSpec:
        if spec is None:
            raise TileError(f"{self._template.name}: a tile is needed to create the file")
        try:
            create_raster(self._template, spec, self._options, sparse=True)
        except (TypeError, ValueError):
            self._workspace.remove()  # GDAL refused it: it is no raster of any tile
            raise
        sync_file(self._template)
        return spec

    def _store_encoded(self, data: Any, window: Window) -> bool:
        if not isinstance(data, EncodedPixels) or data.window != window:
            return False
        if not data.codec.is_like(self._codec):
            return False  # of another data type than the first tile: it is converted
        for position, block in data.blocks.items():
            self._blocks.add(position, block)
        for where, pixels in data.rest:
            self._store(pixels, where)
        self._record_loss(data.loss)
        return True

    def _store(self, bands: npt.NDArray[Any], window: Window) -> None:
        loose = self._opened_loose()
        for position in self._codec.positions_in(window):
            if position in self._blocks:
                loose.write(self._decoded(position), self._codec.window_of(position))
                self._blocks.discard(position)
        loose.write(bands, window)

    def _opened_loose(self) -> RasterFile:
        if self._loose is None:
            draft = self._loose_path.with_name("unfinished-pixels.tif")
            remove(draft)
            RasterFile(draft, self.spec, _PLAIN).suspend()
            replace_file(draft, self._loose_path)
            self._loose = RasterFile(self._loose_path, self.spec, _PLAIN, resume=True)
        return self._loose

    def _decoded(self, position: Position) -> npt.NDArray[Any]:
        return self._codec.decode(position, self._blocks.content(position))

    def _load(self, window: Window) -> npt.NDArray[Any]:
        if self._loose is None:
            found = empty_pixels(self._codec, window)
        else:
            found = self._loose.read(window).reshape(self.spec.count, *window.shape)
        for position in self._codec.positions_in(window):
            if position in self._blocks:
                _paste(found, window, self._decoded(position), self._codec.window_of(position))
        return found

    def checkpoint(self) -> None:
        """Make everything written so far durable against a killed process and a power loss."""
        self._blocks.sync()
        if self._loose is not None:
            self._loose.checkpoint()

    def close(self, *, keep: bool = False) -> None:
        """Make the final file of the blocks."""
        if self._final:
            return
        if keep:
            self.checkpoint()
        draft = self._workspace.folder / "unfinished.tif"
        completed = BlockStore(draft.with_name("completed.bin"))
        stores = self._blocks, completed
        try:
            with making_final(draft, 0):
                complete(self._codec, self._blocks, completed, self._loose)
                assemble(self._codec, stores, self._template, draft, self._options)
            replace_file(draft, self.path)
        finally:
            self._close()
            completed.close()
            remove(draft.with_name("completed.bin"))
        self._final = True
        if not keep:
            self._workspace.remove()

    def suspend(self) -> None:
        """Stop, and keep what was written for a later run to resume."""
        if not self._final:
            self.checkpoint()
            self._close()
            self._final = True

    def abandon(self) -> None:
        """Delete what was written; an earlier file at the path is left as it was."""
        self._close()
        self._workspace.remove()
        self._final = True

    def _close(self) -> None:
        self._blocks.close()
        if self._loose is not None:
            self._loose.close()


def _paste(into: npt.NDArray[Any], window: Window, pixels: npt.NDArray[Any], where: Window) -> None:
    """Copy the pixels of `where` into those of `window`, as far as they are in it."""
    top, left = max(window.row_min, where.row_min), max(window.col_min, where.col_min)
    bottom, right = min(window.row_max, where.row_max), min(window.col_max, where.col_max)

    def part_of(array: npt.NDArray[Any], of: Window) -> npt.NDArray[Any]:
        rows = slice(top - of.row_min, bottom - of.row_min)
        return array[:, rows, left - of.col_min : right - of.col_min]

    np.copyto(part_of(into, window), part_of(pixels, where))
