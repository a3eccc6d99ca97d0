"""What a schedule does, drawn from a seed beforehand: so that it can be replayed, and reduced."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

CONDUCTOR: Final = "conductor"
SECOND: Final = "conductor-2"
"""Another conductor of the same database, in some schedules."""
SDB: Final = "sdb"
MAKER: Final = "maker"
SENDER: Final = "sender"
NATS: Final = "nats"
SERVICES: Final = (CONDUCTOR, SDB, MAKER)
"""Those of every schedule."""

Kind = Literal[
    "kill",
    "pause",
    "cut",
    "partition",
    "nats_away",
    "lost_request",
    "lost_answer",
    "lost_publish",
    "lost_publish_ack",
    "lost_delivery",
    "repeated_delivery",
    "lost_ack",
    "fail",
    "hang",
    "false_success",
    "false_product",
    "malformed",
    "database_away",
    "clock_jump",
    "clock_wrong",
]
"""
kill
    Of the service `of`, at its `nth` point; it is back after `for_s`.
pause
    The service `of` does nothing from `at_s` on, for `for_s`, and then goes on where it was.
partition
    Between the services `of` and `other`, from `at_s` on, for `for_s`; requests are refused.
cut
    As a partition, but what is sent disappears.
nats_away
    NATS is restarted: nobody is connected from `at_s` on, for `for_s`.
lost_request, lost_answer
    The `nth` request of `of` is cut before it is executed, or after.
lost_publish, lost_publish_ack
    The `nth` message that `of` publishes is not stored, or is, and `of` is not told.
lost_delivery, repeated_delivery, lost_ack
    The `nth` message that is delivered to `of` does not arrive, arrives twice, or its
    acknowledgement does not.
fail, hang
    The `nth` run of a processing fails, or does not end.
false_success, false_product, malformed
    At `at_s`, somebody publishes that what is under way has succeeded, that a product is there
    that is not, or what is no event.
database_away
    No transaction of `of` is begun from `at_s` on, for `for_s`.
clock_jump
    The wall clock of `of` is set by `for_s`, which may be negative, at `at_s`.
clock_wrong
    The wall clock of `of` is off by `by_s`, which may be negative, from `at_s` on, for `for_s`.
"""

CHAOS_S: Final = 20.0
"""Faults begin within so many seconds."""
NOISE_S: Final = 12.0
"""Somebody publishes what is not so while there is most under way."""
MAX_POINT: Final = 160
"""A service is killed at its so-manieth point at the latest."""
MAX_MESSAGE: Final = 40
MAX_OUTAGE_S: Final = 12.0
LONG: Final = 4
"""One outage in ten lasts so many times as long: longer than services wait for NATS."""
MAX_FAULTS: Final = 9
TWO_CONDUCTORS: Final = 0.4
"""The share of schedules with two of them."""
MAX_FAULTS_OF_TWO: Final = 3
CLOCKS_APART_S: Final = 4.0
"""A third of the shortest timeout: conductors of one database count it by their own clocks."""
WRONG_CLOCK: Final = 0.15
"""The share of schedules in which a clock is off by hours for a while."""
MAX_OFF_S: Final = 86_400.0
MAX_PAUSE_S: Final = 90.0
"""Longer than NATS waits for an acknowledgement."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong; see `Kind` for what its fields mean."""

    kind: Kind
    of: str = ""
    other: str = ""
    nth: int = 0
    at_s: float = 0.0
    for_s: float = 0.0
    by_s: float = 0.0

    def __str__(self) -> str:
        shown = {key: value for key, value in asdict(self).items() if value and key != "kind"}
        return f"{self.kind}({', '.join(f'{key}={value}' for key, value in shown.items())})"


