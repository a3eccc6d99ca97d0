"""Requests made from each service's own description of its interface: none is a fault of ours.

``make fuzz`` makes many more of them.
"""

import gc
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from http import HTTPStatus
from typing import Any, Final

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.core.result import Err

from batuta.conductor import ConductorSettings
from batuta.conductor.service import open_conductor
from batuta.pipeline.simulate import SimulateSettings
from batuta.pipeline.simulate.service import open_simulate
from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer
from tests.support.services import serving

# Of these it would send nothing at all.
schemathesis.serializer.alias("application/x-ndjson", "text/plain")
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

Operation = schemathesis.APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]

REQUESTS: Final = int(os.environ.get("BATUTA_FUZZ_REQUESTS", "1"))
"""To each operation, as its description says; and as many that it does not allow."""
ANSWER_S: Final = 60.0
GRAPH: Final = {
    "inputs": ["A"],
    "products": {
        "B": {"m_input": ["A"], "o_input": [], "provider": "maker", "url": "http://127.0.0.1:1"}
    },
}


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory, shared_nats: NatsServer
) -> Iterator[Mapping[str, str]]:
    """The address of each service."""
    folder = tmp_path_factory.mktemp("fuzzed")
    graph = folder / "graph.json"
    graph.write_text(json.dumps(GRAPH))
    common: dict[str, Any] = {"port": 0, "nats_url": shared_nats.url}
    sdb = SdbSettings(
        **common,
        database_url=migrated_sqlite(folder / "sdb.db"),
        store_url=str(folder / "products"),
    )
    simulate = SimulateSettings(**common, graph=graph, data_dir=folder / "simulate")
    with serving(open_sdb, sdb) as sdb_url, serving(open_simulate, simulate) as pipeline_url:
        conductor = ConductorSettings(
            **common,
            graph=graph,
            sdb_url=sdb_url,
            database_url=migrated_sqlite(folder / "conductor.db"),
        )
        with serving(open_conductor, conductor) as conductor_url:
            yield {"sdb": sdb_url, "conductor": conductor_url, "pipeline": pipeline_url}


def is_endless(operation: Operation) -> bool:
    """Return whether an operation answers with events for as long as they are read."""
    responses = operation.definition.raw.get("responses", {}).values()
    return any("text/event-stream" in each.get("content", {}) for each in responses)


# The client of schemathesis leaves to the garbage collector what a service has closed early.
@pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")
@pytest.mark.timeout(0 if REQUESTS > 10 else 300)
@pytest.mark.parametrize("service", ["sdb", "conductor", "pipeline"])
def test_no_request_that_the_description_gives_rise_to_is_a_fault_of_the_service(
    services: Mapping[str, str], service: str
) -> None:
    schema = schemathesis.openapi.from_url(f"{services[service]}/openapi.json")
    faults: list[str] = []
    asked = 0
    with requests.Session() as session:
        for found in schema.get_all_operations():
            if isinstance(found, Err):
                raise found.err()
            operation = found.ok()
            if not is_endless(operation):
                asked += 1
                faults += faults_of(operation, session)
    gc.collect()  # here, and not in a test that comes later
    assert faults == []
    assert asked > 10
    assert httpx.get(f"{services[service]}/health", timeout=ANSWER_S).is_success


def faults_of(operation: Operation, session: requests.Session) -> list[str]:
    """Return the requests that were answered by a 5xx, as commands that repeat them."""
    faults: list[str] = []
    for mode in schemathesis.GenerationMode:

        @hypothesis.settings(
            max_examples=REQUESTS,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            response = case.call(session=session, timeout=ANSWER_S)
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                faults.append(f"{response.status_code}: {case.as_curl_command()}")

        # Of an operation without parameters, no request is forbidden.
        allowed = mode is schemathesis.GenerationMode.POSITIVE
        with nullcontext() if allowed else suppress(hypothesis.errors.Unsatisfiable):
            ask()
    return faults
