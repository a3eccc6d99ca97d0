"""What must hold at the end, whatever has happened."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors

from batuta.messaging import subjects
from tests.support.chaos import graph, pipelines
from tests.support.chaos.orchestra import Orchestra
from tests.support.chaos.processes import left_of
from tests.support.chaos.records import Records, Row, in_words
from tests.support.chaos.sender import obs_id

MAX_TOLD: Final = 40
_TRACEBACK: Final = re.compile(r"^Traceback \(most recent call last\):", re.MULTILINE)

Key = tuple[str, str]
"""A product and an observation."""


@dataclass(frozen=True)
class Made:
    """What an orchestra was to make, and has."""

    graph: Mapping[str, graph.Made]
    observations: list[str]
    versions: list[Row]
    claims: dict[str, Row]


def read(orchestra: Orchestra, records: Records) -> Made:
    """Read what was made."""
    size = orchestra.plan.size
    return Made(
        graph.products(size.products, orchestra.topology.providers),
        [obs_id(number) for number in range(size.observations)],
        records.versions(),
        {row["id"]: row for row in records.claims()},
    )


def violations(records: Records, made: Made) -> list[str]:
    """Return what does not hold in the records of all services, a line each."""
    under_way = [f"under way for ever: {each}" for each in records.counts().under_way]
    return [*under_way, *of_records(made)]


def of_records(made: Made) -> list[str]:
    """Return what is wrong with what was made: how often, by whom, from what, its bytes."""
    return [*_not_once(made), *_not_claimed_once(made), *_wrong(made)]


def _not_once(made: Made) -> Iterator[str]:
    """Every product of every observation is there, in one version."""
    found = Counter((row["product"], row["obs_id"]) for row in made.versions)
    wanted = {(name, each) for name in (*graph.INPUTS, *made.graph) for each in made.observations}
    for product, observation in sorted(wanted | found.keys()):
        times = found[product, observation]
        if (product, observation) not in wanted:
            yield f"{product} of {observation}: nobody wants it"
        elif times != 1:
            yield f"{product} of {observation}: {times} versions, to be made once"


def _not_claimed_once(made: Made) -> Iterator[str]:
    """Each version is that of the one processing of its product, which has succeeded."""
    claimed = Counter((row["product"], row["obs_id"]) for row in made.claims.values())
    for name in made.graph:
        for each in made.observations:
            if claimed[name, each] != 1:
                yield f"{name} of {each}: claimed {claimed[name, each]} times"
    yield from in_words(row for row in made.claims.values() if row["state"] != "succeeded")
    for row in made.versions:
        if row["product"] not in made.graph:
            continue
        claim = made.claims.get(row["processing_id"])
        if claim is None or (claim["product"], claim["obs_id"]) != (row["product"], row["obs_id"]):
            yield f"{row['product']} of {row['obs_id']}: made without a claim"
        elif claim["inputs"] != _inputs(row):
            yield (
                f"{row['product']} of {row['obs_id']}: made from {_inputs(row)}, claimed from "
                f"{claim['inputs']}"
            )


def _wrong(made: Made) -> Iterator[str]:
    """What is there is what the functions make of what the lineage names."""
    digests: dict[tuple[str, str, int], str] = {}
    for row in made.versions:
        product, observation = row["product"], row["obs_id"]
        inputs = _inputs(row)
        given = {
            name: digests.get((name, observation, version), "nothing")
            for name, version in inputs.items()
        }
        expected = graph.digest(graph.content_of(product, observation, given))
        digests[product, observation, row["version"]] = expected
        if row["sha256"] != expected:
            yield f"{product} of {observation}: its bytes are not what {inputs} make"
        if (each := made.graph.get(product)) is not None:
            names, needed = set(inputs), set(each.mandatory)
            if not needed <= names <= needed | set(each.optional):
                yield f"{product} of {observation}: made from {sorted(names)}"


def _inputs(row: Row) -> dict[str, int]:
    return {each["product"]: each["version"] for each in row["inputs"]}


async def of_nats(orchestra: Orchestra) -> list[str]:
    """Return what NATS still holds that it should not: what nobody has read, dead letters."""
    client = await nats.connect(orchestra.nats_url)
    try:
        jetstream = client.jetstream()
        found = []
        for name in (subjects.DATA_STREAM, subjects.ACTIVITY_STREAM):
            found += [
                f"{each.name} of {name}: {each.num_pending} not delivered, "
                f"{each.num_ack_pending} not acknowledged"
                for each in await jetstream.consumers_info(name)
                if each.num_pending or each.num_ack_pending
            ]
        dead = (await jetstream.stream_info(subjects.DEAD_STREAM)).state.messages
    except (nats.errors.Error, nats.js.errors.Error) as exc:
        return [f"NATS: {exc}"]
    finally:
        await client.close()
    return [*found, f"{dead} dead letters"] if dead else found


def of_processes(orchestra: Orchestra, codes: Mapping[str, int | None]) -> list[str]:
    """Return what is wrong with how services have ended, and what is left of them."""
    found = [f"{name}: did not end when asked to" for name, code in codes.items() if code is None]
    # 130: a service that was asked to end tells that it was, as a shell does.
    found += [
        f"{name}: ended with code {code}: {orchestra.services[name].last_line()}"
        for name, code in codes.items()
        if code not in {None, 0, 1, 130, 143} or (code == 1 and name != "nats")
    ]
    config = str(orchestra.folder / "pipelines.json")
    for process in left_of(pipelines.VARIABLE, config):
        found.append(f"left behind: {process.pid} {' '.join(process.cmdline())[:200]}")
        process.kill()
    return found


def of_logs(orchestra: Orchestra) -> list[str]:
    """Return what services did not expect: tracebacks in their logs."""
    found = []
    for name, service in orchestra.services.items():
        text = service.log.read_text(errors="replace")
        if number := len(_TRACEBACK.findall(text)):
            found.append(f"{name}: {number} tracebacks in {service.log}")
    return found


def of_store(orchestra: Orchestra, records_url: str) -> list[str]:
    """Return what `batuta sdb check` finds: every digest, and bytes that no record names."""
    arguments = [
        *("sdb", "check", f"--database-url={records_url}", f"--store-url={orchestra.store_url}"),
        f"--scratch-folder={orchestra.folder / 'scratch'}",
    ]
    code, output = _batuta(orchestra, *arguments)
    return [] if code == 0 else [f"batuta sdb check: {line}" for line in output.splitlines()]


def why(orchestra: Orchestra, product: str, observation: str) -> str:
    """Return what the conductor says of a product; it must still run."""
    port = orchestra.ports[orchestra.topology.conductors[0]]
    url = f"--conductor-url=http://127.0.0.1:{port}"
    return _batuta(orchestra, "why", product, observation, url)[1]


def _batuta(orchestra: Orchestra, *arguments: str) -> tuple[int, str]:
    environment: dict[str, Any] = {**os.environ, **orchestra.store_environment}
    ran = subprocess.run(
        [sys.executable, "-m", "batuta", *arguments],
        cwd=Path(orchestra.folder),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr
