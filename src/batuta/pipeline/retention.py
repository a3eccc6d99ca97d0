"""Retains the logs of ended processings, and what their orchestrators leave to be looked into.

The profile of an orchestrator and the logs of its workers are in its output folder, which goes with
the work folder of the run. Whoever removes the work folder moves them out first: the warden of the
run; the service, if the warden was killed; the next service, if both were. Each completes what
another left half-done, and a profile becomes visible only once it is complete.
"""

import fcntl
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batuta.profiling.capture.layout import (
    LOGS_FOLDER,
    PROFILE_FOLDER,
    SUMMARY_HTML,
    SUMMARY_TEXT,
)
from batuta.service.log_files import MB, cut_log

ORCHESTRATOR_LINKS: Final = ".orchestrators"
"""In a work folder: for each orchestrator that was opened, a link to its output folder."""

MAX_NAME_LENGTH: Final = 64
MAX_WORKER_LOG_BYTES: Final = 16 * MB
"""Of the log of each worker, when it is retained."""


@dataclass(frozen=True)
class RetentionFolder:
    """The folder in which a service retains logs and profiles.

    Parameters
    ----------
    folder : Path
        The service's folder.
    """

    folder: Path

    def log(self, key: str) -> Path:
        """Return the path of a processing's log."""
        return self.folder / "logs" / f"{key}.log"

    def profiles(self, run: str) -> Path:
        """Return the folder of a run's profiles, one for each orchestrator; absent without any."""
        key = run.rpartition("-")[0]
        return self.folder / "profiles" / key / run

    def work_dir(self, run: str) -> Path:
        """Return the work folder of a run; absent once it has ended."""
        return self.folder / "work" / run

    def tiles(self, key: str) -> Path:
        """Return the path of what is recorded of a processing's tiles; absent without any."""
        return self.folder / "tiles" / f"{key}.json.gz"

    def worker_logs(self, run: str) -> list[tuple[str, Path]]:
        """Return the logs of a run's workers so far: ``<orchestrator>/<file>``, and where it is."""
        folders = [(each.name, each) for each in _subfolders(self.profiles(run))] or [
            (link.name, link.readlink())
            for link in _subfolders(self.work_dir(run) / ORCHESTRATOR_LINKS)
        ]
        return [
            (f"{name}/{path.name}", path)
            for name, folder in folders
            for path in _worker_logs_in(folder)
        ]

    def has_profiles(self, run: str) -> bool:
        """Return whether an orchestrator of that run has left a profile."""
        return self.profiles(run).is_dir()

    def remove(self, key: str) -> None:
        """Remove the log, the profiles and what is recorded of the tiles of a processing.

        Raises
        ------
        OSError
            If something cannot be removed.
        """
        self.log(key).unlink(missing_ok=True)
        self.tiles(key).unlink(missing_ok=True)
        folder = self.folder / "profiles" / key
        removing = folder.with_name(f".{key}")
        if removing.exists():  # a removal that was interrupted
            shutil.rmtree(removing)
        if folder.exists():
            # Renamed first, so that nobody writes in it meanwhile, as the writer of summaries does.
            folder.rename(removing)
            shutil.rmtree(removing)


def register_orchestrator(work_dir: Path, out_dir: Path) -> None:
    """Record that an orchestrator writes in `out_dir`, so that its profile is found later."""
    links = work_dir / ORCHESTRATOR_LINKS
    links.mkdir(exist_ok=True)
    target = out_dir.resolve()
    for name in _profile_names(work_dir.resolve(), target):
        try:
            (links / name).symlink_to(target)
        except FileExistsError:
            if (links / name).readlink() != target:
                continue
        return


def clean_up_work_dir(work_dir: Path, profiles: Path) -> None:
    """Move the profiles of an ended run to the folder `profiles`, and remove `work_dir`.

    All are retained, or none. Those of earlier runs of the processing are removed. What another
    process has begun is completed; one that does the same now is waited for.

    Raises
    ------
    OSError
        If they cannot be retained; `work_dir` is removed as far as possible all the same.
    """
    with _exclusive(work_dir):
        try:
            if not profiles.exists():
                _retain(work_dir, profiles)
        finally:
            shutil.rmtree(work_dir, ignore_errors=True)


def _retain(work_dir: Path, profiles: Path) -> None:
    part = profiles.with_name(f".{profiles.name}")
    links = work_dir / ORCHESTRATOR_LINKS
    try:
        for link in sorted(links.iterdir()) if links.is_dir() else ():
            _move_profile(link, part / link.name, work_dir)
        if not part.exists():
            return
        # The commit: a rename is atomic, so a process killed before it leaves a hidden draft and
        # the work folder, which the next one completes; one killed after it, the whole profile.
        part.rename(profiles)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for earlier in profiles.parent.iterdir():
        if earlier != profiles:
            shutil.rmtree(earlier, ignore_errors=True)  # `remove` retries


def _move_profile(link: Path, place: Path, work_dir: Path) -> None:
    """Move the profile of one orchestrator to `place`; copy it from outside the work folder."""
    out_dir = link.readlink()
    inside = out_dir.resolve().is_relative_to(work_dir.resolve())
    opened = link.lstat().st_mtime
    for path in sorted(_files(out_dir)):
        if not inside and path.stat().st_mtime < opened:
            continue  # of an earlier run in that folder
        target = place / path.relative_to(out_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        if inside:
            shutil.move(path, target)
        else:
            shutil.copy2(path, target)
        if target.parent.name == LOGS_FOLDER:
            cut_log(target, MAX_WORKER_LOG_BYTES)


def _files(out_dir: Path) -> Iterator[Path]:
    """Files of the profile in an output folder, and workers' logs; no drafts, no symbolic links."""
    found = [out_dir / SUMMARY_TEXT, out_dir / SUMMARY_HTML, *_worker_logs_in(out_dir)]
    folder = out_dir / PROFILE_FOLDER
    if not folder.is_symlink():
        found += [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    return (
        path
        for path in found
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _worker_logs_in(out_dir: Path) -> list[Path]:
    folder = out_dir / LOGS_FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.is_file() and not each.is_symlink())


def _profile_names(work_dir: Path, out_dir: Path) -> Iterator[str]:
    """Yield possible names of an orchestrator's profile: after its folder, then numbered."""
    inside = out_dir.is_relative_to(work_dir)
    path_name = str(out_dir.relative_to(work_dir)) if inside else out_dir.name
    name = re.sub(r"[^A-Za-z0-9_]+", "-", path_name).strip("-")[:MAX_NAME_LENGTH] or "orchestrator"
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, waiting for others that clean it up; it may be absent.

    The lock is on the folder itself and goes with the process, so a killed one blocks nobody. Who
    has waited for it finds the folder empty or gone, and the profiles already there.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
