"""Where the files of a profile are, in the output folder of its run, and what they are named."""

import os
import re
from typing import Final

from batuta.profiling.capture.contract import CallLabel
from batuta.profiling.capture.records import WorkerId

SUMMARY_TEXT: Final = "profiling_summary.txt"
"""Written at the end of every run, profiled or not."""
SUMMARY_HTML: Final = "profiling_summary.html"
PROFILE_FOLDER: Final = "profile"
"""Where all other files are."""
LOGS_FOLDER: Final = "workers_log"
"""Beside the profile, but no part of it: the logs of workers."""

RUN_FILE: Final = "run.json"
"""A `RunInfo`: written when the run starts, and again when it ends."""
TASKS: Final = "tasks"
"""``tasks-000001.parquet`` and so on during the run; ``tasks.parquet`` once it has ended."""
PLACES: Final = "places"
"""Likewise: which task makes which tile."""
LOOPS: Final = "loops"
"""Likewise: each repetition of a task under `loop_testing`."""
LEAKS: Final = "leaks"
"""Likewise: the lines that allocate what is never freed, where memray profiles repetitions."""
CPROFILE_FOLDER: Final = "cprofile"
"""``*.prof``, as `pstats` reads them."""
MEMRAY_FOLDER: Final = "memray"
"""``*.bin``, as memray reads them."""

CPROFILE_MERGED: Final = "cprofile.prof"
"""All of ``cprofile/*.prof`` in one, as `pstats` and its viewers read it."""
CPROFILE_TEXT: Final = "cprofile.txt"
MEMRAY_TEXT: Final = "memray.txt"
"""What each profiler found, as text."""

ARROW_POOL: Final = "ARROW_DEFAULT_MEMORY_POOL"
"""Environment variable. Arrow's own allocator reserves a gigabyte of addresses when it starts,
which memray counts as allocated: with the value "system" it does not."""
PROFILE_PATTERNS: Final = (
    RUN_FILE,
    "tasks*",
    "places*",
    "loops*",
    "leaks*",
    "cprofile*",
    "memray*",
    ".*.draft",
)
"""Names of the files of a profile: what a new one replaces in the folder of an earlier one."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME: Final = 80


def file_safe(name: str) -> str:
    """Return a name as part of a file name: letters, digits, dots, dashes and underscores."""
    return _UNSAFE.sub("-", name).strip("-.")[:_MAX_NAME] or "unnamed"


def process_stem(worker: WorkerId) -> str:
    """Return a new stem for the files of a process.

    Process ids are reused: the random part keeps a later process from replacing its files. It
    begins with a letter, since what ends in a number is the stem of a task.
    """
    return f"{file_safe(worker.name)}-r{os.urandom(3).hex()}"


def task_stem(task: CallLabel) -> str:
    """Return the stem of the files of an attempt at a task; `merge` reads the name from it."""
    return f"{task.number:06d}-{file_safe(task.name)}-{task.attempt}"
