"""What profilers could not see, told in a text beside their files."""

import os
from collections import Counter
from pathlib import Path
from typing import Final

from batuta.profiling.capture.contract import ProfileSink

_ENDING: Final = ".txt"


class Unseen:
    """Counts what a profiler could not see in one process.

    Parameters
    ----------
    folder : str
        Of the profiler: `layout.CPROFILE_FOLDER` or `layout.MEMRAY_FOLDER`.
    stem : str
        Of the files of this process.
    deliver : ProfileSink
        Takes the text.
    """

    def __init__(self, folder: str, stem: str, deliver: ProfileSink) -> None:
        self._folder = folder
        self._name = f"{stem}{_ENDING}"
        self._deliver = deliver
        self._counts: Counter[str] = Counter()
        self._told = 0
        self._pid = os.getpid()

    def add(self, what: str) -> None:
        """Count what was not seen once more."""
        self._counts[what] += 1

    def tell(self) -> None:
        """Deliver the text, if there is more to tell than the last time."""
        count = self._counts.total()
        if count == self._told or os.getpid() != self._pid:  # the task forked, its child is here
            return
        self._told = count
        path = self._deliver.draft(self._folder, self._name)
        lines = [f"{what} ({times} times)\n" for what, times in self._counts.items()]
        path.write_text("".join(lines), encoding="utf-8")
        self._deliver.file(self._folder, self._name, path)


def read_unseen(folder: Path) -> list[str]:
    """Sum up what the profilers of workers could not see, by the texts in their folder."""
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob(f"*{_ENDING}")):
        counts.update(path.read_text(encoding="utf-8").splitlines())
    return [what if count == 1 else f"{what}, in {count} workers" for what, count in counts.items()]
