"""Processes of `multiprocessing` whose families end with them: those of workers."""

import contextlib
import multiprocessing
import os
import secrets
import signal
from multiprocessing import context
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Final

from batuta.process_family import (
    KILL_FAMILY,
    end_family,
    fork_supervised,
    kill_marked,
    mark_family,
)

_OWNER_CHECK_S: Final = 1.0

if TYPE_CHECKING:
    _Process = BaseProcess
else:
    _Process = object


class FamilyProcess(_Process):
    """Runs its target in a child of the process that was started, which supervises it.

    Its `pid` and its end are those of the supervisor, which ends in the same way as the target: see
    `batuta.process_family.fork_supervised`. The target may start processes of its own.
    """

    _mark: str = ""
    family_ends: bool = False
    """Whether its supervisor was told to end the family: then nobody is left to be found."""

    def start(self) -> None:
        """Start the supervisor, and in it the child."""
        self._mark = secrets.token_hex(8)  # before it is pickled for the new process
        super().start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end; of a supervisor that somebody killed, end the family."""
        super().join(timeout)
        # As it ends when the child is killed, too: then there is nobody to be found.
        if self.exitcode == -signal.SIGKILL and not self.family_ends:
            self.family_ends = True
            kill_marked(self._mark)

    def run(self) -> None:
        """Run the target, in a child."""
        owner = multiprocessing.parent_process()
        assert owner is not None  # noqa: S101 - `multiprocessing` has started this one
        parent_pid = os.getppid()

        def wait_for_owner() -> None:
            # Both checks are needed. The sentinel of the owner is a pipe; under fork, siblings
            # inherit its other end and keep it open, but the owner is the parent, and its death
            # changes the parent's pid. Under forkserver, the parent is the forkserver, which lives
            # as long as its children, but the pipe is inherited by nobody else.
            while owner.is_alive() and os.getppid() == parent_pid:
                owner.join(_OWNER_CHECK_S)

        fork_supervised(wait_for_owner, owner.sentinel)
        mark_family(self._mark)
        # Its processes end with it, so that it may have some: pools of `multiprocessing` refuse to
        # start in a daemonic process, which is expected to leave them behind.
        self.daemon = False
        try:
            self.run_target()
        finally:
            end_family()  # here too, for systems where orphans do not come to the supervisor

    def run_target(self) -> None:
        """Run the target, in the child."""
        super().run()

    def kill(self) -> None:
        """Kill the child, and with it its family."""
        if self.ident is not None and self.is_alive():
            self.family_ends = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.ident, KILL_FAMILY)


class ForkFamilyProcess(FamilyProcess, context.ForkProcess):
    """Forked."""


class SpawnFamilyProcess(FamilyProcess, context.SpawnProcess):
    """Spawned."""


class ForkServerFamilyProcess(FamilyProcess, context.ForkServerProcess):
    """Forked by the forkserver."""


FAMILY_PROCESSES: Final[dict[str, type[Any]]] = {
    "fork": ForkFamilyProcess,
    "spawn": SpawnFamilyProcess,
    "forkserver": ForkServerFamilyProcess,
}
"""By start method."""
