"""The orchestra in virtual time: what must hold, with faults that come from seeds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from nats.aio.msg import Msg

from batuta.conductor.database.graphs.settling import SettlingStore
from batuta.conductor.database.requests import due_requests
from batuta.conductor.dispatch.archive import Archive
from batuta.messaging.consumer import Consumer
from batuta.pipeline.store import ProcessingStore
from batuta.sdb.outbox import Announcer
from tests.support.simulation.__main__ import report
from tests.support.simulation.orchestra import Outcome
from tests.support.simulation.plan import CONDUCTOR, MAKER, SECOND, Fault, Import, Plan, plan_of
from tests.support.simulation.running import run_plan
from tests.support.simulation.shrink import shrink

SCHEDULES = 200
TOGETHER = 20


@pytest.mark.parametrize("first", range(1, SCHEDULES + 1, TOGETHER))
def test_whatever_happens_all_is_made_once_and_nothing_is_lost(first: int) -> None:
    outcomes = [run_plan(plan_of(seed)) for seed in range(first, first + TOGETHER)]
    assert not [report(each) for each in outcomes if each.violations]
    # It would hold as well if nothing happened.
    assert sum(each.processings for each in outcomes) > TOGETHER
    assert sum(each.kills for each in outcomes) > TOGETHER / 4


# ---------------------------------------------------------------------- two conductors

AUX_AND_RAW = tuple(
    Import(at_s=at_s, product=product, obs_id="obs-1", content=f"{product} first")
    for at_s, product in ((1.0, "AUX"), (2.0, "RAW"))
)


def requests_of(outcome: Outcome, conductor: str) -> list[float]:
    """Return when a conductor asked for a processing, in seconds."""
    asked = f" {conductor} -> {MAKER} POST"
    return [float(line.split()[0]) for line in outcome.trace.lines if asked in line]


def test_two_conductors_share_the_work() -> None:
    plans = [replace(plan_of(seed), faults=(), has_two_conductors=True) for seed in range(1, 6)]
    outcomes = [run_plan(each) for each in plans]
    assert not [report(each) for each in outcomes if each.violations]
    for name in (CONDUCTOR, SECOND):
        assert any(requests_of(each, name) for each in outcomes), f"{name} has asked for nothing"


@pytest.mark.parametrize("paused", [CONDUCTOR, SECOND])
def test_what_a_paused_conductor_leaves_is_done_by_the_other(paused: str) -> None:
    pause = Fault(kind="pause", of=paused, at_s=2.5, for_s=100.0)
    plan = Plan(seed=3, imports=AUX_AND_RAW, faults=(pause,), has_two_conductors=True)
    outcome = run_plan(plan)
    assert not outcome.violations, report(outcome)
    assert not [each for each in requests_of(outcome, paused) if 2.5 < each < 102.5]
    other = SECOND if paused == CONDUCTOR else CONDUCTOR
    assert [each for each in requests_of(outcome, other) if 2.5 < each < 102.5]


def test_seeds_draw_two_conductors_and_what_happens_to_each() -> None:
    plans = [plan_of(seed) for seed in range(1, SCHEDULES + 1)]
    shared = [each for each in plans if each.has_two_conductors]
    assert SCHEDULES / 4 < len(shared) < SCHEDULES * 3 / 5
    happens = {(fault.kind, fault.of) for each in shared for fault in each.faults}
    for name in (CONDUCTOR, SECOND):
        assert {("pause", name), ("kill", name), ("database_away", name)} <= happens


def test_a_schedule_that_fails_with_one_conductor_is_told_with_one() -> None:
    plan = next(each for each in map(plan_of, range(100)) if each.has_two_conductors)
    smallest = shrink(plan, lambda _: True)
    assert not smallest.has_two_conductors
    assert not smallest.faults


# ---------------------------------------------------------------------- the same again


def test_a_seed_gives_the_same_trace_in_every_interpreter() -> None:
    digest = run_plan(plan_of(7)).trace.digest
    assert run_plan(plan_of(7)).trace.digest == digest
    assert run_plan(plan_of(8)).trace.digest != digest
    command = [sys.executable, "-m", "tests.support.simulation", "--replay", "--seed", "7"]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        replayed = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        assert f"trace {digest}" in replayed.stdout


def test_schedules_of_several_processes_are_counted_together() -> None:
    command = [sys.executable, "-m", "tests.support.simulation", "-n", "2", "--workers", "2"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "2 of 2 schedules" in told
    assert "0 failing" in told


# ---------------------------------------------------------------------- defects put in on purpose


async def _forget_before_publishing(self: Announcer, rows: Any) -> bool:
    self._acknowledged |= {row.event_id: row.id for row in rows}
    await self._delete_acknowledged()
    return await _PUBLISH(self, rows)


async def _acknowledge_before_handling(self: Consumer[Any], message: Msg) -> None:
    await message.ack()
    await _RECEIVE(self, message)


async def _believe(_self: Archive, records: Any) -> list[bool]:
    return [True] * len(records)


async def _leave_what_ran(_self: ProcessingStore) -> list[Any]:
    return []


_PUBLISH = Announcer._publish
_RECEIVE = Consumer._receive

Defect = list[tuple[Any, str, Any]]

DEFECTS: dict[str, tuple[int, str, Defect]] = {
    "announcements are deleted before they are published": (
        2,
        "never announced",
        [(Announcer, "_publish", _forget_before_publishing)],
    ),
    "events are acknowledged before their commit": (
        3,
        "nothing became of it",
        [(Consumer, "_receive", _acknowledge_before_handling)],
    ),
    "a success is believed though nothing was imported": (
        16,
        "believed to have succeeded",
        [(Archive, "holds_products_of", _believe)],
    ),
    "what ran when a pipeline died is not run again": (
        5,
        "not settled",
        [(ProcessingStore, "recover", _leave_what_ran)],
    ),
    "claims are not fenced by those from newer inputs": (
        2,
        "the newest is",
        [
            (SettlingStore, "supersede_due", lambda *_: False),
            (due_requests, "_one_of_each", list),
        ],
    ),
}
"""The first seed that is tried of each, what is found, and what is replaced."""


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_within_the_schedules(defect: str) -> None:
    hint, expected, replacements = DEFECTS[defect]
    with _replaced(replacements):
        seeds = dict.fromkeys([hint, *range(1, SCHEDULES + 1)])
        found = next(each for seed in seeds if (each := run_plan(plan_of(seed))).violations)
        assert expected in " ".join(found.violations)
    assert not run_plan(found.plan).violations


def test_what_fails_is_reduced_and_told_with_how_to_replay_it() -> None:
    _, expected, replacements = DEFECTS["a success is believed though nothing was imported"]
    lie = Fault(kind="false_success", at_s=1.2)
    imports = (
        Import(at_s=1.0, product="RAW", obs_id="obs-1", content="RAW first"),
        Import(at_s=8.0, product="RAW", obs_id="obs-2", content="RAW first"),
    )
    noise = Fault(kind="malformed", at_s=9.0)
    fails = Fault(kind="fail", of=MAKER, nth=1)
    with _replaced(replacements):
        text = report(run_plan(Plan(seed=7, imports=imports, faults=(noise, fails, lie))))
    assert "make simulate SEED=7 REPLAY=1" in text
    smallest = text.partition("the smallest")[2]
    assert f"1 observations, 2 faults\n  {fails}\n  {lie}\n" in smallest
    assert expected in smallest


@contextmanager
def _replaced(replacements: Defect) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for owner, name, value in replacements:
            monkeypatch.setattr(owner, name, value)
        yield


# ---------------------------------------------------------------------- reducing


def test_only_the_faults_and_observations_that_matter_are_left() -> None:
    plan = next(
        each for each in map(plan_of, range(1000)) if len(each.faults) > 6 < len(each.imports)
    )
    needed, observation = plan.faults[4], plan.observations[-1]

    def fails(candidate: Plan) -> bool:
        kinds = {(each.kind, each.of, each.nth) for each in candidate.faults}
        return (needed.kind, needed.of, needed.nth) in kinds and (
            observation in candidate.observations
        )

    smallest = shrink(plan, fails)
    assert [each.kind for each in smallest.faults] == [needed.kind]
    assert [each.obs_id for each in smallest.imports] == [observation]


def test_what_does_not_fail_smaller_is_left_as_it_is() -> None:
    plan = plan_of(5)
    assert shrink(plan, lambda candidate: candidate == plan) == plan
