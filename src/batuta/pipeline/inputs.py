"""The inputs of a processing, fetched from the sdb."""

import logging
import mimetypes
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from batuta.pipeline.messages import ProductVersion
from batuta.service.client import ServiceError

if TYPE_CHECKING:
    from batuta.sdb.client import SdbClient


class InputFetcher:
    """Fetches each input once, and records its version.

    Parameters
    ----------
    sdb : SdbClient
        The product database.
    obs_id : str
        The observation they belong to.
    folder : Path
        Where their files are written.
    log : logging.Logger
        Where fetches are logged.
    given : mapping, optional
        The versions to fetch, by name: these and no newer ones. None: not to be used; 0, and what
        is not named: the newest.
    """

    def __init__(
        self,
        sdb: "SdbClient",
        obs_id: str,
        folder: Path,
        log: logging.Logger,
        given: Mapping[str, int | None] = MappingProxyType({}),
    ) -> None:
        self._sdb = sdb
        self._obs_id = obs_id
        self._folder = folder
        self._log = log
        self._given = given
        self._fetched: dict[str, Path | None] = {}
        self.used_versions: list[ProductVersion] = []

    def fetch(self, name: str) -> Path | None:
        """Return an input as a file, in the version given; None if there is none.

        Raises
        ------
        ServiceError
            If the sdb does not give that version: it was withdrawn, or was never there.
        """
        if name not in self._fetched:
            self._fetched[name] = self._fetch(name)
        return self._fetched[name]

    def _fetch(self, name: str) -> Path | None:
        version = self._given.get(name, 0)
        if version is None:
            self._log.info("input %s: none, as this is to be made without it", name)
            return None
        self._folder.mkdir(exist_ok=True)
        # Numbered, as names come from outside; with the extension, as readers go by it.
        path = self._folder / f"input-{len(self._fetched) + 1}"
        try:
            found = self._sdb.export(name, self._obs_id, version or None, to=path)
        except ServiceError as exc:
            if exc.status == HTTPStatus.NOT_FOUND and not version:
                return None
            raise
        self.used_versions.append(ProductVersion(product=name, version=found.version))
        self._log.info("input %s: version %d, %d bytes", name, found.version, found.size)
        return path.rename(path.with_name(path.name + extension(found.filename, found.media_type)))


_MEDIA_TYPES: Final = {
    ".ecsv": "text/ecsv",
    ".fit": "application/fits",
    ".fits": "application/fits",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".parquet": "application/vnd.apache.parquet",
}

_EXTENSIONS: Final = {kind: suffix for suffix, kind in _MEDIA_TYPES.items() if suffix != ".hdf5"}

_SAFE_EXTENSION: Final = re.compile(r"(\.[A-Za-z][A-Za-z0-9]{0,9}){1,2}$")


def extension(filename: str | None, media_type: str) -> str:
    """Return the extension that a file was imported with, else its media type's; may be empty."""
    given = _SAFE_EXTENSION.search(filename or "")
    if given:
        return given.group()
    return _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ""


def media_type_of(path: Path) -> str:
    """Return the media type for a file's extension."""
    known = _MEDIA_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
    return known or "application/octet-stream"
