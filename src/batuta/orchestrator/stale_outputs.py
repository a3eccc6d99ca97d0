"""Files that an earlier run made of an output: they must not pass for those of this run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from batuta.datasets.durable_file import remove
from batuta.datasets.formats import ZARR

SUFFIX: Final = ".manifest.json"


def manifest_of(file: Path) -> Path:
    """Return the path of the manifest of an output."""
    return file.with_name(file.name + SUFFIX)


def earlier_files(file: Path, *, by_pair: bool) -> list[str]:
    """List what an earlier run left of an output, as its manifest tells; that may be missing.

    Parameters
    ----------
    file : Path
        The output.
    by_pair : bool
        Whether it may have been made of a file per stereo pair.

    Returns
    -------
    list of str
        Names next to `file`: its own, and those of its pairs. None that has a manifest of its
        own is among them: it is another output.
    """
    if not manifest_of(file).is_file():
        return []
    named = _named(file, by_pair=by_pair)
    return sorted(name for name in named if _is_of(name, file, by_pair=by_pair))


def remove_earlier(folder: Path, names: Iterable[str]) -> list[str]:
    """Remove files in a folder.

    Returns
    -------
    list of str
        Those that are left: folders that are no Zarr group may hold what others wrote.
    """
    left: list[str] = []
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink() and path.suffix not in ZARR.suffixes:
            left.append(name)
        else:
            remove(path)
    return left


def _named(file: Path, *, by_pair: bool) -> set[str]:
    try:
        account: Any = json.loads(manifest_of(file).read_text(encoding="utf-8"))
    except ValueError:  # not ours any more: what it was the manifest of is all that it tells
        account = {}
    content = account if isinstance(account, dict) else {}
    lists = (content.get("files"), content.get("earlier_files"))
    named = {
        name
        for names in lists
        if isinstance(names, list)
        for name in names
        if isinstance(name, str)
    }
    # A raster is written in place: that of a run that was killed is there, and in no list.
    in_place = not by_pair and content.get("complete") is not True
    return named | ({file.name} if in_place else set())


def _is_of(name: str, file: Path, *, by_pair: bool) -> bool:
    path = file if name == file.name else _of_pair(name, file, by_pair=by_pair)
    return path is not None and (path.exists() or path.is_symlink())


def _of_pair(name: str, file: Path, *, by_pair: bool) -> Path | None:
    plain = by_pair and Path(name).name == name
    if not (plain and name.startswith(f"{file.stem}_") and name.endswith(file.suffix)):
        return None
    path = file.with_name(name)
    return None if manifest_of(path).exists() else path
