"""A pipeline, or what it needs, is killed at any moment: each product is archived once."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest

from batuta.messaging import (
    Activity,
    Bus,
    Consumer,
    ConsumerSpec,
    Delivery,
    NatsConfig,
    Processing,
    Rejection,
    connect,
    decode_activity,
    subjects,
)
from batuta.sdb import SdbClient, SdbSettings
from tests.pipeline.conftest import StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess, Record, alive, read
from tests.support.databases import migrated_sqlite
from tests.support.servers import NatsServer, free_port
from tests.support.services import ServiceProcess
from tests.support.waiting import eventually, eventually_sync


@pytest.fixture
async def listener(shared_nats: NatsServer) -> AsyncIterator[Bus]:
    """A connection to the NATS of the services."""
    async with connect(NatsConfig(url=shared_nats.url), "test") as bus:
        yield bus


def test_a_killed_service_resumes_all_requests(
    own_service: PipelineProcess, sdb: SdbClient, obs_id: str
) -> None:
    records = [own_service.post("WORKS", f"{obs_id}-{number}") for number in range(5)]
    old = read(own_service.stage / "pids")
    own_service.kill()
    eventually_sync(lambda: not alive(old))
    (own_service.stage / "go on").touch()
    own_service.start()
    for record in records:
        assert own_service.end_of(record)["state"] == "succeeded"
    stored = [(each.obs_id, each.version) for each in sdb.list("WORKS")]
    assert sorted(each for each in stored if each[0].startswith(obs_id)) == [
        (f"{obs_id}-{number}", 1) for number in range(5)
    ]
    assert list((own_service.settings.folder("") / "work").iterdir()) == []


def test_a_stopped_service_leaves_no_process_and_resumes(own_service: PipelineProcess) -> None:
    record = own_service.post("WORKS")
    pids = read(own_service.stage / "pids")
    assert own_service.stop() == 0
    assert alive(pids) == []
    (own_service.stage / "go on").touch()
    own_service.start()
    assert own_service.end_of(record)["state"] == "succeeded"


def test_a_killed_warden_is_a_failure_and_its_worker_does_not_stay(
    service: PipelineProcess,
) -> None:
    record = service.post("WORKS")
    pids = read(service.stage / "pids")
    os.kill(psutil.Process(int(pids.split()[0])).ppid(), signal.SIGKILL)
    ended = service.end_of(record)
    assert ended["state"] == "failed"
    assert "lost: warden process killed by signal 9 (SIGKILL)" in ended["error"]
    assert alive(pids) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a warden is killed with its worker on Linux")
def test_processes_left_without_supervisor_are_killed_by_the_next_service(
    own_service: PipelineProcess, sdb: SdbClient, obs_id: str
) -> None:
    record = own_service.post("WORKS", obs_id)
    pids = read(own_service.stage / "pids")
    warden = psutil.Process(int(pids.split()[0])).ppid()
    os.kill(warden, signal.SIGSTOP)  # so that it does not see the service's end
    own_service.kill()
    os.kill(warden, signal.SIGKILL)
    assert len(alive(pids)) >= 2
    (own_service.stage / "go on").touch()
    own_service.start()
    assert alive(pids) == []
    assert own_service.end_of(record)["state"] == "succeeded"
    assert [each.version for each in sdb.list("WORKS", obs_id=obs_id)] == [1]


def test_a_killed_fork_server_costs_only_what_runs(own_service: PipelineProcess) -> None:
    record = own_service.post("WORKS")
    pids = read(own_service.stage / "pids")
    warden = psutil.Process(int(pids.split()[0])).ppid()
    os.kill(psutil.Process(warden).ppid(), signal.SIGKILL)
    ended = own_service.end_of(record)
    assert ended["state"] == "failed"
    assert ended["error"].startswith("lost: warden process")
    eventually_sync(lambda: not alive(pids))
    assert own_service.make("MANY")["state"] == "succeeded"


def test_an_unreachable_sdb_is_waited_for(
    start_pipeline: StartPipeline, shared_nats: NatsServer, tmp_path: Path
) -> None:
    port = free_port()
    settings = SdbSettings(
        port=port,
        nats_url=shared_nats.url,
        database_url=migrated_sqlite(tmp_path / "sdb.db"),
        store_url=str(tmp_path / "store"),
    )
    sdb = ServiceProcess("batuta.sdb:run", settings)
    service = start_pipeline(sdb_url=f"http://127.0.0.1:{port}")
    record = service.post("COPY")
    eventually_sync(lambda: "cannot be reached" in service.log(record))
    url = sdb.start()
    try:
        with SdbClient(url) as client:
            # There is no EVENTS yet: the processing may find that before it comes.
            error = service.end_of(record)["error"]
            assert error.startswith("input EVENTS: the sdb has none for obs_id sb1")
            waiting = service.post("WAITS")
            read(service.stage / "entered")
            sdb.kill()
            (service.stage / "go on").touch()
            eventually_sync(lambda: "cannot be reached" in service.log(waiting))
            sdb.start()
            assert service.end_of(waiting)["state"] == "succeeded"
            assert [each.version for each in client.list("WAITS")] == [1]
    finally:
        sdb.kill()


async def test_every_state_is_published_on_the_activity_of_the_provider(
    service: PipelineProcess, listener: Bus
) -> None:
    received: list[Processing] = []

    async def hear(deliveries: Sequence[Delivery[Activity]]) -> list[Rejection[Activity]]:
        received.extend(each.event.processing for each in deliveries if each.event.processing)
        return []

    async def published(record: Record, state: str, done: int) -> None:
        async def probe() -> bool:
            return any(
                (each.id, each.state, each.progress.done) == (record["id"], state, done)
                for each in received
            )

        await eventually(probe)

    spec = ConsumerSpec(
        stream=subjects.ACTIVITY_STREAM,
        subject=subjects.activity_subject("scripted_pipeline"),
        durable=f"test-{uuid.uuid4().hex}",
        decode=decode_activity,
    )
    listening = asyncio.create_task(Consumer(listener, spec).run(hear))
    record = await asyncio.to_thread(service.post, "WAITS")
    await published(record, "queued", 0)
    await published(record, "running", 1)
    (service.stage / "go on").touch()
    await published(record, "succeeded", 1)
    listening.cancel()
    await asyncio.wait([listening])
