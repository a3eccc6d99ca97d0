"""Choosing what to request: whatever waits, only what can be taken is read."""

from batuta.conductor.database.statements import DUE, PENDING_AT
from tests.conductor.graphs import graph_of
from tests.conductor.harness import UNLIMITED, OpenLedger
from tests.support.query_plans import recorded

GRAPH = graph_of(
    ["A", "Z"],
    {
        "B": {"m_input": ["A"], "provider": "full", "class": "backfill"},
        "C": {"m_input": ["Z"], "provider": "free", "class": "alert"},
        "D": {"m_input": ["Z"], "provider": "other", "class": "backfill"},
    },
    {"full": {"max_concurrent": 1}},
)


def test_what_waits_is_found_by_class_and_provider_without_reading_all_of_it(
    open_ledger: OpenLedger,
) -> None:
    harness = open_ledger(GRAPH)
    harness.on_data(*(("A", f"o{number}", 1) for number in range(20)))
    values = {"work_class": "backfill", "provider": "full", "now": 1e12, "at_most": 5}
    with recorded(harness.engine) as statements, harness.engine.connect() as connection:
        found = connection.execute(PENDING_AT).all()
        assert [tuple(row)[:2] for row in found] == [("backfill", "full")]
        assert len(connection.execute(DUE, values).all()) == 5
    if harness.engine.dialect.name != "sqlite":
        return
    searches = ("(work_class=? AND provider>?)", "(work_class=? AND provider=?)")
    with harness.engine.connect() as connection:
        for each, search in zip(statements, searches, strict=True):
            explained = f"EXPLAIN QUERY PLAN {each.sql}"
            plan = [row[3] for row in connection.exec_driver_sql(explained, each.parameters)]
            assert any(f"conductor_due {search}" in step for step in plan), plan


def test_a_long_queue_at_a_full_provider_hides_nothing_of_others(open_ledger: OpenLedger) -> None:
    harness = open_ledger(GRAPH)
    assert len(harness.on_data(*(("A", f"o{number}", 1) for number in range(50)))) == 1
    taken = harness.on_data(*(("Z", f"o{number}", 1) for number in range(3)))
    assert sorted(each.product for each in taken) == ["C"] * 3 + ["D"] * 3
    assert harness.ledger.take_due(UNLIMITED) == []
