"""Lists and lineages."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from batuta.sdb import InputRef, SdbClient

ALL = [("A", "o1", 1), ("B", "o1", 1), ("A", "o2", 1), ("A", "o1", 2), ("B", "o1", 2)]


@pytest.fixture
def archive(sdb_on_each: str, make_file: Any) -> SdbClient:
    client = SdbClient(sdb_on_each, retry_for_s=10)
    for product, obs_id, version in ALL:
        client.import_file(make_file(b"%d" % version), product, obs_id)
    return client


def shown(**asked: Any) -> Any:
    return lambda client: [(p.product, p.obs_id, p.version) for p in client.list(**asked)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ALL),
        ({"latest": True}, ALL[2:]),
        ({"product": "A"}, [ALL[0], ALL[2], ALL[3]]),
        ({"product": "A", "obs_id": "o1", "latest": True}, [ALL[3]]),
        ({"obs_id": "nothing"}, []),
    ],
)
def test_products_are_listed_in_the_order_of_their_import(
    archive: SdbClient, asked: dict[str, Any], expected: list[tuple[str, str, int]]
) -> None:
    with archive:
        assert shown(**asked)(archive) == expected


def test_pages_follow_one_another_and_miss_nothing(archive: SdbClient, make_file: Any) -> None:
    seen: list[tuple[str, str, int]] = []
    cursor: Any = "0"
    with archive:
        while cursor is not None:
            page = httpx.get(f"{archive.url}/products", params={"limit": 2, "cursor": cursor})
            seen += [(p["product"], p["obs_id"], p["version"]) for p in page.json()["items"]]
            cursor = page.json()["next"]
            if len(seen) == 2:
                archive.import_file(make_file(b"y"), "C", "o3")
    assert seen == [*ALL, ("C", "o3", 1)]


@pytest.mark.parametrize(
    "query", ["cursor=abc", "limit=0", "limit=1001", "product=a%20b", "latest=perhaps"]
)
def test_a_wrong_question_is_refused_naming_what_was_asked(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/products?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["detail"]


def test_a_lineage_names_each_version_once_and_says_what_is_missing(
    sdb_on_each: str, make_file: Any
) -> None:
    path: Path = make_file(b"x")
    with SdbClient(sdb_on_each) as client:
        client.import_file(path, "EVT", "o1")
        for name in ("LC", "PDS"):
            client.import_file(path, name, "o1", inputs=[ref("EVT", 1), ref("GONE", 4)])
        top = client.import_file(path, "QPO", "o1", inputs=[ref("LC", 1), ref("PDS", 1)])
        lineage = client.lineage("QPO", "o1")
    assert [(node.product, node.version) for node in lineage.items] == [
        ("QPO", 1),
        ("LC", 1),
        ("PDS", 1),
        ("EVT", 1),
        ("GONE", 4),
    ]
    assert lineage.items[0].stored == top
    assert [node.product for node in lineage.items if node.stored is None] == ["GONE"]


def ref(product: str, version: int) -> InputRef:
    return InputRef(product=product, version=version)
