"""dask-jobqueue, as we use it: its import leaves Ctrl-C alone, and qsub runs where its logs go."""

import contextlib
import shlex
import signal
from collections.abc import Iterator
from typing import Any

__all__ = ["JobQueueCluster", "LoggedPbsJob", "PBSCluster", "SLURMCluster"]


@contextlib.contextmanager
def _handlers_left_alone() -> Iterator[None]:
    """Have nobody change what signals do.

    One of the modules of dask-jobqueue has Ctrl-C end the program without a word, and with
    success, as soon as it is imported; in a thread, which may not do so, it cannot be imported.
    """
    module: Any = signal
    install = module.signal
    module.signal = _handler_there
    try:
        yield
    finally:
        module.signal = install


def _handler_there(number: int, _: Any) -> Any:
    return signal.getsignal(number)


with _handlers_left_alone():
    from dask_jobqueue.core import JobQueueCluster
    from dask_jobqueue.pbs import PBSCluster, PBSJob
    from dask_jobqueue.slurm import SLURMCluster


class LoggedPbsJob(PBSJob):
    """A job that is submitted from the folder of its logs.

    The qsub in front of Slurm pays no heed to the directives that name the folder.
    """

    async def _submit_job(self, script_filename: str) -> str:
        command = [*shlex.split(self.submit_command), script_filename]
        call: Any = self._call
        said: str = await call(command, cwd=self.log_directory)
        return said
