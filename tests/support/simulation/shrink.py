"""Reduces a schedule that fails: fewer observations, fewer faults, shorter ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.support.simulation.plan import Fault, Plan

Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails) -> Plan:
    """Return the smallest schedule found that still fails.

    Faults are dropped by halves, quarters, …, then one by one (delta debugging), observations and
    imports one by one, and what lasts is halved, again and again until nothing more can go.
    """
    while True:
        smaller = _without_faults(plan, fails)
        for candidates in (_one_conductor, _fewer_observations, _fewer_imports, _shorter_faults):
            smaller = _first_of(smaller, candidates, fails)
        if smaller == plan:
            return plan
        plan = smaller


def _without_faults(plan: Plan, fails: Fails) -> Plan:
    size = len(plan.faults)
    while size:
        for start in range(0, len(plan.faults), size):
            candidate = plan.without_faults(plan.faults[start : start + size])
            if candidate != plan and fails(candidate):
                plan = candidate
                break
        else:
            size //= 2
        size = min(size, len(plan.faults))
    return plan


def _first_of(plan: Plan, candidates: Callable[[Plan], Iterator[Plan]], fails: Fails) -> Plan:
    while True:
        found = next((each for each in candidates(plan) if fails(each)), None)
        if found is None:
            return plan
        plan = found


def _one_conductor(plan: Plan) -> Iterator[Plan]:
    if plan.has_two_conductors:
        yield plan.without_second_conductor()


def _fewer_observations(plan: Plan) -> Iterator[Plan]:
    if len(plan.observations) > 1:
        for obs_id in plan.observations:
            yield plan.without_observation(obs_id)


def _fewer_imports(plan: Plan) -> Iterator[Plan]:
    for each in plan.imports:
        kept = tuple(other for other in plan.imports if other != each)
        if kept:
            yield replace(plan, imports=kept)


def _shorter_faults(plan: Plan) -> Iterator[Plan]:
    for index, fault in enumerate(plan.faults):
        shorter = _shorter(fault)
        if shorter is not None:
            yield replace(plan, faults=(*plan.faults[:index], shorter, *plan.faults[index + 1 :]))


def _shorter(fault: Fault) -> Fault | None:
    return replace(fault, for_s=round(fault.for_s / 2, 2)) if abs(fault.for_s) > 2 else None
