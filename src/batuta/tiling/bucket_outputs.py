"""Outputs in buckets: written on this machine, and uploaded once they are whole."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from batuta.errors import ConfigurationError
from batuta.orchestrator.stale_outputs import manifest_path
from batuta.tiling.bucket_objects import BucketError, in_bucket, put_folder, put_object
from batuta.tiling.outputs import TiledOutput

_MANIFEST_SUFFIX: Final = ".manifest.json"


@dataclass(frozen=True, kw_only=True)
class StagedOutputs:
    """Outputs as they are written on this machine, and the URLs where some of them go.

    Parameters
    ----------
    outputs : tuple of TiledOutput
        All outputs, on this machine.
    urls : mapping of Path to str
        Of the files that are uploaded.
    """

    outputs: tuple[TiledOutput, ...]
    urls: Mapping[Path, str]

    def begin(self) -> None:
        """Write a manifest for each URL, which says that its file is not complete.

        What cannot be written is then known before the first tile.

        Raises
        ------
        ConfigurationError
            In one line, if a manifest cannot be written.
        """
        for path, url in self.urls.items():
            unfinished = {"file": path.name, "complete": False}
            try:
                put_object(url + _MANIFEST_SUFFIX, json.dumps(unfinished).encode())
            except BucketError as exc:
                raise ConfigurationError(f"out: {exc}") from exc

    def upload(self) -> None:
        """Upload the files, and then their manifests.

        Raises
        ------
        BucketError
            If one cannot be written; the bucket then has no part of it.
        """
        for path, url in self.urls.items():
            manifest = manifest_path(path)
            base = url.removesuffix(path.name)
            for name in json.loads(manifest.read_text(encoding="utf-8"))["files"]:
                saved = path.with_name(name)
                (put_folder if saved.is_dir() else put_object)(base + name, saved)
            put_object(url + _MANIFEST_SUFFIX, manifest)


@contextmanager
def staged(
    outputs: Sequence[TiledOutput], out_dir: str | os.PathLike[str] | None, *, resume: bool
) -> Iterator[StagedOutputs]:
    """Place outputs in buckets in local files, which are uploaded at the end.

    If the block raises, nothing is uploaded, and what was saved is kept on this machine.

    Parameters
    ----------
    outputs : sequence of TiledOutput
        All outputs.
    out_dir : path, optional
        The folder of the run, where their files are written. Default: a temporary one.
    resume : bool
        Whether tiles that an interrupted run saved are kept.

    Raises
    ------
    ConfigurationError
        In one line for each output that cannot be written, before anything else.
    BucketError
        If a file cannot be uploaded; it is kept on this machine.
    """
    if not any(in_bucket(each.path) for each in outputs):
        yield StagedOutputs(outputs=tuple(outputs), urls={})
        return
    if resume and out_dir is None:
        raise ConfigurationError(
            "out_dir: a folder expected, to resume outputs that are uploaded to a bucket"
        )
    temporary = None if out_dir is not None else tempfile.mkdtemp(prefix="batuta-")
    folder = Path(out_dir or str(temporary), "uploads")
    placed = [_placed(each, folder / str(rank)) for rank, each in enumerate(outputs)]
    urls = {
        Path(here.path): os.fspath(there.path)
        for here, there in zip(placed, outputs, strict=True)
        if here is not there
    }
    found = StagedOutputs(outputs=tuple(placed), urls=urls)
    try:
        found.begin()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        _remove(temporary)
        raise
    try:
        yield found
        found.upload()
    except Exception as exc:
        exc.add_note(f"what was saved is in {folder}")
        raise
    except BaseException:
        _remove(temporary)
        raise
    shutil.rmtree(folder)
    _remove(temporary)


def _placed(output: TiledOutput, folder: Path) -> TiledOutput:
    if not in_bucket(output.path):
        return output
    folder.mkdir(parents=True, exist_ok=True)
    return replace(output, path=folder / os.fspath(output.path).rpartition("/")[2])


def _remove(folder: str | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
