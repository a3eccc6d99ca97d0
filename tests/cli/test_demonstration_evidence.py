"""What a demonstration shows is told from the record, and only if it has happened."""

from typing import Any

import pytest

from batuta.cli.demonstration.evidence import (
    SITUATIONS,
    Record,
    approval,
    filling,
    improvement,
    lateness,
    overtaking,
    remaking,
)
from batuta.cli.demonstration.report import print_situations


def processing(product: str, obs_id: str = "o1", **given: Any) -> dict[str, Any]:
    """Return a processing that succeeded, claimed at 12:00:00 and requested a second later."""
    return {
        "id": f"{product} {obs_id} {given.get('created', '')}",
        "product": product,
        "obs_id": obs_id,
        "provider": "maker",
        "state": "succeeded",
        "class": "live",
        "campaign": None,
        "attempt": 1,
        "stage": None,
        "inputs": {"A": 1},
        "progress": {"done": 1, "total": 1},
        "created": "2026-11-29T12:00:00Z",
        "requested": "2026-11-29T12:00:01.5Z",
        **given,
    }


def record(
    *processings: dict[str, Any],
    answers: tuple[dict[str, Any], ...] = (),
    late: int = 0,
    failures: dict[tuple[str, str], list[str]] | None = None,
) -> Record:
    """Return a record of a graph whose product B is due after 5 s."""
    return Record(
        processings=processings,
        report={"answers": {"items": answers}, "products": [{"product": "B", "late": late}]},
        products={"B": {"due": 5.0}},
        failures=failures or {},
    )


def alert(requested: str | None, created: str = "2026-11-29T12:00:02Z") -> dict[str, Any]:
    return processing("B", "new", **{"class": "alert"}, created=created, requested=requested)


def of_campaign(requested: str | None, provider: str = "maker") -> dict[str, Any]:
    return processing("B", "old", campaign=1, requested=requested, provider=provider)


def test_nothing_is_told_of_a_record_without_anything() -> None:
    assert [told(record()) for told in SITUATIONS.values()] == [None] * len(SITUATIONS)


def test_an_alert_that_is_requested_before_what_waited_for_longer_has_overtaken_it() -> None:
    waited = of_campaign("2026-11-29T12:00:04Z")
    told = overtaking(record(alert("2026-11-29T12:00:03Z"), waited))
    assert told == (
        "B of new (alert) went before 1 processing of campaign 1 that had waited for longer"
    )


@pytest.mark.parametrize(
    "other",
    [
        of_campaign("2026-11-29T12:00:02.5Z"),
        of_campaign(None),
        of_campaign("2026-11-29T12:00:04Z", provider="another"),
        processing("B", "old", requested="2026-11-29T12:00:04Z"),
    ],
    ids=["requested before", "never requested", "at another provider", "of no campaign"],
)
def test_an_alert_has_overtaken_nothing_that_it_did_not_go_before(other: dict[str, Any]) -> None:
    assert overtaking(record(alert("2026-11-29T12:00:03Z"), other)) is None


def test_an_alert_that_was_there_first_has_overtaken_nothing() -> None:
    early = alert("2026-11-29T12:00:03Z", created="2026-11-29T11:59:59Z")
    assert overtaking(record(early, of_campaign("2026-11-29T12:00:04Z"))) is None


def test_a_processing_that_was_killed_is_told_with_the_attempt_that_made_its_product() -> None:
    again = processing("B", attempt=2)
    killed = {("B", "o1"): ["failed: killed by signal 9 (SIGKILL)"]}
    told = remaking(record(again, failures=killed))
    assert told == "B of o1 was killed by signal 9 in attempt 1, and made in attempt 2"


def test_another_attempt_for_another_reason_is_no_kill() -> None:
    again = processing("B", attempt=2)
    assert remaking(record(again, failures={("B", "o1"): ["failed: ValueError"]})) is None


def test_a_product_of_preliminary_and_then_final_inputs_was_improved() -> None:
    first = processing("B", stage="preliminary")
    second = processing("B", stage="final", created="2026-11-29T12:00:09Z")
    told = improvement(record(second, first))
    assert told == "B of o1 was made from preliminary A, and again once the final one was there"
    assert improvement(record(first)) is None
    assert improvement(record(first, processing("B", "o2", created="2026-11-29T12:00:09Z"))) is None


def test_an_approval_is_told_with_who_gave_it_and_why() -> None:
    answer = {
        "verdict": "approved",
        "product": "B",
        "obs_id": "o1",
        "by": "operator ann (claimed)",
        "reason": "fit",
    }
    told = approval(record(processing("B"), answers=(answer,)))
    assert told == "B of o1 waited until operator ann (claimed) approved it: fit"
    assert approval(record(answers=(answer,))) is None
    assert approval(record(processing("B"), answers=(answer | {"verdict": "refused"},))) is None


def test_a_late_product_is_told_with_when_it_was_due() -> None:
    told = lateness(record(late=1))
    assert told == "B was late for 1 observation: due 5 s after the first input"


def test_the_product_of_most_tiles_is_told() -> None:
    tiled = processing("B", progress={"done": 24, "total": 24})
    assert filling(record(processing("C"), tiled)) == "B of o1 was made of 24 tiles"
    assert filling(record(processing("C"))) is None


def test_what_did_not_happen_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_situations({"tiles fill": "24 tiles"})
    assert not print_situations({"tiles fill": "24 tiles", "a product is late": None})
    assert "a product is late: did not happen" in capsys.readouterr().out
