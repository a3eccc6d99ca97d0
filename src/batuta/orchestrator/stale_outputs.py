"""Files that an earlier run made for an output, and that must not pass for those of this run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from batuta.datasets.durable_file import remove
from batuta.datasets.formats import ZARR

SUFFIX: Final = ".manifest.json"


def manifest_path(file: Path) -> Path:
    """Return the path of the manifest of an output."""
    return file.with_name(file.name + SUFFIX)


def stale_files(file: Path, *, by_pair: bool) -> list[str]:
    """List the files that an earlier run left of an output, according to its manifest.

    Parameters
    ----------
    file : Path
        The output.
    by_pair : bool
        Whether it may consist of one file per stereo pair.

    Returns
    -------
    list of str
        Names in the folder of `file`: its own, and those of its pairs. A file that has a
        manifest of its own is not listed: it is another output. Empty without a manifest.
    """
    if not manifest_path(file).is_file():
        return []
    names = _listed_names(file, by_pair=by_pair)
    return sorted(name for name in names if _belongs_to(name, file, by_pair=by_pair))


def remove_stale(folder: Path, names: Iterable[str]) -> list[str]:
    """Remove files in a folder.

    Returns
    -------
    list of str
        Those that were not removed: a folder that is not a Zarr group may hold what others wrote.
    """
    left: list[str] = []
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink() and path.suffix not in ZARR.suffixes:
            left.append(name)
        else:
            remove(path)
    return left


def _listed_names(file: Path, *, by_pair: bool) -> set[str]:
    try:
        content: Any = json.loads(manifest_path(file).read_text(encoding="utf-8"))
    except ValueError:  # damaged, or written by others: only the name of its file is known
        content = {}
    content = content if isinstance(content, dict) else {}
    lists = (content.get("files"), content.get("earlier_files"))
    listed = {
        name
        for names in lists
        if isinstance(names, list)
        for name in names
        if isinstance(name, str)
    }
    # A raster is written in place: after a kill it exists, but is not listed yet.
    in_place = not by_pair and content.get("complete") is not True
    return listed | ({file.name} if in_place else set())


def _belongs_to(name: str, file: Path, *, by_pair: bool) -> bool:
    path = file if name == file.name else _pair_file(name, file, by_pair=by_pair)
    return path is not None and (path.exists() or path.is_symlink())


def _pair_file(name: str, file: Path, *, by_pair: bool) -> Path | None:
    # The manifest may come from anywhere: a name with a folder in it must not be removed.
    is_plain_name = by_pair and Path(name).name == name
    if not (is_plain_name and name.startswith(f"{file.stem}_") and name.endswith(file.suffix)):
        return None
    path = file.with_name(name)
    return None if manifest_path(path).exists() else path
