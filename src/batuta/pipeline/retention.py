"""What is kept of processings that have ended: their logs, and the profiles of their orchestrators.

The profile of an orchestrator is in its output folder, which goes with the work folder of the
run. Whoever removes the work folder keeps the profiles first: the warden of the run; the service,
where its warden was killed; the next service, where both were. Each takes up what was left
half-way, and a profile is shown only once it is whole.
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

from batuta.profiling.capture.layout import PROFILE_FOLDER, SUMMARY_HTML, SUMMARY_TEXT

ORCHESTRATOR_LINKS: Final = ".orchestrators"
"""In a work folder: for each orchestrator that was opened, a link to its output folder."""

MAX_NAME_LENGTH: Final = 64


@dataclass(frozen=True)
class RetentionFolder:
    """Where a service keeps logs and profiles.

    Parameters
    ----------
    folder : Path
        Of the service.
    """

    folder: Path

    def log(self, key: str) -> Path:
        """Log of a processing."""
        return self.folder / "logs" / f"{key}.log"

    def profiles(self, run: str) -> Path:
        """Profiles of a run: a folder for each of its orchestrators. There only if it has some."""
        key = run.rpartition("-")[0]
        return self.folder / "profiles" / key / run

    def has_profiles(self, run: str) -> bool:
        """Whether an orchestrator of that run has left a profile."""
        return self.profiles(run).is_dir()

    def remove(self, key: str) -> None:
        """Remove the log and the profiles of a processing.

        Raises
        ------
        OSError
            If something cannot be removed.
        """
        self.log(key).unlink(missing_ok=True)
        folder = self.folder / "profiles" / key
        removing = folder.with_name(f".{key}")
        if removing.exists():  # removed in part before
            shutil.rmtree(removing)
        if folder.exists():
            # Nobody finds it to write in it, as whoever sums a profile up does.
            folder.rename(removing)
            shutil.rmtree(removing)


def register_orchestrator(work_dir: Path, out_dir: Path) -> None:
    """Note that an orchestrator writes in `out_dir`, so that its profile is found at the end."""
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
    """Keep the profiles of a run that has ended in the folder `profiles`, and remove `work_dir`.

    All are kept, or none. Those of earlier runs of the processing are removed. What another
    process has begun, or does at the same time, is brought to its end.

    Raises
    ------
    OSError
        If they cannot be kept; `work_dir` is removed as far as can be all the same.
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
        part.rename(profiles)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for earlier in profiles.parent.iterdir():
        if earlier != profiles:
            shutil.rmtree(earlier, ignore_errors=True)  # `remove` sees to the rest


def _move_profile(link: Path, place: Path, work_dir: Path) -> None:
    """Bring the profile of one orchestrator to `place`."""
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


def _files(out_dir: Path) -> Iterator[Path]:
    """Files of the profile in an output folder; no drafts, and nothing that links lead to."""
    found = [out_dir / SUMMARY_TEXT, out_dir / SUMMARY_HTML]
    folder = out_dir / PROFILE_FOLDER
    if not folder.is_symlink():
        found += [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    return (
        path
        for path in found
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    )


def _profile_names(work_dir: Path, out_dir: Path) -> Iterator[str]:
    """What the profile of an orchestrator may be called: after its folder, then numbered."""
    inside = out_dir.is_relative_to(work_dir)
    told = str(out_dir.relative_to(work_dir)) if inside else out_dir.name
    name = re.sub(r"[^A-Za-z0-9_]+", "-", told).strip("-")[:MAX_NAME_LENGTH] or "orchestrator"
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process puts `folder` away; nothing is done where it is not there."""
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
