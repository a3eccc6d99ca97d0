"""The header of a journal: what a dataset is made from, and what changed since an earlier run."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from batuta.orchestrator.registry import RegisteredDataset
from batuta.orchestrator.resume.fingerprints import Fingerprinter
from batuta.orchestrator.saver import OutputSpec

FORMAT: Final = 2
"""Version of the journal's format. Journals of another version are not read."""


def build_header(entry: RegisteredDataset, fingerprinter: Fingerprinter) -> dict[str, Any]:
    """Describe what a dataset is made from: the first line of its journal."""
    fingerprint = fingerprinter.of_dataset(entry.dataset)
    final = entry.dataset.final_function
    outputs = [] if entry.saver is None else [_output_of(each.spec) for each in entry.saver.outputs]
    return {
        "format": FORMAT,
        "name": entry.name,
        "grid": fingerprint.grid,
        "outputs": outputs,
        "registered": {
            "replaced": entry.replaced,
            "final_function": None if final is None else fingerprinter.of_value(final),
        },
        "functions": fingerprint.functions,
        "tiles": fingerprint.tiles,
    }


def _output_of(spec: OutputSpec) -> dict[str, str]:
    return {
        "file_name": os.fspath(Path(spec.file_name).absolute()),
        "tag": spec.tag,
        "dtype": str(spec.dtype),
        "nodata": repr(spec.nodata),
        "optional_data": str(spec.optional_data),
        "save_points_cloud_by_pair": str(spec.save_points_cloud_by_pair),
        "options": repr(spec.options),
    }


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Describe what changed since an earlier run; None if nothing did."""
    if not old:
        return "its journal cannot be read"
    if old.get("format") != new["format"]:
        return (
            f"its journal has format {old.get('format')!r}, and this version of Batuta reads"
            f" {new['format']}"
        )
    if not new.keys() <= old.keys():
        return "its journal cannot be read"
    changed = [key for key in new if old[key] != new[key]]
    return _DIFFERENCES[changed[0]](old, new) if changed else None


def _outputs_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if len(old["outputs"]) != len(new["outputs"]):
        return "the number of its files changed"
    pairs = zip(old["outputs"], new["outputs"], strict=True)
    name, key = next(
        (Path(after["file_name"]).name, key)
        for before, after in pairs
        for key in after
        if before.get(key) != after[key]
    )
    return f"{key} of {name} changed"


def _functions_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, after = old["functions"], new["functions"]
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return f"the code of {', '.join(names)} changed"


_DIFFERENCES: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]]] = {
    "name": lambda old, _: f"it was named {old['name']}",
    "grid": lambda *_: "the grid changed",
    "outputs": _outputs_changed,
    "registered": lambda *_: "its final function changed, or whether its tiles are replaced",
    "functions": _functions_changed,
    "tiles": lambda *_: "an argument of its tasks changed",
}
