"""Whole orchestras in their own processes: started, killed, stopped."""

import asyncio
import contextlib
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nats
import psutil
import pytest

from batuta.sdb import SdbClient
from tests.support.orchestras import CommandProcess, OrchestraProcess, left_of
from tests.support.servers import NatsServer
from tests.support.waiting import eventually_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

URL = "http://127.0.0.1:5000/pipeline"
GRAPH = {
    "inputs": ["EclTmVhfAlert", "EclTmVhfHPLcurve"],
    "products": {
        "QPO_ECL": {"m_input": ["EclTmVhfAlert"], "o_input": [], "provider": "qpo", "url": URL},
        "LC_ECL": {"m_input": ["EclTmVhfHPLcurve"], "o_input": [], "provider": "lc", "url": URL},
        "T90_ECL": {"m_input": ["LC_ECL"], "o_input": ["QPO_ECL"], "provider": "lc", "url": URL},
        "REPORT": {
            "m_input": ["QPO_ECL", "T90_ECL"],
            "o_input": [],
            "provider": "report",
            "url": URL,
        },
    },
}
StartOrchestra = Callable[[dict[str, Any]], OrchestraProcess]


@pytest.fixture
def start_orchestra(tmp_path: Path) -> Iterator[StartOrchestra]:
    """Starts orchestras, and ends them after the test."""
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    started: list[OrchestraProcess] = []

    def start(config: dict[str, Any]) -> OrchestraProcess:
        started.append(OrchestraProcess(config, tmp_path))
        return started[-1]

    yield start
    for orchestra in started:
        orchestra.close()


def simulated(**options: object) -> dict[str, Any]:
    quick = {"wait_min_s": 0, "wait_max_s": 0.05, "failure": 0.2}
    return {
        "conductor": {"graph": "graph.json", "retry_wait_s": 0.2, "retry_wait_max_s": 5},
        "simulate": {**quick, **options},
    }


def announce_all(nats_url: str, observations: list[str]) -> None:
    async def send() -> None:
        client = await nats.connect(nats_url)
        for obs_id in observations:
            for product in GRAPH["inputs"]:
                event = {"product": product, "obs_id": obs_id}
                await client.publish("data.vhf", json.dumps(event).encode())
        await client.drain()

    asyncio.run(send())


def archived(sdb_url: str) -> Counter[tuple[str, str]]:
    """How many versions of each product of each observation there are."""
    with SdbClient(sdb_url) as sdb:
        return Counter((stored.product, stored.obs_id) for stored in sdb.list())


def test_100_observations_at_once_and_every_service_killed_give_each_product_once(
    start_orchestra: StartOrchestra,
) -> None:
    orchestra = start_orchestra(simulated())
    addresses = orchestra.addresses()
    observations = [f"sb{number:08}" for number in range(100)]
    expected = Counter((name, obs_id) for name in GRAPH["products"] for obs_id in observations)
    announce_all(addresses["nats"], observations)
    for share, victim in ((0.1, "simulate"), (0.3, "conductor"), (0.5, "sdb")):
        enough = share * len(expected)
        eventually_sync(lambda enough=enough: made(addresses["sdb"]) >= enough, 120)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        orchestra.kill_service(victim)
        orchestra.wait_for_line(f"{victim} killed by SIGKILL")
    eventually_sync(lambda: made(addresses["sdb"]) >= len(expected), 200)
    assert archived(addresses["sdb"]) == expected
    eventually_sync(lambda: set(states(addresses["conductor"])) == {"succeeded"}, 60)
    assert states(addresses["conductor"])["succeeded"] == len(expected)


def made(sdb_url: str) -> int:
    try:
        return len(archived(sdb_url))
    except httpx.HTTPError:
        return 0


