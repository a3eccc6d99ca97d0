"""Imported by the forkserver alone, last: it reads the main script once, for all workers.

Every worker needs the main script, whose functions tasks may call. Python means its forkserver to
read it; before 3.13 it does not (gh-126631), and each new worker would.
"""

import gc
from multiprocessing import process, spawn
from typing import Any, Final

from batuta.cluster.local.forkserver_path import PREPARATION

_MAIN: Final = ("init_main_from_path", "init_main_from_name")


def _read_main(preparation: dict[str, Any]) -> None:
    current = process.current_process()
    # As Python does itself: a script without its guard must not start processes here.
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(preparation)  # what each worker would do
    except Exception:  # noqa: BLE001, S110 - each worker reads it again then, and tells
        pass
    finally:
        del current._inheriting  # type: ignore[attr-defined]


_main = {str(key): PREPARATION[key] for key in _MAIN if key in PREPARATION}
if _main:
    _read_main(_main)

# What is there is there for good: workers need not look through it for garbage, which would copy
# every page of it.
gc.collect()
gc.freeze()
