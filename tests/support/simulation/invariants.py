"""What must hold once all has settled, whatever has happened; read from the databases alone."""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from batuta.messaging import subjects
from tests.support.simulation.maker import digest_of
from tests.support.simulation.plan import CONDUCTOR, MAKER, SDB

if TYPE_CHECKING:
    from tests.support.simulation.orchestra import Orchestra

Row = Mapping[str, Any]

MADE_FROM: Final = {
    "LEVEL1": ("RAW",),
    "LEVEL2": ("LEVEL1", "AUX"),
    "SUMMARY": ("AUX",),
}
"""The mandatory inputs of what is made."""
REMADE: Final = ("LEVEL1", "LEVEL2")
"""What is made again from a newer version of an input."""


def unsettled(orchestra: "Orchestra") -> list[str]:
    """Return what is still under way."""
    found = []
    if waiting := len(_rows(orchestra, SDB, "SELECT id FROM outbox")):
        found.append(f"{waiting} announcements wait in the outbox")
    for name, table in ((CONDUCTOR, "conductor_processings"), (MAKER, "pipeline_processings")):
        rows = _rows(orchestra, name, f"SELECT * FROM {table} WHERE ended IS NULL")  # noqa: S608
        found += [f"{name}: {row['product']} of {row['obs_id']} is {row['state']}" for row in rows]
    return found


def count(orchestra: "Orchestra") -> int:
    """Return how many processings there were."""
    return len(_rows(orchestra, CONDUCTOR, "SELECT id FROM conductor_processings"))


def violations(orchestra: "Orchestra") -> list[str]:
    """Return what does not hold, a line each."""
    versions = _rows(orchestra, SDB, "SELECT * FROM products ORDER BY id")
    claims = {
        row["id"]: row for row in _rows(orchestra, CONDUCTOR, "SELECT * FROM conductor_processings")
    }
    return [
        *_lost(orchestra, versions),
        *_sent_again(orchestra, versions),
        *_not_once(versions, claims),
        *_wrong_lineage(orchestra, versions, claims),
        *_not_made(versions),
        *_events_without_end(orchestra, versions),
    ]


def _lost(orchestra: "Orchestra", versions: list[Row]) -> Iterator[str]:
    """Nothing that was acknowledged is lost."""
    held = {(row["product"], row["obs_id"], row["version"]): row["sha256"] for row in versions}
    for each, version in orchestra.acknowledged:
        digest = _sha256(f"{each.obs_id} {each.content}")
        if held.get((each.product, each.obs_id, version)) != digest:
            yield f"lost: {each.product} of {each.obs_id}, acknowledged as version {version}"


def _sent_again(orchestra: "Orchestra", versions: list[Row]) -> Iterator[str]:
    """An input is one version, however often it was sent, unless another came in between."""
    planned = Counter((each.product, each.obs_id) for each in orchestra.plan.imports)
    held = Counter((row["product"], row["obs_id"]) for row in versions)
    for what, times in planned.items():
        if times == 1 and held[what] > 1:
            yield f"{what[0]} of {what[1]}: sent once or again, and {held[what]} versions"


def _not_once(versions: list[Row], claims: Mapping[str, Row]) -> Iterator[str]:
    """Each claim has made its product once, and only claims make products."""
    made = Counter(row["processing_id"] for row in versions if row["product"] in MADE_FROM)
    for processing_id, times in made.items():
        claim = claims.get(processing_id)
        if claim is None:
            yield f"made without a claim: processing {processing_id}"
        elif times > 1:
            yield f"{claim['product']} of {claim['obs_id']}: made {times} times for one claim"
    for claim in claims.values():
        what = f"{claim['product']} of {claim['obs_id']} ({claim['claim']})"
        if claim["state"] == "succeeded" and not made[claim["id"]]:
            yield f"{what}: believed to have succeeded, and not in the sdb"
        elif claim["state"] == "failed":
            yield f"{what}: failed after {claim['attempt']} attempts: {claim['error']}"
        elif claim["state"] == "cancelled" and made[claim["id"]]:
            yield f"{what}: cancelled, and in the sdb"


