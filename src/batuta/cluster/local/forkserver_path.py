"""Imported by the forkserver alone, first: sets the module search path of the main process.

Before 3.14 the forkserver of Python receives that path and ignores it. It would not find the
modules that lie next to the main script, and each worker would import them again.
"""

import json
import os
import sys
from typing import Any

from batuta.cluster.preload import FORKSERVER_VARIABLE
from batuta.fork_server import end_orphans_quietly

PREPARATION: dict[str, Any] = json.loads(os.environ.pop(FORKSERVER_VARIABLE, "{}"))
"""What `multiprocessing` sends to a new process about the main one: its search path and script."""

sys.path[:] = PREPARATION.get("sys_path", sys.path)
end_orphans_quietly()
