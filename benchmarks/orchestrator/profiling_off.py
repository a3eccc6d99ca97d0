"""Runs in which nothing is measured: what profiling is compared with.

There is no option for it: Batuta's own modules are given things that measure nothing. Workers of
this machine import this module, for the tasks are in one that does; the environment tells them.
"""

import os
from typing import Any, Final
from unittest.mock import patch

from batuta.cluster import worker

_VARIABLE: Final = "BENCH_NOT_MEASURED"


class _NoProbe:
    """Stands for a `Probe`."""

    def __init__(self, **_: object) -> None:
        pass


class _NoMeasures:
    """Stands for what measures the steps of a job."""

    def __init__(self, _: object) -> None:
        self.name = ""

    def begin(self, name: str) -> None:
        """Take which step begins, as errors name it."""
        self.name = name

    def end(self) -> None:
        """Measure nothing."""

    def all(self) -> tuple[()]:
        """Give nothing."""
        return ()


def measure_nothing(mode: str) -> None:
    """Have nothing measured by this process, and by the workers that it starts from now on."""
    from batuta.orchestrator.run_profile import RunProfile  # noqa: PLC0415 - not for workers

    patch.object(RunProfile, "attach", lambda *_: None).start()
    os.environ[_VARIABLE] = "yes"
    if mode != "multiprocessing":
        _tell_dask()


def _tell_dask() -> None:
    """Have workers of dask told to measure nothing."""
    from batuta.cluster.dask import cluster  # noqa: PLC0415 - where dask is used
    from batuta.cluster.dask.telemetry.worker_plugin import WorkerOptions  # noqa: PLC0415

    def options(**told: Any) -> WorkerOptions:
        return WorkerOptions(**told | {"measure_tasks": False})

    patch.object(cluster, "WorkerOptions", options).start()


if os.environ.get(_VARIABLE):
    patch.multiple(worker, Probe=_NoProbe, _Measures=_NoMeasures).start()