def _wrong_lineage(
    orchestra: "Orchestra", versions: list[Row], claims: Mapping[str, Row]
) -> Iterator[str]:
    """What is made is made from the versions that its record tells, which its claim named."""
    texts = {
        _sha256(f"{each.obs_id} {each.content}"): f"{each.obs_id} {each.content}"
        for each in orchestra.plan.imports
    }
    held: dict[tuple[str, str, int], str] = {}
    for row in versions:
        key = row["product"], row["obs_id"], row["version"]
        what = f"{row['product']} of {row['obs_id']}, version {row['version']}"
        inputs = {each["product"]: each["version"] for each in json.loads(row["inputs"])}
        if row["product"] in MADE_FROM:
            claim = claims.get(row["processing_id"])
            if claim is not None and inputs != json.loads(claim["inputs"]):
                yield f"{what}: made from {inputs}, claimed from {claim['inputs']}"
            parts = {
                name: held.get((name, row["obs_id"], version), "nothing")
                for name, version in inputs.items()
            }
            texts[_sha256(digest_of(row["product"], parts))] = digest_of(row["product"], parts)
        if row["sha256"] not in texts:
            yield f"{what}: its bytes are not what {inputs or 'the sender'} makes"
        held[key] = texts.get(row["sha256"], "")


def _not_made(versions: list[Row]) -> Iterator[str]:
    """All that can be made is made, from the newest."""
    newest: dict[tuple[str, str], Row] = {}
    for row in versions:
        newest[row["obs_id"], row["product"]] = row
    contents = {(row["product"], row["obs_id"], row["version"]): row["sha256"] for row in versions}
    for obs_id in sorted({row["obs_id"] for row in versions}):
        for product, inputs in MADE_FROM.items():
            made = newest.get((obs_id, product))
            given = [newest[obs_id, name] for name in inputs if (obs_id, name) in newest]
            if len(given) < len(inputs):
                continue
            if made is None:
                yield f"{product} of {obs_id}: not made"
            elif product in REMADE:
                yield from _not_from_newest(made, given, contents)
    summaries = Counter(row["obs_id"] for row in versions if row["product"] == "SUMMARY")
    for obs_id, times in summaries.items():
        if times > 1:
            yield f"SUMMARY of {obs_id}: made {times} times, to be made once"


def _not_from_newest(
    made: Row, given: list[Row], contents: Mapping[tuple[str, str, int], str]
) -> Iterator[str]:
    used = {each["product"]: each["version"] for each in json.loads(made["inputs"])}
    for row in given:
        name = row["product"]
        # The same bytes delivered again, as a sender that repeats does, make nothing new.
        if contents.get((name, made["obs_id"], used.get(name, 0))) != row["sha256"]:
            yield (
                f"{made['product']} of {made['obs_id']}: made from version {used.get(name)} of "
                f"{name}, the newest is {row['version']}"
            )


def _events_without_end(orchestra: "Orchestra", versions: list[Row]) -> Iterator[str]:
    """Every version is announced; of every event it is recorded what became of it."""
    messages = orchestra.server.streams[subjects.DATA_STREAM].messages
    told = Counter[tuple[Any, ...]]()
    for message in messages:
        try:
            data = json.loads(message.data)["data"]
        except ValueError:
            continue
        told[data["product"], data["obs_id"], data.get("version")] += 1
    for row in versions:
        if not told[row["product"], row["obs_id"], row["version"]]:
            yield (
                f"{row['product']} of {row['obs_id']}, version {row['version']}: never announced"
            )
    recorded = {
        row["sequence"]
        for row in _rows(orchestra, CONDUCTOR, "SELECT sequence FROM conductor_events")
    }
    for message in messages:
        if message.sequence not in recorded:
            yield f"event {message.sequence} on {message.subject}: nothing became of it"


def _rows(orchestra: "Orchestra", name: str, query: str) -> list[Row]:
    with closing(sqlite3.connect(orchestra.database(name))) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
