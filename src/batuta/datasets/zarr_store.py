"""A Zarr store in a folder, durable against a killed process and a power loss."""

import asyncio
import os
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from batuta.datasets.durable_file import sync_file
from batuta.durable_folders import sync_folder


class DurableStore(LocalStore):
    """A folder store whose files are written atomically, and tracked until they are synced.

    A chunk may hold several tiles: a chunk that replaces another is synced before it is renamed
    over it, so that tiles made durable by an earlier `sync` are never at risk.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._unsynced: set[Path] = set()

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file atomically."""
        await asyncio.to_thread(self._write_whole, self.root / key, value.to_bytes())

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a file atomically."""
        self._write_whole(self.root / key, value.to_bytes())

    def _write_whole(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft")
        with draft.open("wb") as stream:
            stream.write(content)
            if path.exists():
                stream.flush()
                os.fsync(stream.fileno())
        draft.replace(path)
        self._unsynced.add(path)

    def sync(self) -> None:
        """Flush everything written so far to the disk."""
        for path in sorted(self._unsynced):
            if path.exists():
                sync_file(path)
        for folder in sorted({each.parent for each in self._unsynced}):
            sync_folder(folder)
        self._unsynced.clear()
