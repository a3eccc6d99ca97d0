"""What workers send, written in the output folder: their logs, and their memory over time."""

import csv
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

MEMORY_FILE: Final = "workers_memory.csv"
MEMORY_COLUMNS: Final = (
    "time",
    "worker",
    "host",
    "pid",
    "tasks_running",
    "tasks_waiting",
    "results_held",
    "results_bytes",
    "spilled_bytes",
    "process_bytes",
)
_OPEN_MAX: Final = 64
"""Log files held open: a thousand workers are not a thousand descriptors."""


class WorkerLogs:
    """Writes what each worker logs in a file of its own.

    Parameters
    ----------
    folder : Path
        Made when the first line comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, TextIO] = {}
        self._closed = False

    def write(self, message: Mapping[str, Any]) -> None:
        """Write the lines of one message; when closed, none."""
        if self._closed:
            return
        host = re.sub(r"[^A-Za-z0-9-]", "_", str(message["host"]))
        path = self._folder / f"worker_{host}_{int(message['pid'])}.log"
        stream = self._opened(path)
        stream.write("\n".join(message["lines"]) + "\n")
        stream.flush()

    def _opened(self, path: Path) -> TextIO:
        if path not in self._files:
            if len(self._files) >= _OPEN_MAX:
                self._files.pop(next(iter(self._files))).close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files[path] = path.open("a", encoding="utf-8")
        return self._files[path]

    def close(self) -> None:
        """Close the files."""
        self._closed = True
        for stream in self._files.values():
            stream.close()
        self._files.clear()


class MemoryRecord:
    """Writes what workers hold, once a second each, as rows of one file.

    Parameters
    ----------
    folder : Path
        Where ``workers_memory.csv`` is written; rows are added to one that is there.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / MEMORY_FILE
        self._stream = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._stream, MEMORY_COLUMNS)
        if not self._stream.tell():
            self._rows.writeheader()

    def write(self, message: Mapping[str, Any]) -> None:
        """Write one row, at once: a run that is killed has its record too."""
        if self._stream.closed:
            return
        when = datetime.fromtimestamp(message["time_s"], UTC).isoformat(timespec="milliseconds")
        row = {key: message.get(key) for key in MEMORY_COLUMNS}
        self._rows.writerow(row | {"time": when})
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