@dataclass(frozen=True, kw_only=True)
class Import:
    """An input that the sender imports at a time, in seconds; `content` tells its bytes."""

    at_s: float
    product: str
    obs_id: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One schedule.

    Attributes
    ----------
    seed : int
        Of what is drawn while it runs: how long everything takes.
    imports, faults
        What happens.
    has_two_conductors : bool
        Whether they share the work, and a database.
    """

    seed: int
    imports: tuple[Import, ...]
    faults: tuple[Fault, ...]
    has_two_conductors: bool = False

    @property
    def services(self) -> tuple[str, ...]:
        """The services that are started."""
        return (*SERVICES, SECOND) if self.has_two_conductors else SERVICES

    @property
    def observations(self) -> list[str]:
        """The observations that anything is imported of."""
        return sorted({each.obs_id for each in self.imports})

    def without_faults(self, dropped: Sequence[Fault]) -> Self:
        """Return the plan without some of its faults."""
        return replace(self, faults=tuple(each for each in self.faults if each not in dropped))

    def without_second_conductor(self) -> Self:
        """Return the plan without it, and what happens to it."""
        kept = tuple(each for each in self.faults if SECOND not in {each.of, each.other})
        return replace(self, faults=kept, has_two_conductors=False)

    def without_observation(self, obs_id: str) -> Self:
        """Return the plan without one of its observations."""
        kept = tuple(each for each in self.imports if each.obs_id != obs_id)
        return replace(self, imports=kept)


def plan_of(seed: int) -> Plan:
    """Return the schedule of a seed."""
    chance = random.Random(f"plan {seed}")  # noqa: S311  a simulation, no secrets
    imports = [
        each
        for number in range(1, chance.choice([1, 1, 1, 1, 1, 2, 3]) + 1)
        for each in _imports(chance, f"obs-{number}")
    ]
    drawn = [_fault(chance) for _ in range(chance.randint(0, MAX_FAULTS))]
    plan = Plan(
        seed=seed,
        imports=tuple(sorted(imports, key=lambda each: each.at_s)),
        faults=tuple(dict.fromkeys(drawn)),
    )
    # Drawn apart: what happens to one conductor is the same as ever.
    apart = random.Random(f"second conductor {seed}")  # noqa: S311
    plan = _shared(plan, apart) if apart.random() < TWO_CONDUCTORS else plan
    apart = random.Random(f"wrong clock {seed}")  # noqa: S311
    return _with_wrong_clock(plan, apart) if apart.random() < WRONG_CLOCK else plan


def _with_wrong_clock(plan: Plan, chance: random.Random) -> Plan:
    """Add that a clock is off by hours for a while; of conductors, only that of one alone."""
    alone = [each for each in SERVICES if each != CONDUCTOR or not plan.has_two_conductors]
    # Twice as often of the conductor: it plans, and others hardly do.
    wrong = Fault(
        kind="clock_wrong",
        of=chance.choice([*alone, *(each for each in alone if each == CONDUCTOR)]),
        at_s=round(chance.uniform(0, CHAOS_S), 2),
        for_s=_outage_s(chance),
        by_s=round(chance.choice([-1, 1]) * MAX_OFF_S ** chance.random()),
    )
    return replace(plan, faults=(*plan.faults, wrong))


def _shared(plan: Plan, chance: random.Random) -> Plan:
    """Add a second conductor, to which happens half of what would happen to the first, and more."""
    faults = [
        _renamed(_within_reason(each))
        if CONDUCTOR in {each.of, each.other} and chance.random() < 0.5
        else _within_reason(each)
        for each in plan.faults
    ]
    faults += [_of_conductors(chance) for _ in range(chance.randint(1, MAX_FAULTS_OF_TWO))]
    return replace(plan, faults=tuple(dict.fromkeys(faults)), has_two_conductors=True)


def _within_reason(fault: Fault) -> Fault:
    """Keep clocks of conductors that share a database near each other, as they are said to be."""
    if fault.kind != "clock_jump" or fault.of != CONDUCTOR:
        return fault
    return replace(fault, for_s=math.copysign(min(abs(fault.for_s), CLOCKS_APART_S), fault.for_s))


def _renamed(fault: Fault) -> Fault:
    names = {CONDUCTOR: SECOND}
    return replace(
        fault,
        of=names.get(fault.of, fault.of),
        other=names.get(fault.other, fault.other),
    )


def _of_conductors(chance: random.Random) -> Fault:
    """Draw what one conductor may leave to the other: it is killed, or thought to be."""
    of = chance.choice([CONDUCTOR, SECOND])
    if chance.random() < 0.4:
        return replace(_kill(chance), of=of)
    at_s = round(chance.uniform(0, CHAOS_S), 2)
    return Fault(kind="pause", of=of, at_s=at_s, for_s=_pause_s(chance))


def _pause_s(chance: random.Random) -> float:
    """Draw how long: for as long as NATS, and the other conductor, wait for it, or a little."""
    return round(chance.uniform(*chance.choice([(0.1, 3.0), (5.0, MAX_PAUSE_S)])), 2)


def _imports(chance: random.Random, obs_id: str) -> list[Import]:
    products = ["RAW", "AUX"]
    chance.shuffle(products)
    found = [_import(chance, product, obs_id, "first") for product in products]
    if chance.random() < 0.3:
        found.append(_import(chance, "RAW", obs_id, "second"))
    if chance.random() < 0.5:
        found.append(_import(chance, "HINT", obs_id, "first"))
    return found


def _import(chance: random.Random, product: str, obs_id: str, content: str) -> Import:
    at_s = round(chance.uniform(0, 8), 3)
    return Import(at_s=at_s, product=product, obs_id=obs_id, content=f"{product} {content}")


def _fault(chance: random.Random) -> Fault:
    draw = chance.choice(_DRAWN)
    return draw(chance)


def _outage_s(chance: random.Random) -> float:
    longest_s = MAX_OUTAGE_S * (LONG if chance.random() < 0.1 else 1)
    return round(chance.uniform(0.1, longest_s), 2)


def _kill(chance: random.Random) -> Fault:
    return Fault(
        kind="kill",
        of=chance.choice(SERVICES),
        nth=int(MAX_POINT ** chance.random()),
        for_s=_outage_s(chance),
    )


def _partition(chance: random.Random) -> Fault:
    one, other = chance.sample([*SERVICES, NATS], 2)
    return Fault(
        kind=chance.choice(["cut", "partition"]),
        of=one,
        other=other,
        at_s=round(chance.uniform(0, CHAOS_S), 2),
        for_s=_outage_s(chance),
    )


def _of_message(chance: random.Random) -> Fault:
    kind, senders = chance.choice(_MESSAGES)
    nth = int(MAX_MESSAGE ** chance.random())
    return Fault(kind=kind, of=chance.choice(senders), nth=nth)


_MESSAGES: Final[list[tuple[Kind, tuple[str, ...]]]] = [
    ("lost_request", (*SERVICES, SENDER)),
    ("lost_answer", (*SERVICES, SENDER)),
    ("lost_publish", SERVICES),
    ("lost_publish_ack", SERVICES),
    ("lost_delivery", (CONDUCTOR,)),
    ("repeated_delivery", (CONDUCTOR,)),
    ("lost_ack", (CONDUCTOR,)),
]


def _of_processing(chance: random.Random) -> Fault:
    return Fault(kind=chance.choice(["fail", "hang"]), of=MAKER, nth=chance.randint(1, 6))


def _noise(chance: random.Random) -> Fault:
    kind: Any = chance.choice(["false_success", "false_success", "false_product", "malformed"])
    return Fault(kind=kind, at_s=round(chance.uniform(1, NOISE_S), 2))


def _outage(chance: random.Random) -> Fault:
    at_s = round(chance.uniform(0, CHAOS_S), 2)
    for_s = _outage_s(chance)
    if chance.random() < 0.5:
        return Fault(kind="nats_away", of=NATS, at_s=at_s, for_s=for_s)
    return Fault(kind="database_away", of=chance.choice(SERVICES), at_s=at_s, for_s=for_s)


def _clock(chance: random.Random) -> Fault:
    return Fault(
        kind="clock_jump",
        of=chance.choice(SERVICES),
        at_s=round(chance.uniform(0, CHAOS_S), 2),
        for_s=round(chance.uniform(-60, 60), 1),
    )


_DRAWN: Final = (
    [_kill] * 4
    + [_of_message] * 6
    + [_partition] * 2
    + [_of_processing] * 3
    + [_noise] * 3
    + [_outage] * 2
    + [_clock]
)
