"""Failures, grouped by provider and by what their errors have in common."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.conductor.database.operations.order_sets import SetFilters
from batuta.conductor.database.views.failure_views import FailureGroup, FailureViews
from batuta.conductor.decisions.failures import MAX_LENGTH, kind_of_error
from batuta.conductor.decisions.rules import Arrival
from batuta.messaging import ProcessingState as State
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, Harness, OpenLedger

GRAPH = graph_of(
    ["A"],
    {
        "B": {"m_input": ["A"], "max_attempts": 1},
        "C": {"m_input": ["A"], "max_attempts": 1},
        "D": {"m_input": ["A"], "max_attempts": 1, "provider": "other"},
        "E": {"m_input": ["A"], "max_attempts": 9},
    },
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, ""),
        ("no luck", "no luck"),
        ("no luck\n  at all", "no luck at all"),
        ("tile 12 of 400 lacks 3.5e2 MB", "tile # of # lacks #e# MB"),
        ("o-7: nothing to fit", "#: nothing to fit"),
        ("o-77: nothing to fit", "o-#: nothing to fit"),
        ("id-1 of o-7 twice: o-7", "# of # twice: #"),
        ("no 0d1f6d3e-5a5e-4b7c-9a60-0f1a2b3c4d5e", "no #"),
        ("sha256 9f86d081884c7d65 differs", "sha# # differs"),
        ("at 0x7ffee4", "at #"),
        ("/scratch/tmpab_x7k1q/a.tif: not found", "/scratch/#/a.tif: not found"),
        ("127.0.0.1:8003 does not answer", "# does not answer"),
        ("ended with exit status 137", "ended with exit status 137"),
        ("HTTP 503 after 12 s", "HTTP 503 after # s"),
        ("code 123456", "code #"),
        ("a b c deadbeef", "a b c deadbeef"),
    ],
)
def test_like_errors_are_of_one_kind(error: str | None, kind: str) -> None:
    assert kind_of_error(error, ("id-1", "o-7")) == kind
    assert kind_of_error(kind, ("id-1", "o-7")) == kind


@given(
    st.lists(st.sampled_from(["o-7", "o", "-", "7", " ", "\u00e9", "_", ":", "."]), max_size=12),
    st.sampled_from(["o-7", "o", "-", "7.", "", "\u00e9"]),
)
def test_a_name_is_left_out_wherever_it_is_a_word(parts: list[str], name: str) -> None:
    text = "".join(parts)
    found = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
    expected = re.sub(found, "#", " ".join(text.split())) if name else text
    assert kind_of_error(text, [name]) == kind_of_error(expected)


def test_a_kind_is_bounded() -> None:
    assert len(kind_of_error("no luck " * 1000)) == MAX_LENGTH


@pytest.fixture
def harness(open_ledger: OpenLedger) -> Harness:
    """B fails for three observations and two reasons, D for one; E is tried again."""
    harness = open_ledger(GRAPH)
    errors = {
        "B/o1": "tile 4 of o1: no luck",
        "B/o2": "tile 17 of o2: no luck",
        "B/o3": "out of memory",
        "C/o1": "tile 1 of o1: no luck",
        "D/o1": "out of memory",
        "E/o1": "tile 2 of o1: no luck",
    }
    arrivals = [Arrival("A", f"o{number}", 1) for number in (1, 2, 3)]
    for request in harness.take(arrivals, UNLIMITED):
        error = errors.get(f"{request.product}/{request.obs_id}")
        if error is not None:
            harness.report(request, State.FAILED, error=error)
    return harness


def told(groups: list[FailureGroup]) -> list[tuple[str, str, int, int, dict[str, int]]]:
    return [
        (each.provider, each.kind, each.failed, each.retrying, each.products) for each in groups
    ]


NO_LUCK = ("maker", "tile # of #: no luck", 3, 1, {"B": 2, "C": 1, "E": 1})
NO_MEMORY = ("maker", "out of memory", 1, 0, {"B": 1})
AT_OTHER = ("other", "out of memory", 1, 0, {"D": 1})


def test_failures_are_grouped_and_counted(harness: Harness) -> None:
    views = FailureViews(harness.engine)
    page = views.page(None, 10)
    by_kind = sorted(told(page.items), key=lambda each: each[:2])
    assert by_kind == sorted([NO_LUCK, NO_MEMORY, AT_OTHER], key=lambda each: each[:2])
    assert page.next is None
    assert told(views.page("other", 10).items) == [AT_OTHER]
    group = views.page("other", 1).items[0]
    example = harness.views.processing(group.example)
    assert example is not None
    assert (example.product, example.error) == ("D", group.error)
    assert group.since == group.latest == example.ended


def test_pages_of_failures_have_each_group_once(harness: Harness) -> None:
    views = FailureViews(harness.engine)
    found, cursor = [], None
    while True:
        page = views.page(None, 1, cursor)
        found += told(page.items)
        assert len(page.items) == 1
        if (cursor := page.next) is None:
            break
    assert found == told(views.page(None, 10).items)


@pytest.mark.parametrize("cursor", ["", "1", "[1, 2]", '["maker"]', "{}", "null"])
def test_a_cursor_that_no_page_had_is_refused(harness: Harness, cursor: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        FailureViews(harness.engine).page(None, 1, cursor)


def test_what_succeeds_again_leaves_its_group(harness: Harness) -> None:
    items = harness.views.processings({"product": "D", "state": "failed"}, 10, None).items
    harness.ledger.operations.retry(items[0].id)
    assert "other" not in [
        each.provider for each in FailureViews(harness.engine).page(None, 9).items
    ]


def test_an_order_is_given_for_a_group(harness: Harness) -> None:
    columns = {"provider": "maker", "error_kind": NO_LUCK[1]}
    filters = SetFilters(columns=columns, states=[State.FAILED])
    assert harness.ledger.order_sets.select(filters).by_product == {"B": 2, "C": 1}
    listed = harness.views.processings({**columns, "state": "retrying"}, 10, None).items
    assert [each.product for each in listed] == ["E"]


def test_an_error_that_looks_like_a_pattern_selects_itself_alone(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    arrivals = [Arrival("A", "o1", 1), Arrival("A", "o2", 1)]
    for request in harness.take(arrivals, UNLIMITED):
        error = "no *.tif" if request.obs_id == "o1" else "no big.tif"
        harness.report(request, State.FAILED, error=error)
    columns = {"product": "B", "error_kind": "no *.tif"}
    assert (
        harness.ledger.order_sets.select(SetFilters(columns=columns, states=[State.FAILED])).total
        == 1
    )
