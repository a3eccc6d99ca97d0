"""An import sent again is answered with its version; what says anything else is a new one."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from batuta.messaging import DataAvailable
from batuta.sdb.service import open_sdb
from tests.sdb.archives import picture
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_outbox import announced
from tests.support.servers import NatsServer
from tests.support.services import serving

Send = Callable[[httpx.Client, bytes], httpx.Response]
LARGE = b"large" * 20_000
"""Kept in the store."""


def send_form(http: httpx.Client, content: bytes, **fields: Any) -> httpx.Response:
    files = {"file": ("a.fits", content, "application/fits")}
    given = {"product": "A", "obs_id": "o1", **fields}
    if "quicklook" in given:
        files["quicklook"] = ("q", given.pop("quicklook"), "image/png")
    return http.post("/products", data=given, files=files)


def send_body(http: httpx.Client, content: bytes, **fields: Any) -> httpx.Response:
    headers = {"Content-Type": fields.pop("media_type", "application/fits")}
    params = {"filename": "a.fits", **fields}
    return http.post("/products/A/o1", content=content, params=params, headers=headers)


SAID = {
    "metadata": json.dumps({"bin_s": 0.5, "n": 1, "of": [1, {"a": None}]}),
    "provider": "maker",
    "inputs": json.dumps([{"product": "EVT", "version": 1}]),
    "stage": "preliminary",
    "code": "1.0",
    "graph_version": "g1",
}


def answers(url: str, *sends: Send) -> list[tuple[int, int]]:
    """The status of each import, and the version that it is answered with."""
    with httpx.Client(base_url=url, timeout=30) as http:
        results = [each(http, b"") for each in sends]
        listed = http.get("/products?obs_id=o1").json()["items"]
    assert [each["version"] for each in listed] == sorted({r.json()["version"] for r in results})
    return [(each.status_code, each.json()["version"]) for each in results]


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_the_same_by_any_door_is_answered_with_its_version(
    sdb_on_each: str, content: bytes
) -> None:
    with httpx.Client(base_url=sdb_on_each, timeout=30) as http:
        first = send_form(http, content, **SAID)
        assert (first.status_code, first.json()["version"]) == (201, 1)
        for again in (send_form(http, content, **SAID), send_body(http, content, **SAID)):
            assert (again.status_code, again.json()) == (200, first.json())
            assert again.headers["location"] == first.headers["location"]
        # How urgent what follows is, and an attempt of no processing, are in no record.
        more = {**SAID, "class": "alert", "attempt": "2"}
        assert send_body(http, content, **more).json() == first.json()
        assert "batuta_sdb_repeated_imports_total 3.0" in http.get("/metrics").text


@pytest.mark.parametrize(
    "other",
    [
        {"metadata": json.dumps({"bin_s": 0.5, "n": 1, "of": [1, {"a": 0}]})},
        # Equal in Python, and not the same.
        {"metadata": json.dumps({"bin_s": 0.5, "n": True, "of": [1, {"a": None}]})},
        {"metadata": json.dumps({"bin_s": 0.5, "n": 1, "of": [1.0, {"a": None}]})},
        {"provider": "other"},
        {"inputs": json.dumps([{"product": "EVT", "version": 2}])},
        {"stage": "2"},
        {"code": "1.1"},
        {"graph_version": "g2"},
        {"filename": "b.fits"},
        {"media_type": "text/plain"},
        {"processing_id": "p1"},
    ],
    ids=str,
)
def test_what_says_anything_else_is_a_version_of_its_own(
    sdb_url: str, other: dict[str, str]
) -> None:
    assert answers(
        sdb_url,
        lambda http, _: send_body(http, b"same", **SAID),
        lambda http, _: send_body(http, b"same", **{**SAID, **other}),
    ) == [(201, 1), (201, 2)]


def test_processings_that_make_the_same_bytes_have_a_version_each(sdb_on_each: str) -> None:
    """A reprocessing is followed by its version, whatever it makes."""
    by_hand: dict[str, str] = {}
    p1, p2 = {"processing_id": "p1"}, {"processing_id": "p2"}
    asked = (p1, p2, by_hand, by_hand, p1, p2)
    assert answers(
        sdb_on_each, *(lambda http, _, said=said: send_body(http, b"x", **said) for said in asked)
    ) == [(201, 1), (201, 2), (201, 3), (200, 3), (200, 1), (200, 2)]


def test_what_is_not_the_newest_or_was_withdrawn_is_imported_anew(sdb_on_each: str) -> None:
    def send(content: bytes) -> Send:
        return lambda http, _: send_body(http, content)

    def withdraw(http: httpx.Client, _: bytes) -> httpx.Response:
        return http.delete("/products/A/o1/versions/3")

    with httpx.Client(base_url=sdb_on_each) as http:
        steps = (send(b"x"), send(b"y"), send(b"x"), send(b"x"), withdraw, send(b"x"), send(b"x"))
        results = [step(http, b"") for step in steps]
    assert [(each.status_code, each.json()["version"]) for each in results] == [
        *((201, 1), (201, 2), (201, 3), (200, 3)),
        *((200, 3), (201, 4), (200, 4)),
    ]


def test_the_newest_of_its_stage_is_repeated(sdb_on_each: str) -> None:
    """A preliminary version that comes after the final one is sent again as well."""
    stages = ("final", "preliminary", "preliminary", "final", "2", "preliminary")
    assert answers(
        sdb_on_each,
        *(lambda http, _, stage=stage: send_body(http, b"x", stage=stage) for stage in stages),
    ) == [(201, 1), (201, 2), (200, 2), (200, 1), (201, 3), (200, 2)]


@pytest.mark.parametrize("large", [False, True], ids=["small picture", "large picture"])
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_picture_is_part_of_what_is_said(sdb_url: str, content: bytes, *, large: bool) -> None:
    one, other = picture(large=large), picture("WEBP", (50, 40))

    def send(**given: bytes) -> Send:
        return lambda http, _: send_form(http, content, **given)

    asked = (send(quicklook=one), send(quicklook=one), send(quicklook=other), send(), send())
    assert answers(sdb_url, *asked) == [(201, 1), (200, 1), (201, 2), (201, 3), (200, 3)]


async def test_a_repeat_is_announced_no_more_and_its_version_surely(
    own_nats: NatsServer, make_settings: MakeSettings
) -> None:
    with serving(open_sdb, make_settings(nats_url=own_nats.url)) as url:
        own_nats.stop()
        with httpx.Client(base_url=url) as http:
            for content in (b"x", b"x", b"y", b"y"):
                assert send_body(http, content).is_success
        own_nats.start()
        events = await announced(own_nats, 2)
    versions = [DataAvailable.model_validate(each.data).version for each in events]
    assert versions == [1, 2]
