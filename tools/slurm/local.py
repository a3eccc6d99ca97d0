"""Starting and stopping a Slurm on this machine, and breaking parts of it on purpose."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.slurm.errors import SlurmError
from tools.slurm.locking import folder_lock
from tools.slurm.processes import FOLDER_VARIABLE, NODE_VARIABLE, Process, kill_all, processes_of
from tools.slurm.queue import SlurmQueue
from tools.slurm.shape import ClusterShape, Layout, slurm_conf

INSTALL: Final = "apt-get install slurm-wlm munge slurm-wlm-torque"
"""Installs all that a local Slurm needs, on Debian and Ubuntu."""

_PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch", "qsub", "qstat", "qdel")
_SYSTEM_PATHS: Final = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_KEY_BYTES: Final = 128
_MAX_SOCKET_PATH: Final = 107
_LONGEST_SOCKET: Final = "/spool/node1/node1_1234.4294967291"
_POLL_S: Final = 0.05
_DAEMON_S: Final = 20.0
_RESTORE_S: Final = 60.0
"""The end of a job that a killed slurmd has not told is asked for again after half a minute."""
_COMPLETING_S: Final = 15.0
_TAIL_LINES: Final = 8


def missing_programs() -> list[str]:
    """Return the programs that are not installed; a local Slurm can start if there are none."""
    return [name for name in _PROGRAMS if shutil.which(name, path=_search_path()) is None]


@dataclass(frozen=True)
class LocalSlurm:
    """A Slurm on this machine, all of it in one folder.

    Parameters
    ----------
    folder : Path
        Created by `start`, private to this user, removed by `stop`.
    shape : ClusterShape
        Its nodes.
    """

    folder: Path
    shape: ClusterShape = field(default_factory=ClusterShape)

    @property
    def layout(self) -> Layout:
        """The paths of its files."""
        return Layout(self.folder)

    @property
    def queue(self) -> SlurmQueue:
        """Its queue, to submit, list, cancel and wait for batch jobs."""
        return SlurmQueue(str(self.layout.configuration))

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that programs need to use it."""
        return self.queue.environment

    @property
    def is_running(self) -> bool:
        """Whether its controller answers."""
        if not self.layout.configuration.exists():
            return False
        answer = subprocess.run(
            ["scontrol", "ping"],
            env=os.environ | self.environment,
            capture_output=True,
            check=False,
        )
        return answer.returncode == 0

    def start(self, timeout_s: float = 30.0) -> None:
        """Start it and wait until its nodes are idle; do nothing if it is running.

        Raises
        ------
        SlurmError
            If programs are missing, or if it does not start; with the last lines of the logs.
        """
        self._check_requirements()
        with folder_lock(self.folder):
            self._check_folder()
            if self.is_running:
                return
            try:
                self._kill_processes()
                self._start_daemons()
                self._wait_for_nodes(timeout_s)
            except BaseException as exc:
                if isinstance(exc, SlurmError):
                    exc.add_note(self.log_tails())
                self._clear()
                raise

    def stop(self) -> None:
        """Kill its daemons and all processes of its batch jobs, and remove the folder.

        Raises
        ------
        SlurmError
            If a process cannot be killed.
        """
        if not self.folder.exists():
            return
        with folder_lock(self.folder):
            self._check_folder()
            self._clear()

    def processes(self) -> list[Process]:
        """Return its processes: daemons, job steps, and those of batch jobs."""
        return processes_of(self.folder, self.layout.configuration)

    def kill_slurmd(self, node: str) -> None:
        """Kill only the slurmd of a node; batch jobs that run there continue."""
        self._kill_daemon(self.layout.node_pid(node))

    def power_off(self, node: str) -> None:
        """Kill everything that runs on a node at once, as a power cut would.

        Slurm notices by itself after about 15 s, or at once by `SlurmQueue.set_down`. Then the
        node's batch jobs fail, or are queued again.
        """
        self.kill_slurmd(node)
        left = kill_all(lambda: [each for each in self.processes() if each.node == node], grace_s=0)
        if left:
            raise SlurmError(f"{node}: processes {left} cannot be killed")

    def start_slurmd(self, node: str) -> None:
        """Start the slurmd of a node, and wait until the controller knows that it is up."""
        self._start_slurmd(node)
        self.queue.wait_until(
            lambda: not self.queue.nodes()[node].endswith(("*", "down", "unknown")),
            f"{node} to be up",
        )

    def stop_controller(self) -> None:
        """Stop slurmctld, as for an upgrade: running batch jobs continue, commands fail."""
        pid = _pid_in(self.layout.controller_pid)
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _DAEMON_S
        while any(process.pid == pid for process in self.processes()):
            if time.monotonic() > deadline:
                raise SlurmError(f"slurmctld: not ended after {_DAEMON_S:g} s\n{self.log_tails()}")
            time.sleep(_POLL_S)

    def start_controller(self) -> None:
        """Start slurmctld, which restores its batch jobs, and wait until it answers."""
        self._run_daemon("slurmctld")
        deadline = time.monotonic() + _DAEMON_S
        while not self.is_running:
            if time.monotonic() > deadline:
                raise SlurmError(f"slurmctld: no answer in {_DAEMON_S:g} s\n{self.log_tails()}")
            time.sleep(_POLL_S)

    def restore(self) -> None:
        """Cancel every batch job, restart daemons, and wait until all nodes are idle."""
        self._restart_daemons()
        self.queue.cancel()
        for node, state in self.queue.nodes().items():
            if state.startswith("drain"):
                self.queue.resume(node)
        stuck_at = time.monotonic() + _COMPLETING_S

        def are_idle() -> bool:
            states = self.queue.nodes()
            for node in [each for each, state in states.items() if state == "completing"]:
                if time.monotonic() > stuck_at:
                    # slurmctld waits for news of an end that a dead slurmd did not send. Slurm's
                    # guide to troubleshooting advises this; the node returns to service by itself.
                    self.queue.set_down(node)
            return set(states.values()) == {"idle"}

        self.queue.wait_until(are_idle, "all nodes to be idle", _RESTORE_S)

    def log_tails(self) -> str:
        """Return the last lines of the log of each daemon."""
        tails = []
        for path in sorted(self.layout.logs.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            tails.append("\n  ".join([f"{path.name}:", *lines]))
        return "\n".join(tails)

    def _check_requirements(self) -> None:
        missing = missing_programs()
        if missing:
            raise SlurmError(f"not installed: {', '.join(missing)} ({INSTALL})")
        if len(f"{self.folder}{_LONGEST_SOCKET}") > _MAX_SOCKET_PATH:
            limit = _MAX_SOCKET_PATH - len(_LONGEST_SOCKET)
            raise SlurmError(f"{self.folder}: too long for sockets (at most {limit} characters)")

    def _check_folder(self) -> None:
        """Refuse a folder that holds anything else: `stop` would remove it."""
        if self.layout.marker.exists():
            return
        if any(self.folder.iterdir()):
            raise SlurmError(f"{self.folder}: not empty, and not the folder of a local Slurm")
        self.layout.marker.touch()

    def _start_daemons(self) -> None:
        layout = self.layout
        for path in (layout.run, layout.logs, layout.state, layout.spool):
            path.mkdir(mode=0o700, exist_ok=True)
        layout.munge_key.unlink(missing_ok=True)
        layout.munge_key.touch(mode=0o600)
        layout.munge_key.write_bytes(os.urandom(_KEY_BYTES))
        layout.configuration.write_text(slurm_conf(layout, self.shape))
        # munged refuses a folder that other users cannot enter, unless forced.
        self._run_daemon(
            "munged",
            "--force",
            f"--key-file={layout.munge_key}",
            f"--socket={layout.munge_socket}",
            f"--pid-file={layout.run}/munged.pid",
            f"--seed-file={layout.run}/munged.seed",
            f"--log-file={layout.logs}/munged.log",
        )
        self.start_controller()
        for node in self.shape.names:
            self._start_slurmd(node)

    def _start_slurmd(self, node: str) -> None:
        self._run_daemon("slurmd", "-N", node, node=node)

    def _run_daemon(self, program: str, *options: str, node: str = "") -> None:
        """Start a daemon, which goes to the background once it has started."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
        added = {"PATH": _search_path(), FOLDER_VARIABLE: str(self.folder), NODE_VARIABLE: node}
        output = self.layout.logs / f"{program}{node}.out"
        with output.open("w") as stream:
            try:
                done = subprocess.run(
                    [program, *options],
                    env=inherited | self.environment | added,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    timeout=_DAEMON_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as exc:
                raise SlurmError(f"{program}: not started after {_DAEMON_S:g} s") from exc
        if done.returncode:
            raise SlurmError(f"{program}: exit code {done.returncode}: {output.read_text()}")

    def _restart_daemons(self) -> None:
        alive = {process.pid for process in self.processes()}
        if _pid_in(self.layout.controller_pid) not in alive:
            self.start_controller()
        for node in self.shape.names:
            if _pid_in(self.layout.node_pid(node)) not in alive:
                self.start_slurmd(node)

    def _wait_for_nodes(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while set((states := self.queue.nodes()).values()) != {"idle"}:
            if time.monotonic() > deadline:
                raise SlurmError(f"nodes not idle after {timeout_s:g} s: {states}")
            time.sleep(_POLL_S)

    def _kill_daemon(self, pid_file: Path) -> None:
        pid = _pid_in(pid_file)
        left = kill_all(lambda: [each for each in self.processes() if each.pid == pid], grace_s=0)
        if left:
            raise SlurmError(f"process {pid} cannot be killed")

    def _clear(self) -> None:
        self._kill_processes()
        shutil.rmtree(self.folder)

    def _kill_processes(self, grace_s: float = 2.0) -> None:
        left = kill_all(self.processes, grace_s)
        if left:
            raise SlurmError(f"processes {left} cannot be killed")


def _pid_in(file: Path) -> int:
    return int(file.read_text())


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS])
