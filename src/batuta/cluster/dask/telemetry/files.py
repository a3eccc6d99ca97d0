"""Files of the output folder that hold the logs of workers, and their memory over time."""

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
_MAX_OPEN_FILES: Final = 64
"""Log files held open: a thousand workers must not take a thousand descriptors."""


class WorkerLogs:
    """Writes what each worker logs to a file of its own.

    Parameters
    ----------
    folder : Path
        Created with the first line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, TextIO] = {}
        self._closed = False

    def write(self, message: Mapping[str, Any]) -> None:
        """Write the lines of one message; do nothing once closed."""
        if self._closed:
            return
        host = re.sub(r"[^A-Za-z0-9-]", "_", str(message["host"]))
        path = self._folder / f"worker_{host}_{int(message['pid'])}.log"
        stream = self._open(path)
        stream.write("\n".join(message["lines"]) + "\n")
        stream.flush()

    def _open(self, path: Path) -> TextIO:
        if path not in self._files:
            if len(self._files) >= _MAX_OPEN_FILES:
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


class MemoryLog:
    """Writes the memory of workers over time as rows of one file.

    Parameters
    ----------
    folder : Path
        Of ``workers_memory.csv``; rows are appended to an existing file.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / MEMORY_FILE
        self._stream = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._stream, MEMORY_COLUMNS)
        if not self._stream.tell():
            self._rows.writeheader()

    def write(self, message: Mapping[str, Any]) -> None:
        """Write one row and flush it, for runs that are killed; do nothing once closed."""
        if self._stream.closed:
            return
        when = datetime.fromtimestamp(message["time_s"], UTC).isoformat(timespec="milliseconds")
        row = {key: message.get(key) for key in MEMORY_COLUMNS}
        self._rows.writerow(row | {"time": when})
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
