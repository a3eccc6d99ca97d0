"""A product database in memory: versions of products, their files in a temporary folder."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batuta.errors import BatutaError, ConfigurationError
from batuta.names import name_problem
from batuta.pipeline.inputs import extension
from batuta.stages import Stage, rank_of


@dataclass(frozen=True, kw_only=True)
class MemoryVersion:
    """A version of a product of an observation.

    Attributes
    ----------
    product, obs_id : str
        What it is of.
    version : int
        1 for the first.
    path : Path
        Its file.
    metadata : mapping
        Stored with it.
    media_type, provider, processing_id : str or None
        As the sdb keeps them.
    inputs : mapping of str to int
        The versions that it was made from.
    stage : {"preliminary", "final"}, int or None
        How definitive it is; None where none is told: final.
    """

    product: str
    obs_id: str
    version: int
    path: Path
    metadata: Mapping[str, Any] = field(default_factory=dict)
    media_type: str | None = None
    provider: str | None = None
    processing_id: str | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)
    stage: Stage | None = None


class MemorySdb:
    """Keeps versions of products.

    Parameters
    ----------
    folder : Path
        Where their files are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions: dict[tuple[str, str], list[MemoryVersion]] = {}

    def add(
        self, product: str, obs_id: str, source: Path | str | bytes, **about: Any
    ) -> MemoryVersion:
        """Store a file, or bytes, as the next version of a product.

        Parameters
        ----------
        product, obs_id : str
            What it is of.
        source : Path, str or bytes
            The path of a file, or its bytes.
        **about
            Other attributes of `MemoryVersion`.

        Raises
        ------
        ConfigurationError
            If a name cannot be one.
        """
        names = {"product": product, "obs_id": obs_id}
        problems = [problem for key, name in names.items() if (problem := name_problem(key, name))]
        if problems:
            raise ConfigurationError(problems)
        versions = self._versions.setdefault((product, obs_id), [])
        number = len(versions) + 1
        suffix = "" if isinstance(source, bytes) else extension(Path(source).name, "")
        # Folders, since names may have any separator, and are as long as a file's may be.
        path = self._folder / product / obs_id / f"v{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            shutil.copyfile(source, path)
        stored = MemoryVersion(product=product, obs_id=obs_id, version=number, path=path, **about)
        versions.append(stored)
        return stored

    def get(self, product: str, obs_id: str, version: int | None = None) -> MemoryVersion:
        """Return a version of a product, by default the newest: the last of the highest stage.

        Raises
        ------
        BatutaError
            If there is none.
        """
        versions = self._versions.get((product, obs_id), [])
        newest = max(versions, key=_order).version if versions else 0
        wanted = newest if version is None else version
        if not 1 <= wanted <= len(versions):
            which = "" if version is None else f" version {version}"
            raise BatutaError(f"{product} of {obs_id}{which}: not in the sdb")
        return versions[wanted - 1]

    def find(self, product: str, obs_id: str) -> MemoryVersion | None:
        """Return the newest version of a product; None if there is none."""
        versions = self._versions.get((product, obs_id))
        return max(versions, key=_order) if versions else None

    def __iter__(self) -> Iterator[MemoryVersion]:
        """Iterate over all versions, product by product."""
        for versions in self._versions.values():
            yield from versions


def _order(version: MemoryVersion) -> tuple[int, int]:
    return (rank_of(version.stage), version.version)
