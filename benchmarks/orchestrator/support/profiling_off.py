"""Switches off the measuring of tasks: what profiling is compared with.

There is no option for it, so modules of Batuta are patched. Local workers import this module with
the module of the tasks, and find in the environment whether to patch theirs.
"""

import os
from typing import Any, Final
from unittest.mock import patch

from batuta.cluster.local import worker_main

_VARIABLE: Final = "BENCH_NOT_MEASURED"


def measure_nothing(mode: str) -> None:
    """Measure nothing in this process, nor in workers that it starts from now on."""
    from batuta.orchestrator.run_profile import RunProfile  # noqa: PLC0415 - not for workers

    patch.object(RunProfile, "attach", lambda *_: None).start()
    os.environ[_VARIABLE] = "yes"
    if mode != "multiprocessing":
        _patch_dask()


def _patch_dask() -> None:
    """Set up dask workers to measure nothing: their options are made in this process."""
    from batuta.cluster.dask import cluster  # noqa: PLC0415 - only with dask
    from batuta.cluster.dask.telemetry.worker_plugin import WorkerOptions  # noqa: PLC0415

    def options(**given: Any) -> WorkerOptions:
        return WorkerOptions(**given | {"measure_tasks": False})

    patch.object(cluster, "WorkerOptions", options).start()


if os.environ.get(_VARIABLE):
    # A worker whose instruments have no probe measures nothing.
    patch.object(worker_main, "Probe", lambda **_: None).start()
