"""Imported by the forkserver alone, last: runs the main script once, for all workers.

Every worker needs the main script, whose functions tasks may call. The forkserver of Python is
meant to import it; before 3.13 it does not (gh-126631), and each new worker would.
"""

import gc
from multiprocessing import process, spawn
from typing import Any, Final

from batuta.cluster.local.forkserver_path import PREPARATION

_MAIN: Final = ("init_main_from_path", "init_main_from_name")


def _import_main(preparation: dict[str, Any]) -> None:
    current = process.current_process()
    # As Python does itself: a script without `if __name__ == "__main__":` must fail to start
    # processes here, or each would run the script, and start more.
    current._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(preparation)  # as each worker would
    except (Exception, SystemExit):  # noqa: BLE001, S110 - each worker tries again, and reports it
        pass
    finally:
        del current._inheriting  # type: ignore[attr-defined]


_main = {str(key): PREPARATION[key] for key in _MAIN if key in PREPARATION}
if _main:
    _import_main(_main)

# All that exists now is permanent. Frozen, it is left out of garbage collection in the workers,
# which would write to each object's header, and so copy every page that they share.
gc.collect()
gc.freeze()
