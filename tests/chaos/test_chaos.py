"""Chaos: a short one on real processes, and what it is made of."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import clock, graph
from tests.support.chaos.plan import KINDS, Plan, Size, Topology, plan_of
from tests.support.chaos.proxy import Link
from tests.support.chaos.records import Row
from tests.support.chaos.run import run_chaos
from tests.support.chaos.verify import Made, of_records
from tests.support.preloading import require_preloading

SHORT = Size(observations=4, products=5, faults=10, max_fault_s=0.8)
SEED = 46


def topology(database: Any = "sqlite") -> Topology:
    return Topology(database, {"alpha": ("alpha-1",)})


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_whatever_fails_every_product_is_made_once_from_the_right_inputs(
    tmp_path: Path,
) -> None:
    plan = plan_of(SEED, SHORT, topology())
    told: list[str] = []
    report = await run_chaos(plan, tmp_path, None, patience_s=60, told=told.append)
    shown = "\n".join([*told, *report.lines(tmp_path)])
    assert not report.violations, shown
    assert sum(report.faults.values()) + len(report.left_out) == SHORT.faults, shown
    # It would hold as well if nothing failed.
    assert report.executions > SHORT.to_make, shown


# ---------------------------------------------------------------------- the plan


def test_a_seed_decides_what_fails_and_when() -> None:
    assert plan_of(7, SHORT, topology()) == plan_of(7, SHORT, topology())
    assert plan_of(8, SHORT, topology()) != plan_of(7, SHORT, topology())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_kind_of_fault_happens_and_each_kind_of_service_is_killed(database: str) -> None:
    for seed in range(20):
        _check(plan_of(seed, SHORT, topology(database)))


def _check(plan: Plan) -> None:
    assert {fault.kind for fault in plan.faults} == set(KINDS)
    killed = {fault.of.split("-")[0] for fault in plan.faults if fault.kind == "kill"}
    assert killed == {"nats", "sdb", "conductor", "alpha"}
    assert [fault.at for fault in plan.faults] == sorted(fault.at for fault in plan.faults)


def test_one_run_in_five_fails_and_one_in_fifty_hangs() -> None:
    fates = Counter(graph.fate(1, "P01", f"obs-{number}", 1) for number in range(5000))
    hanging = fates["hangs"] + fates["hangs_on"]
    failing = fates["raises"] + fates["exits"] + fates["killed"]
    assert 0.18 < failing / 5000 < 0.22
    assert 0.014 < hanging / 5000 < 0.026
    assert graph.fate(1, "P01", "obs-1", 1) == graph.fate(1, "P01", "obs-1", 1)


# ---------------------------------------------------------------------- the verification


def made() -> Made:
    """Return what a run has made of one observation, as it should be."""
    products = graph.products(6, ("alpha",))
    versions: list[Row] = []
    claims: dict[str, Row] = {}
    digests: dict[str, str] = {}
    for name in (*graph.INPUTS, *products):
        inputs = products[name].mandatory if name in products else ()
        content = graph.content_of(name, "obs-1", {each: digests[each] for each in inputs})
        digests[name] = graph.digest(content)
        versions.append(
            {
                "product": name,
                "obs_id": "obs-1",
                "version": 1,
                "sha256": digests[name],
                "inputs": [{"product": each, "version": 1} for each in inputs],
                "processing_id": f"id-{name}",
            }
        )
        if name in products:
            claims[f"id-{name}"] = {
                "product": name,
                "obs_id": "obs-1",
                "inputs": dict.fromkeys(inputs, 1),
                "state": "succeeded",
                "attempt": 1,
                "error": None,
            }
    return Made(products, ["obs-1"], versions, claims)


def test_what_was_made_as_it_should_be_violates_nothing() -> None:
    assert of_records(made()) == []


def _twice(wrong: Made) -> None:
    wrong.versions.append({**wrong.versions[-1], "version": 2})


def _missing(wrong: Made) -> None:
    del wrong.versions[-1]


def _other_bytes(wrong: Made) -> None:
    wrong.versions[-1] = {**wrong.versions[-1], "sha256": "0" * 64}


def _other_input(wrong: Made) -> None:
    inputs = [{"product": "AUX", "version": 1}]
    wrong.versions[-1] = {**wrong.versions[-1], "inputs": inputs}


def _by_nobody(wrong: Made) -> None:
    wrong.versions[-1] = {**wrong.versions[-1], "processing_id": "other"}


def _not_as_claimed(wrong: Made) -> None:
    wrong.claims["id-P06"] = {**wrong.claims["id-P06"], "inputs": {"P03": 1, "P04": 1}}


def _given_up(wrong: Made) -> None:
    wrong.claims["id-P06"] = {**wrong.claims["id-P06"], "state": "failed", "error": "no luck"}


def _claimed_twice(wrong: Made) -> None:
    wrong.claims["other"] = wrong.claims["id-P06"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_twice, "P06 of obs-1: 2 versions, to be made once"),
        (_missing, "P06 of obs-1: 0 versions, to be made once"),
        (_other_bytes, "P06 of obs-1: its bytes are not what"),
        (_other_input, "P06 of obs-1: made from ['AUX']"),
        (_by_nobody, "P06 of obs-1: made without a claim"),
        (_not_as_claimed, "P06 of obs-1: made from {'P03': 1}, claimed from {'P03': 1, 'P04': 1}"),
        (_given_up, "P06 of obs-1: failed, attempt 1, no luck"),
        (_claimed_twice, "P06 of obs-1: claimed 2 times"),
    ],
)
def test_what_is_wrong_is_told(spoil: Callable[[Made], None], told: str) -> None:
    wrong = made()
    spoil(wrong)
    assert [line for line in of_records(wrong) if line.startswith(told)]


# ---------------------------------------------------------------------- network and clock


@pytest.fixture
async def echoing() -> AsyncIterator[Link]:
    """A link to a server that answers what it is told, in capitals."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = Link(server.sockets[0].getsockname()[1])
    await link.open()
    yield link
    await link.close()
    server.close()


