"""What profilers could not cover, written as text beside their files."""

import os
from collections import Counter
from pathlib import Path
from typing import Final

from batuta.profiling.capture.contract import ProfileSink

_SUFFIX: Final = ".txt"


class CoverageGaps:
    """Counts what a profiler could not cover in one process.

    Parameters
    ----------
    folder : str
        Of the profiler: `layout.CPROFILE_FOLDER` or `layout.MEMRAY_FOLDER`.
    stem : str
        Of the files of this process.
    sink : ProfileSink
        Where the text is delivered.
    """

    def __init__(self, folder: str, stem: str, sink: ProfileSink) -> None:
        self._folder = folder
        self._name = f"{stem}{_SUFFIX}"
        self._sink = sink
        self._counts: Counter[str] = Counter()
        self._delivered = 0
        """How many gaps the delivered text counts."""
        self._pid = os.getpid()

    def add(self, gap: str) -> None:
        """Count a gap once more."""
        self._counts[gap] += 1

    def deliver(self) -> None:
        """Deliver the text, if gaps were added since the last time."""
        count = self._counts.total()
        # A child that a task forked leaves the text to its parent: both have the same file name.
        if count == self._delivered or os.getpid() != self._pid:
            return
        self._delivered = count
        draft = self._sink.draft_path(self._folder, self._name)
        lines = [f"{gap} ({times} times)\n" for gap, times in self._counts.items()]
        draft.write_text("".join(lines), encoding="utf-8")
        self._sink.deliver_file(self._folder, self._name, draft)


def read_gaps(folder: Path) -> list[str]:
    """Summarize what the profilers of all workers could not cover, from the texts in a folder."""
    workers: Counter[str] = Counter()
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        workers.update(path.read_text(encoding="utf-8").splitlines())
    return [gap if count == 1 else f"{gap}, in {count} workers" for gap, count in workers.items()]
