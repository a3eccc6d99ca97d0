"""Imported by the forkserver alone, last: it reads the main script once, for all workers.

Every worker needs the main script, whose functions tasks may call. Python means its forkserver to
read it; before 3.13 it does not (gh-126631), and each new worker would.
"""

import gc
import os
from multiprocessing import process, spawn
from pathlib import Path

from batuta.cluster.preload import MAIN_VARIABLE


def _read_main(path: str) -> None:
    current = process.current_process()
    # As Python does itself: a script without its guard must not start processes here.
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.import_main_path(path)
    except Exception:  # noqa: BLE001, S110 - each worker reads it again then, and tells
        pass
    finally:
        del current._inheriting  # type: ignore[attr-defined]


def _given_path() -> str | None:
    path = os.environ.pop(MAIN_VARIABLE, None)
    return path if path is not None and Path(path).is_file() else None


if (_path := _given_path()) is not None:
    _read_main(_path)

# What is there is there for good: workers need not look through it for garbage, which would copy
# every page of it.
gc.collect()
gc.freeze()
