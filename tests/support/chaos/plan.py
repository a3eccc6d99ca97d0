"""What goes wrong in a run of chaos, when, and to whom: a function of its seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Database = Literal["sqlite", "postgresql"]
Kind = Literal["kill", "pause", "cut", "stall", "mute", "disk_full", "clock_jump"]
"""
kill
    SIGKILL of a service, which is started again after `for_s`.
pause
    SIGSTOP of a service, which goes on after `for_s`.
cut
    The connections of a link are reset, and new ones too, for `for_s`.
stall
    Nothing that is sent on a link arrives for `for_s`; then all of it does.
mute
    What is sent on a link arrives, and its answers are lost, for `for_s`; then it is reset.
disk_full
    Nothing more fits on the disk of a service for `for_s`.
clock_jump
    The clock of a service is off by `by_s` for `for_s`.
"""
KINDS: Final[tuple[Kind, ...]] = (
    *("kill",) * 8,
    *("pause",) * 2,
    *("cut",) * 3,
    *("stall",) * 2,
    *("mute",) * 2,
    *("disk_full",) * 2,
    *("clock_jump",) * 2,
)
NATS: Final = "nats"
SDB: Final = "sdb"
SENDER: Final = "sender"
CONDUCTORS: Final = "conductors"
POSTGRESQL: Final = "postgresql"
S3: Final = "s3"
BEGIN: Final = 0.02
END: Final = 0.9
"""Faults begin while between these shares of all products have been made."""
MIN_FAULT_S: Final = 0.5


@dataclass(frozen=True)
class Topology:
    """Which services there are, and which of them speak to which.

    Attributes
    ----------
    database
        Where records are: with PostgreSQL, files are in S3 and there are two conductors.
    instances
        The services of each provider, by its name.
    """

    database: Database
    instances: dict[str, tuple[str, ...]]

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of the pipelines."""
        return tuple(self.instances)

    @property
    def conductors(self) -> tuple[str, ...]:
        """The conductors, which share one database."""
        names = ("conductor-1", "conductor-2")
        return names if self.database == "postgresql" else names[:1]

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The services of all providers."""
        return tuple(name for each in self.instances.values() for name in each)

    @property
    def services(self) -> tuple[str, ...]:
        """All that can be killed."""
        return (NATS, SDB, *self.conductors, *self.pipelines)

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Who calls whom; all conductors call a pipeline by the same address."""
        links = [(name, NATS) for name in self.services if name != NATS]
        links += [(name, SDB) for name in (SENDER, *self.conductors, *self.pipelines)]
        links += [(CONDUCTORS, name) for name in self.pipelines]
        if self.database == "postgresql":
            links += [(name, POSTGRESQL) for name in (SDB, *self.conductors)] + [(SDB, S3)]
        return tuple(links)

    @property
    def with_disks(self) -> tuple[str, ...]:
        """The services that keep their data in a folder."""
        return tuple(
            name
            for name in self.services
            if self.database == "sqlite" or name not in self.conductors
        )


@dataclass(frozen=True)
class Size:
    """How much is made, and how much goes wrong."""

    observations: int
    products: int
    faults: int
    max_fault_s: float

    @property
    def to_make(self) -> int:
        """All products of all observations."""
        return self.observations * self.products


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong; see `Kind` for what its fields mean.

    Attributes
    ----------
    at : float
        The share of all products that are made when it begins.
    of : str
        A service, or a link as ``caller>called``.
    """

    kind: Kind
    of: str
    at: float
    for_s: float
    by_s: float = 0.0

    def __str__(self) -> str:
        jump = f" by {self.by_s:+.0f} s" if self.by_s else ""
        return f"{self.kind} {self.of}{jump} for {self.for_s:.1f} s at {self.at:.1%}"


@dataclass(frozen=True)
class Plan:
    """All that a seed decides."""

    seed: int
    size: Size
    topology: Topology
    faults: tuple[Fault, ...]


def plan_of(seed: int, size: Size, topology: Topology) -> Plan:
    """Return what happens under a seed."""
    chance = random.Random(f"chaos {seed}")  # noqa: S311  a test, no secrets
    drawn = _targets(chance, topology)
    times = sorted(chance.uniform(BEGIN, END) for _ in range(size.faults))
    # Each kind of service is killed at least once, and each other fault happens, in any order.
    chosen = [next(drawn) for _ in range(size.faults)]
    chance.shuffle(chosen)
    faults = [
        _fault(chance, kind, of, at, size) for at, (kind, of) in zip(times, chosen, strict=True)
    ]
    return Plan(seed, size, topology, tuple(faults))


def _targets(chance: random.Random, topology: Topology) -> Iterator[tuple[Kind, str]]:
    for group in ((NATS,), (SDB,), topology.conductors, topology.pipelines):
        yield "kill", chance.choice(group)
    for kind in dict.fromkeys(KINDS):
        if kind != "kill":
            yield kind, _target(chance, kind, topology)
    while True:
        kind = chance.choice(KINDS)
        yield kind, _target(chance, kind, topology)


def _target(chance: random.Random, kind: Kind, topology: Topology) -> str:
    match kind:
        case "cut" | "stall" | "mute":
            return ">".join(chance.choice(topology.links))
        case "disk_full":
            return chance.choice(topology.with_disks)
        case "clock_jump":
            # The server of NATS is a static program, whose clock cannot be set apart.
            return chance.choice([name for name in topology.services if name != NATS])
        case _:
            return chance.choice(topology.services)


def _fault(chance: random.Random, kind: Kind, of: str, at: float, size: Size) -> Fault:
    for_s = round(chance.uniform(MIN_FAULT_S, size.max_fault_s), 1)
    far = chance.choice((30.0, 600.0, 86_400.0))
    by_s = round(chance.uniform(-far, far)) if kind == "clock_jump" else 0.0
    return Fault(kind=kind, of=of, at=round(at, 4), for_s=for_s, by_s=by_s)
