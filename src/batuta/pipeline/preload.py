"""Imported once by the fork server, so that the processes it forks find their pipeline loaded.

The fork server takes names of modules alone: what to load is named in the environment.
"""

import importlib
import json
import os
import sys
import traceback
from multiprocessing import spawn
from typing import Final

VARIABLE: Final = "BATUTA_PIPELINE_PRELOAD"


def _load() -> None:
    wanted = json.loads(os.environ.get(VARIABLE, "{}"))
    if not wanted:
        return
    sys.path[:] = wanted["sys_path"]
    if wanted["main_path"]:
        # Otherwise each process would run the service's script again to find its names.
        spawn.import_main_path(wanted["main_path"])
    if wanted["module"]:
        importlib.import_module(wanted["module"])


try:
    from batuta.sdb.client import SdbClient

    # The first client of a process loads what httpx has put off loading.
    SdbClient("http://127.0.0.1").close()
    _load()
except Exception:  # noqa: BLE001  each process tries again, and there it is reported
    traceback.print_exc()
