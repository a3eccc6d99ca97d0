"""Where the files of a profile are, in the output folder of its run."""

from typing import Final

SUMMARY_TEXT: Final = "profiling_summary.txt"
"""Written at the end of every run, profiled or not."""
SUMMARY_HTML: Final = "profiling_summary.html"
FOLDER: Final = "profile"
"""Where the rest is."""

RUN_FILE: Final = "run.json"
"""A `RunInfo`: written when the run starts, and again when it ends."""
TASKS: Final = "tasks"
"""``tasks-000001.parquet`` and so on while it runs; ``tasks.parquet`` once it has ended."""
PLACES: Final = "places"
"""The same: which task makes which tile."""
LOOPS: Final = "loops"
"""The same: each repetition of a task under `loop_testing`."""
LEAKS: Final = "leaks"
"""The same: the lines that allocate what is never freed, where memray looks at repetitions."""
CPROFILE_FOLDER: Final = "cprofile"
"""``*.prof``, as `pstats` reads them."""
MEMRAY_FOLDER: Final = "memray"
"""``*.bin``, as memray reads them."""

CPROFILE_WHOLE: Final = "cprofile.prof"
"""All of ``cprofile/*.prof`` in one, as `pstats` and its viewers read it."""
CPROFILE_TEXT: Final = "cprofile.txt"
MEMRAY_TEXT: Final = "memray.txt"
"""What each profiler found, to be read."""

ARROW_POOL: Final = "ARROW_DEFAULT_MEMORY_POOL"
"""A variable of the environment. Arrow's own allocator takes a gigabyte of addresses when it
begins, which memray counts as memory: with "system" here it does not."""
OURS: Final = (
    RUN_FILE,
    "tasks*",
    "places*",
    "loops*",
    "leaks*",
    "cprofile*",
    "memray*",
    ".*.draft",
)
"""What a new profile replaces in the folder of an earlier one."""
