"""dask-jobqueue as we use it: its import leaves Ctrl-C alone, and qsub runs in the log folder."""

import contextlib
import shlex
import signal
from collections.abc import Iterator
from typing import Any

__all__ = ["JobQueueCluster", "LoggedPbsJob", "PBSCluster", "SLURMCluster"]


@contextlib.contextmanager
def _signal_handlers_unchanged() -> Iterator[None]:
    """Prevent an import from installing signal handlers.

    One of the modules of dask-jobqueue installs a handler as soon as it is imported, by which
    Ctrl-C ends the program without a word and with success. It also makes the import fail in any
    thread but the main one, where handlers cannot be installed.
    """
    module: Any = signal
    install = module.signal
    module.signal = _current_handler
    try:
        yield
    finally:
        module.signal = install


def _current_handler(number: int, _: Any) -> Any:
    return signal.getsignal(number)


with _signal_handlers_unchanged():
    from dask_jobqueue.core import JobQueueCluster
    from dask_jobqueue.pbs import PBSCluster, PBSJob
    from dask_jobqueue.slurm import SLURMCluster


class LoggedPbsJob(PBSJob):
    """A batch job that is submitted from its log folder.

    Some qsub commands, such as that of Slurm, ignore the directives that name the folder and write
    in the current one.
    """

    async def _submit_job(self, script_filename: str) -> str:
        command = [*shlex.split(self.submit_command), script_filename]
        call: Any = self._call
        output: str = await call(command, cwd=self.log_directory)
        return output