def states(conductor_url: str) -> dict[str, int]:
    """How many processings are in each state, as /metrics tells it."""
    try:
        text = httpx.get(f"{conductor_url}/metrics").text
    except httpx.HTTPError:
        return {}
    lines = [line for line in text.splitlines() if line.startswith("batuta_processings{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}


def ports(addresses: dict[str, str]) -> set[int]:
    return {int(address.split(":")[2].split("/")[0]) for address in addresses.values()}


def check_end(orchestra: OrchestraProcess, number: int) -> None:
    """End an orchestra that has started by a signal; check that nothing of it is left."""
    addresses, family = orchestra.listed(), orchestra.family()
    assert len(family) >= 4
    assert len(listeners_of(orchestra, ports(addresses))) >= 4
    assert orchestra.end(number) == 130
    assert left_of(family) == []
    assert listeners_of(orchestra, ports(addresses)) == []


def listeners_of(orchestra: OrchestraProcess, wanted: set[int]) -> list[str]:
    """Return the commands of an orchestra that listen at some ports, whoever their parent is.

    Once it has ended, another orchestra, of a test beside this one, may listen there.
    """
    found = []
    for connection in psutil.net_connections("tcp"):
        port = getattr(connection.laddr, "port", None)  # an empty tuple if it is not bound
        if connection.status != psutil.CONN_LISTEN or port not in wanted:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(connection.pid)
            if process.environ().get("TMPDIR") == str(orchestra.temporary):
                found.append(" ".join(process.cmdline()))
    return found


def test_killed_it_leaves_no_process_and_its_products_are_there_after_a_restart(
    start_orchestra: StartOrchestra,
) -> None:
    first = start_orchestra(simulated())
    addresses = first.addresses()
    announce_all(addresses["nats"], ["sb1"])
    eventually_sync(lambda: made(addresses["sdb"]) == len(GRAPH["products"]), 60)
    # What happens is shown as it happens.
    eventually_sync(lambda: " sb1: REPORT v1 archived by report\n" in first.output)
    family = first.family()
    first.end(signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    second = start_orchestra(simulated())
    addresses = second.addresses()
    announce_all(addresses["nats"], ["sb1", "sb2"])
    eventually_sync(lambda: made(addresses["sdb"]) == 2 * len(GRAPH["products"]), 60)
    assert set(archived(addresses["sdb"]).values()) == {1}


def test_every_mistake_of_a_configuration_is_named_before_anything_starts(
    start_orchestra: StartOrchestra,
) -> None:
    orchestra = start_orchestra(
        {
            "conductor": {"graph": "nowhere.json", "retry_wait_s": -1},
            "sdb": {"prot": 8001},
            "pipelines": [{"use": "a:b", "max_concurrent": 0}, {}],
            "simulate": {"failure": 2},
        }
    )
    assert orchestra.wait() == 2
    for line in (
        "conductor.retry_wait_s: -1 given, more than 0 expected",
        "nowhere.json: not found",
        "sdb: the key 'prot' is unknown (did you mean 'port'?)",
        "pipelines[0].max_concurrent: 0 given, at least 1 expected",
        "pipeline 'a:b': no module 'a' found",
        'pipelines[1]: write "- use: MODULE:NAME", as in "- use: weather:pipeline"',
        "simulate.failure: 2 given, at most 1 expected",
    ):
        assert line in orchestra.output
    assert "Traceback" not in orchestra.output


def test_a_second_one_is_refused_its_port_and_folder_and_terminated_it_leaves_no_process(
    start_orchestra: StartOrchestra,
) -> None:
    first = start_orchestra(simulated())
    port = int(first.addresses()["sdb"].rpartition(":")[2])
    at_its_port = start_orchestra({**simulated(), "data_dir": "other", "sdb": {"port": port}})
    assert at_its_port.wait() == 2
    assert f"sdb: --port {port} on 127.0.0.1: Address already in use" in at_its_port.output
    assert "Traceback" not in at_its_port.output
    in_its_folder = start_orchestra(simulated())
    assert in_its_folder.wait() == 2
    assert "another orchestra is running in it" in in_its_folder.output
    assert first.process.poll() is None
    check_end(first, signal.SIGTERM)


def test_nats_whose_guard_is_killed_is_started_again_and_not_left_behind(
    start_orchestra: StartOrchestra,
) -> None:
    orchestra = start_orchestra(simulated())
    addresses = orchestra.addresses()
    (first,) = nats_servers(orchestra)
    guard = first.parent()
    assert guard is not None
    guard.kill()
    orchestra.wait_for_line("nats killed by SIGKILL")
    eventually_sync(lambda: nats_servers(orchestra) not in ([], [first]), 30)
    announce_all(addresses["nats"], ["sb1"])
    eventually_sync(lambda: made(addresses["sdb"]) == len(GRAPH["products"]), 60)
    check_end(orchestra, signal.SIGINT)
    assert left_of([first]) == []


def nats_servers(orchestra: OrchestraProcess) -> list[psutil.Process]:
    return [one for one in orchestra.family() if "nats-server" in (one.cmdline() or [""])[0]]


def test_ctrl_c_need_not_wait_for_the_sdb_that_a_conductor_waits_for(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    options = ["--port", "0", "--nats-url", shared_nats.url, "--sdb-url", "http://127.0.0.1:1"]
    conductor = CommandProcess(["conductor", "--graph", "graph.json", *options], tmp_path)
    eventually_sync(lambda: "retried for up to 60 s" in conductor.output, 30)
    conductor.process.send_signal(signal.SIGINT)
    # Far less than it would have gone on waiting.
    assert conductor.wait(timeout_s=15) == 0
    conductor.close()
