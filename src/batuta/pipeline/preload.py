"""Imported once by the fork server, so that the processes it forks have their pipeline loaded.

The fork server accepts module names only: what to load is passed in the environment.
"""

import importlib
import json
import os
import sys
import traceback
from multiprocessing import spawn
from typing import Final

from batuta.fork_server import end_orphans_quietly

PRELOAD_VARIABLE: Final = "BATUTA_PIPELINE_PRELOAD"


def _load() -> None:
    wanted = json.loads(os.environ.get(PRELOAD_VARIABLE, "{}"))
    if not wanted:
        return
    sys.path[:] = wanted["sys_path"]
    # Otherwise each process would run the service's script again to unpickle its functions.
    if wanted["main_name"]:
        spawn.prepare({"init_main_from_name": wanted["main_name"]})
    elif wanted["main_path"]:
        spawn.import_main_path(wanted["main_path"])
    if wanted["reference"]:
        from batuta.pipeline.loaded import load_here  # noqa: PLC0415  only if it is needed

        load_here(wanted["reference"])
    elif wanted["module"]:
        importlib.import_module(wanted["module"])


end_orphans_quietly()
try:
    # What every warden and every worker imports.
    import batuta.pipeline.warden
    import batuta.pipeline.worker  # noqa: F401
    from batuta.sdb.client import SdbClient

    # Creating a client triggers the lazy imports of httpx, once for all processes.
    SdbClient("http://127.0.0.1").close()
    _load()
except Exception:  # noqa: BLE001  each process tries again, and there it is reported
    traceback.print_exc()
