"""An orchestra with a token and TLS: who may connect, and where its secrets are not."""

import asyncio
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import nats.errors
import pytest
from nats.aio.client import Client

from batuta.sdb import SdbClient
from batuta.service.scopes import Scope
from batuta.service.token_file import add_token
from batuta.tls import CA_VARIABLE, new_context, trusted_file
from tests.support.certificates import Authority
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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secure")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Iterator[Authority]:
    made = Authority(folder / "pki")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CA_VARIABLE, str(made.ca))
        yield made


@pytest.fixture(scope="module")
def named(folder: Path) -> str:
    """The token of a program that imports and exports."""
    path = folder / "batuta-data" / "tokens.yaml"
    return add_token(path, "camera", [Scope.IMPORT, Scope.READ])


@pytest.fixture(scope="module")
def orchestra(folder: Path, authority: Authority, named: str) -> Iterator[OrchestraProcess]:
    assert named
    authority.pair()
    (folder / "graph.json").write_text(json.dumps(GRAPH))
    (folder / "spy.py").write_text(SPY)
    config = {
        "token": TOKEN,
        "tls": {"cert": "pki/service.pem", "key": "pki/service-key.pem", "ca": "pki/ca.pem"},
        "conductor": {"graph": "graph.json"},
        "pipelines": [{"use": "spy:pipeline"}],
    }
    opened = OrchestraProcess(config, folder)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def addresses(orchestra: OrchestraProcess) -> dict[str, str]:
    orchestra.addresses()
    orchestra.wait_for_line("dashboard  ")
    return orchestra.listed()


def announce(url: str, token: str | None) -> None:
    async def send() -> None:
        client = Client()
        try:
            context = new_context(trusted_file())
            await client.connect(url, token=token, tls=context, allow_reconnect=False)
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
    addresses: dict[str, str], named: str, tmp_path: Path
) -> None:
    with SdbClient(addresses["sdb"], token=named) as sdb:
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


def test_no_log_has_a_secret_whatever_was_asked_with_it(
    orchestra: OrchestraProcess, addresses: dict[str, str], named: str
) -> None:
    with httpx.Client(verify=new_context(trusted_file())) as client:
        for token in (TOKEN, named):
            client.headers["Authorization"] = f"Bearer {token}"
            for url in (addresses["sdb"], addresses["conductor"], addresses["dashboard"]):
                client.get(f"{url}/nothing/{token[:3]}")
                client.post(f"{url}/session", json={"token": token})
                client.delete(f"{url}/products/A/o1/versions/9")
    logs = list((orchestra.folder / "batuta-data").rglob("*.log"))
    assert len(logs) > 4
    assert any("tokens: camera may read, import" in log.read_text() for log in logs)
    texts = [*(log.read_text() for log in logs), orchestra.output]
    assert not any(token in text for token in (TOKEN, named) for text in texts)


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
    kept = [
        *data.glob("*.db*"),
        *data.glob("logs/*"),
        *data.glob("tokens*"),
        data / "nats" / "nats.conf",
    ]
    assert len(kept) > 5
    open_to_others = [path.name for path in kept if path.stat().st_mode & 0o077]
    assert open_to_others == []


def test_every_service_is_reached_by_tls_alone(addresses: dict[str, str], tmp_path: Path) -> None:
    services = set(addresses) - {"nats"}
    assert services == {"sdb", "conductor", "dashboard", "spy"}
    assert {url.split("://")[0] for name, url in addresses.items() if name in services} == {"https"}
    assert addresses["nats"].startswith("tls://")
    (tmp_path / "b.txt").write_text("b")
    with SdbClient(addresses["sdb"], token=TOKEN) as sdb:
        assert sdb.import_file(tmp_path / "b.txt", "B", "o1").uri.startswith(addresses["sdb"])
    for name in services:
        plain = httpx.get(f"{addresses[name].replace('https', 'http')}/health")
        assert plain.status_code == 400


def test_a_browser_keeps_the_session_of_the_dashboard_to_tls(addresses: dict[str, str]) -> None:
    """And the page does nothing for a page of another origin, as without TLS."""
    url = addresses["dashboard"]
    with httpx.Client(verify=new_context(trusted_file()), base_url=url) as browser:
        signed_in = browser.post("/session", json={"token": TOKEN}, headers={"Origin": url})
        assert signed_in.status_code == 200
        assert "; Secure" in signed_in.headers["Set-Cookie"]
        assert browser.get("/api/sdb/products").status_code == 200
        other = {"Origin": "https://elsewhere.example.org"}
        assert browser.post("/session", json={"token": TOKEN}, headers=other).status_code == 403


def test_all_show_a_renewed_certificate_without_a_restart(
    addresses: dict[str, str], authority: Authority, orchestra: OrchestraProcess
) -> None:
    processes = {each.pid for each in orchestra.family()}
    before = {name: shown_at(url) for name, url in addresses.items()}
    assert len(set(before.values())) == 1
    authority.pair()
    for name, url in addresses.items():
        eventually_sync(lambda url=url, name=name: shown_at(url) != before[name], 60)  # type: ignore[misc]
    assert len({shown_at(url) for url in addresses.values()}) == 1
    assert processes >= {each.pid for each in orchestra.family()}


def shown_at(url: str) -> bytes:
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port or 0)) as sock:
        if parts.scheme == "tls":
            sock.recv(4096)  # what NATS says first
        with new_context(trusted_file()).wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            return tls.getpeercert(binary_form=True) or b""
