"""Services that speak TLS: who is answered, what is renewed, and that every wait has its end."""

import asyncio
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from batuta.sdb import SdbClient
from batuta.service.app import AppConfig, create_app
from batuta.service.client import ServiceError
from batuta.service.connections import ConnectionLimits
from batuta.service.http_pool import PoolTimeouts, open_pool
from batuta.tls import CA_VARIABLE, ServerCertificate, new_context, trusted_file
from tests.service.test_connections import SHORT, make_app, served
from tests.support.certificates import Authority, Validity
from tests.support.waiting import eventually

PATIENT = ConnectionLimits(max_connections=20)
TIMEOUTS = PoolTimeouts(connect_s=5, read_s=10)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path / "authority")
    monkeypatch.setenv(CA_VARIABLE, str(made.ca))
    return made


@pytest.fixture
def certificate(authority: Authority) -> ServerCertificate:
    return ServerCertificate(authority.pair())


@pytest.fixture
async def url(certificate: ServerCertificate) -> AsyncIterator[str]:
    async with served(an_app(), PATIENT, certificate) as found:
        yield found


def an_app() -> FastAPI:
    app = create_app(AppConfig(name="tested", description=""))

    @app.post("/file")
    async def take(request: Request) -> str:
        return f"{request.url.scheme} {sum([len(each) async for each in request.stream()])}"

    return app


async def raw_connection(
    url: str, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = httpx.URL(url)
    return await asyncio.open_connection(parts.host, parts.port, ssl=context)


async def test_each_client_of_ours_calls_a_service_by_tls(url: str) -> None:
    assert url.startswith("https://127.0.0.1:")
    async with open_pool(None, TIMEOUTS) as pool:
        for _ in range(2):
            answer = await pool.send("it", "GET", f"{url}/health", max_bytes=10_000, max_s=10)
            assert b'"tls":true' in answer.content
    health = await asyncio.to_thread(_curl, url)
    assert health.startswith('{"service":"tested"')
    with SdbClient(url, retry_for_s=0) as sdb, pytest.raises(ServiceError) as found:
        await asyncio.to_thread(sdb.get, "A", "o1")
    assert found.value.status == 404


def _curl(url: str) -> str:
    command = ["curl", "-sS", "--cacert", str(trusted_file()), f"{url}/health"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_a_large_body_arrives_whole_over_tls(url: str, authority: Authority) -> None:
    async with httpx.AsyncClient(verify=new_context(authority.ca)) as client:
        for size in (1, 300_000, 5_000_000):
            answer = await client.post(f"{url}/file", content=bytes(size))
            assert answer.json() == f"https {size}"


async def test_clients_refuse_an_authority_that_they_do_not_know(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CA_VARIABLE, str(Authority(tmp_path / "other").ca))
    async with open_pool(None, TIMEOUTS) as pool:
        with pytest.raises(ServiceError, match=r"its certificate is refused: .*BATUTA_TLS_CA"):
            await pool.send("it", "GET", f"{url}/health", max_bytes=10_000, max_s=10)
    with (
        SdbClient(url, retry_for_s=60) as sdb,
        pytest.raises(ServiceError, match=r"its certificate is refused: .*BATUTA_TLS_CA"),
    ):
        await asyncio.to_thread(sdb.get, "A", "o1")


async def test_old_versions_of_tls_are_refused(url: str, authority: Authority) -> None:
    context = new_context(authority.ca)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await raw_connection(url, context)


async def test_a_client_that_speaks_no_tls_is_told_so(url: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{url.replace('https', 'http')}/health")
    assert answer.status_code == 400
    assert "https://" in answer.json()["detail"]


async def test_a_client_of_tls_is_told_of_a_service_without(authority: Authority) -> None:
    async with served(an_app(), PATIENT) as url, open_pool(None, TIMEOUTS) as pool:
        with pytest.raises(ServiceError, match="it does not speak TLS"):
            await pool.send("it", "GET", url.replace("http", "https"), max_bytes=10_000, max_s=10)


async def test_new_connections_are_shown_the_renewed_certificate(
    url: str, authority: Authority, certificate: ServerCertificate
) -> None:
    context = new_context(authority.ca)

    async def shown() -> bytes:
        _, writer = await raw_connection(url, context)
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        writer.close()
        return tls.getpeercert(binary_form=True) or b""

    first = await shown()
    assert await shown() == first
    authority.pair(validity=Validity(-1, 5))
    assert await shown() != first
    async with httpx.AsyncClient(verify=context) as client:
        health = (await client.get(f"{url}/health")).json()
    assert health["status"] == "degraded"
    assert "renew it" in health["problems"]["tls"]


async def test_a_client_that_never_shakes_hands_is_let_go(certificate: ServerCertificate) -> None:
    async with served(make_app()[0], SHORT, certificate) as url:
        reader, writer = await raw_connection(url, None)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_those_who_never_shake_hands_leave_their_places_to_others(
    certificate: ServerCertificate, authority: Authority
) -> None:
    limits = ConnectionLimits(max_connections=2, head_s=60, silent_s=0.3, tick_s=0.05)
    async with served(make_app()[0], limits, certificate) as url:
        silent = [await raw_connection(url, None) for _ in range(2)]
        async with httpx.AsyncClient(verify=new_context(authority.ca), timeout=10) as client:
            assert (await client.post(f"{url}/file", content=b"1")).json() == 1
        for _, writer in silent:
            writer.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /file HT", b"POST /file HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"],
)
async def test_a_client_that_sends_its_request_too_slowly_is_let_go(
    certificate: ServerCertificate, authority: Authority, sent: bytes
) -> None:
    async with served(make_app()[0], SHORT, certificate) as url:
        reader, writer = await raw_connection(url, new_context(authority.ca))
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert (b" 408 " in answer) == bool(sent)
        writer.close()


async def test_a_client_that_does_not_read_its_answer_is_let_go(
    certificate: ServerCertificate, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    app, seen = make_app()
    async with served(app, SHORT, certificate) as url:
        _, writer = await raw_connection(url, new_context(authority.ca))
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # one that reads
        writer.write(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")

        async def let_go() -> bool:
            return "a client read its answer too slowly" in caplog.text

        await eventually(let_go)
        assert 0 < seen["sent"] < 1000
        writer.transport.abort()


async def test_an_answer_is_whole_though_its_connection_ends_with_it(
    certificate: ServerCertificate, authority: Authority
) -> None:
    """What TLS has not sent yet when it is closed is sent, however slowly it is read."""
    async with served(make_app()[0], PATIENT, certificate) as url:
        reader, writer = await raw_connection(url, new_context(authority.ca))
        writer.write(b"GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        whole = await asyncio.wait_for(reader.read(), 60)
        assert len(whole) > 100_000_000
        writer.close()
