"""Imported by the forkserver alone, first: it looks for modules where the main process does.

Python tells its forkserver where that is, which takes no notice of it before 3.14. The modules of
tasks that lie next to a script would then be imported by each worker anew.
"""

import json
import os
import sys
from typing import Any

from batuta.cluster.preload import FORKSERVER_VARIABLE

PREPARATION: dict[str, Any] = json.loads(os.environ.pop(FORKSERVER_VARIABLE, "{}"))
"""What Python tells a new process of the main one: where modules are, and which script runs."""

sys.path[:] = PREPARATION.get("sys_path", sys.path)
