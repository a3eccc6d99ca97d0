"""An orchestra with a token: who may connect, and where its secrets are not."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from batuta.sdb import SdbClient
from tests.support.orchestras import OrchestraProcess
from tests.support.waiting import eventually_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

TOKEN = 'odd "but\\visible@/:#$token'.replace(" ", "_")
GRAPH = {
    "inputs": ["A"],
    "products": {
        "SEEN": {"m_input": ["A"], "provider": "spy", "url": "http://127.0.0.1:1/pipeline"}
    },
}
SPY = """
import json, os, subprocess
from batuta.pipeline import Pipeline

pipeline = Pipeline("spy")

@pipeline.product("SEEN", inputs=["A"])
def seen(context):
    path = context.output_path("seen.json")
    of_child = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    path.write_text(json.dumps({"own": dict(os.environ), "child": of_child}))
    return path
"""


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrchestraProcess]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "graph.json").write_text(json.dumps(GRAPH))
    (folder / "spy.py").write_text(SPY)
    config = {
        "token": TOKEN,
        "conductor": {"graph": "graph.json"},
        "pipelines": [{"use": "spy:pipeline"}],
    }
    opened = OrchestraProcess(config, folder)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def addresses(orchestra: OrchestraProcess) -> dict[str, str]:
    return orchestra.addresses()


def announce(url: str, token: str | None) -> None:
    async def send() -> None:
        client = Client()
        try:
            await client.connect(url, token=token, allow_reconnect=False)
            await client.publish("data.vhf", b'{"product": "A", "obs_id": "o1"}')
            await client.flush()
        finally:
            await client.close()

    asyncio.run(send())


@pytest.mark.parametrize("token", [None, "another-token-of-length"])
def test_nats_refuses_whoever_does_not_show_the_token(
    addresses: dict[str, str], token: str | None
) -> None:
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        announce(addresses["nats"], token)


def test_nats_accepts_whoever_shows_the_token(addresses: dict[str, str]) -> None:
    announce(addresses["nats"], TOKEN)


def test_what_a_pipeline_starts_does_not_inherit_the_secrets(
    addresses: dict[str, str], tmp_path: Path
) -> None:
    with SdbClient(addresses["sdb"], token=TOKEN) as sdb:
        given = tmp_path / "a.txt"
        given.write_text("a")
        sdb.import_file(given, "A", "o1")
        eventually_sync(lambda: list(sdb.list(product="SEEN")), 60)
        sdb.export("SEEN", "o1", to=tmp_path / "seen.json")
    seen = json.loads((tmp_path / "seen.json").read_text())
    for environment in (json.dumps(seen["own"]), seen["child"]):
        assert "BATUTA_TOKEN" not in environment
        assert "BATUTA_NATS" not in environment
        assert TOKEN not in environment


def test_no_command_line_shows_a_secret(
    orchestra: OrchestraProcess, addresses: dict[str, str]
) -> None:
    assert addresses
    lines = [" ".join(process.cmdline()) for process in orchestra.family()]
    assert any("conductor" in line for line in lines)
    assert not any(TOKEN in line for line in lines)


def test_only_its_owner_can_read_what_an_orchestra_keeps(
    orchestra: OrchestraProcess, addresses: dict[str, str]
) -> None:
    assert addresses
    data = orchestra.folder / "batuta-data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    kept = [*data.glob("*.db*"), *data.glob("logs/*"), data / "nats" / "nats.conf"]
    assert len(kept) > 5
    open_to_others = [path.name for path in kept if path.stat().st_mode & 0o077]
    assert open_to_others == []