class _Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, line: bytes, timeout_s: float = 10) -> bytes:
        """Return the answer; nothing if the connection is over."""
        self._writer.write(line)
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self._reader.readline(), timeout_s)
        return b""


@contextlib.asynccontextmanager
async def calling(link: Link) -> AsyncIterator[_Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    yield _Caller(reader, writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_link_that_is_cut_ends_its_connections_and_takes_no_new_ones(
    echoing: Link,
) -> None:
    async with calling(echoing) as caller:
        assert await caller.ask(b"one\n") == b"ONE\n"
        echoing.set("cut")
        assert await caller.ask(b"two\n") == b""
    async with calling(echoing) as caller:
        assert await caller.ask(b"three\n") == b""
    echoing.set("open")
    async with calling(echoing) as caller:
        assert await caller.ask(b"four\n") == b"FOUR\n"


async def test_what_was_sent_on_a_stalled_link_arrives_later(echoing: Link) -> None:
    async with calling(echoing) as caller:
        echoing.set("stall")
        with pytest.raises(TimeoutError):
            await caller.ask(b"one\n", timeout_s=0.1)
        echoing.set("open")
        assert await caller.ask(b"two\n") == b"ONE\n"


async def test_answers_on_a_muted_link_are_lost_and_its_connections_with_them(
    echoing: Link,
) -> None:
    async with calling(echoing) as caller:
        echoing.set("mute")
        with pytest.raises(TimeoutError):
            await caller.ask(b"one\n", timeout_s=0.1)
        echoing.set("open")
        assert await caller.ask(b"two\n") == b""


def test_the_clock_of_one_program_jumps_while_time_passes_as_ever(tmp_path: Path) -> None:
    require_preloading()
    preloaded = clock.build(tmp_path)
    assert preloaded is not None
    of_program = clock.Clock(tmp_path / "clock", preloaded)
    program = (
        "import sys, time; print(time.time(), time.monotonic(), flush=True); sys.stdin.readline();"
        "print(time.time(), time.monotonic())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **of_program.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        of_program.set(-86_400)
        second = process.communicate("go on\n")[0]
    wall_s, monotonic_s = (
        float(after) - float(before)
        for before, after in zip(first.split(), second.split(), strict=True)
    )
    assert wall_s == pytest.approx(monotonic_s - 86_400, abs=1)
    assert 0 <= monotonic_s < 60
