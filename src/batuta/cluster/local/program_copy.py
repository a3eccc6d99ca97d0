"""``mp_mode: fork``: workers are forked from a copy of the program, made with the cluster.

A worker that is forked from the program itself, by the thread that starts workers, has the locks
that the other threads of the program held at that moment, and waits for them for ever: those of the
modules that the program was importing, to begin with. The copy is made by the thread that makes the
cluster, before the cluster has threads, and has no other one.
"""

from collections.abc import Iterable
from typing import Any, Final

from batuta.cluster.family_process import FamilyProcess
from batuta.cluster.local.zygote import copy_as_forkserver
from batuta.fork_server import ForkServer, ForkServerProcess
from batuta.socket_folder import prepare_socket_folder

_END_S: Final = 5.0
"""How long a copy may take to end once its workers have."""


class ProgramCopy(ForkServer):
    """A copy of this process as it is now, from which the workers of one cluster are forked.

    Parameters
    ----------
    modules : iterable of str
        What it imports, if this process has not.

    Raises
    ------
    ConfigurationError
        If no folder is there for its socket.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        super().__init__()
        prepare_socket_folder()
        self._pid = copy_as_forkserver(modules, self.server)

    def is_running(self) -> bool:
        """Return whether the copy forks; a new interpreter does where somebody has killed it."""
        self.server.ensure_running()
        return bool(self.server._forkserver_pid == self._pid)

    def close(self) -> None:
        """Let it end, now that its workers have."""
        self.retire().join(_END_S)


class CopyFamilyProcess(FamilyProcess, ForkServerProcess):
    """Forked by a copy of the program."""

    server: ProgramCopy

    def preparation(self) -> dict[str, Any]:
        """Return what `multiprocessing` prepares in it: little, as it has what the program had."""
        return {"name": self.name} if self.server.is_running() else super().preparation()


ProgramCopy.process_class = CopyFamilyProcess
