"""Where a local Slurm keeps its files, and its ``slurm.conf``."""

import getpass
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PARTITIONS: Final = ("normal", "short")
"""The default partition, and one whose batch jobs may last ten minutes."""

_CONFIGURATION: Final = """\
ClusterName=batuta
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={layout.munge_socket}

StateSaveLocation={layout.state}
SlurmdSpoolDir={layout.spool}/%n
SlurmctldPidFile={layout.controller_pid}
SlurmdPidFile={layout.run}/%n.pid
SlurmctldLogFile={layout.logs}/slurmctld.log
SlurmdLogFile={layout.logs}/%n.log

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PropagateResourceLimits=NONE
MailProg=/bin/true

SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
SlurmdParameters=config_overrides

SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MessageTimeout=5
SlurmctldTimeout=5
SlurmdTimeout=5
KillWait=5
MinJobAge=60
InactiveLimit=0
OverTimeLimit=0
ReturnToService=2
"""


@dataclass(frozen=True)
class ClusterShape:
    """The nodes of a local Slurm.

    Parameters
    ----------
    nodes : int
        How many; they are named ``node1``, ``node2``, ...
    cpus : int
        CPUs of each node, which may be more than the machine has.
    memory_mb : int
        Memory of each node in MiB, as Slurm counts, which may be more than the machine has.
    """

    nodes: int = 2
    cpus: int = 16
    memory_mb: int = 12_000

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple(f"node{number}" for number in range(1, self.nodes + 1))


@dataclass(frozen=True)
class Layout:
    """The paths of a local Slurm.

    Parameters
    ----------
    folder : Path
        Where everything is.
    """

    folder: Path

    @property
    def marker(self) -> Path:
        """A file that marks the folder as that of a local Slurm; written first."""
        return self.folder / ".batuta-slurm"

    @property
    def configuration(self) -> Path:
        """The ``slurm.conf``."""
        return self.folder / "slurm.conf"

    @property
    def run(self) -> Path:
        """Sockets and process ids."""
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        """The logs of the daemons."""
        return self.folder / "log"

    @property
    def state(self) -> Path:
        """State of the controller, which it restores when it starts."""
        return self.folder / "state"

    @property
    def spool(self) -> Path:
        """The scripts of running batch jobs, in one folder for each node."""
        return self.folder / "spool"

    @property
    def munge_key(self) -> Path:
        """The secret that the daemons and the commands share."""
        return self.folder / "munge.key"

    @property
    def munge_socket(self) -> Path:
        """The socket of munged."""
        return self.run / "munge.sock"

    @property
    def controller_pid(self) -> Path:
        """The process id of slurmctld."""
        return self.run / "slurmctld.pid"

    def node_pid(self, node: str) -> Path:
        """The process id of the slurmd of `node`."""
        return self.run / f"{node}.pid"


def slurm_conf(layout: Layout, shape: ClusterShape) -> str:
    """Return the configuration of a cluster on this machine, on ports that are free now."""
    controller_port, *node_ports = _free_ports(1 + shape.nodes)
    lines = [
        _CONFIGURATION.format(
            layout=layout, controller_port=controller_port, user=getpass.getuser()
        )
    ]
    lines += [
        f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={shape.cpus} RealMemory={shape.memory_mb}"
        for name, port in zip(shape.names, node_ports, strict=True)
    ]
    default, short = PARTITIONS
    nodes = ",".join(shape.names)
    lines += [
        f"PartitionName={default} Nodes={nodes} Default=YES MaxTime=INFINITE State=UP",
        f"PartitionName={short} Nodes={nodes} MaxTime=10 State=UP",
    ]
    return "\n".join(lines) + "\n"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
