"""The benchmark of the orchestra beside its peers, on a system that is a few lines of Python."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.orchestra_peers import scenario
from benchmarks.orchestra_peers.rows import ROWS, SMOKE
from benchmarks.orchestra_peers.scenario import Session, session
from benchmarks.orchestra_peers.step import LEVELS
from benchmarks.orchestra_peers.systems.contract import Place, Started, System
from benchmarks.orchestra_peers.turns import Variant, measure

Events = Callable[[str], list[tuple[str, str]]]
"""What becomes of an observation: kinds of events, and their products."""


def whole(_: str) -> list[tuple[str, str]]:
    return [(kind, product) for product in LEVELS for kind in ("begun", "made")]


def twice(obs_id: str) -> list[tuple[str, str]]:
    return whole(obs_id) * 2


def nothing(_: str) -> list[tuple[str, str]]:
    return []


def system(name: str, events: Events, *, archives: bool = True) -> System:
    @asynccontextmanager
    async def start(place: Place) -> AsyncIterator[Started]:
        pipe = os.open(place.events, os.O_WRONLY)

        async def announce(obs_id: str) -> None:
            for kind, product in events(obs_id):
                os.write(pipe, f"{kind} {product} {obs_id} {time.monotonic_ns()}\n".encode())
                if archives:
                    assert place.environment
                    (place.files / f"{obs_id}.{product}").touch()

        assert place.environment
        yield Started(announce, place.files_written)
        os.close(pipe)

    return System(name=name, version=lambda: "1.0", start=start)


@asynccontextmanager
async def opened(found: System, folder: Path) -> AsyncIterator[Session]:
    async with asyncio.timeout(30), session(found, folder, archive=True) as started:
        yield started


@pytest.mark.parametrize("row", ROWS)
async def test_a_row_has_a_line_for_each_peer(row: str) -> None:
    ours, theirs = Variant(system("Batuta", whole)), Variant(system("Peer", whole))
    figures = await measure(ROWS[row](SMOKE), ours, [theirs])
    assert figures
    assert all("Peer 1.0" in figure.against for figure in figures)


async def test_a_product_made_twice_is_an_error(tmp_path: Path) -> None:
    async with opened(system("Peer", twice), tmp_path) as started:
        with pytest.raises(RuntimeError, match="not made once"):
            await started.check()


async def test_a_product_that_is_not_archived_is_an_error(tmp_path: Path) -> None:
    async with opened(system("Peer", whole, archives=False), tmp_path) as started:
        with pytest.raises(RuntimeError, match="not archived"):
            await started.check()


async def test_what_has_not_begun_counts_with_the_time_that_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario, "GRACE_S", 0.1)
    refusing: set[str] = set()

    def until_refused(obs_id: str) -> list[tuple[str, str]]:
        return nothing(obs_id) if refusing else whole(obs_id)

    async with opened(system("Peer", until_refused), tmp_path) as started:
        refusing.add("now")
        found = await started.rate(100, 0.05)
    assert found.begun_a_second == 0
    assert found.p99_s > 0.05
    assert not found.held


async def test_a_peer_that_fails_is_named_and_the_others_are_measured() -> None:
    peers = [Variant(system(name, events)) for name, events in (("Bad", twice), ("Good", whole))]
    figures = await measure(ROWS["full-rate"](SMOKE), Variant(system("Batuta", whole)), peers)
    assert [figure.measured == "not measured" for figure in figures] == [True, False]
    assert "Bad: not made once" in figures[0].against
