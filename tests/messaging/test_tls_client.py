"""NATS by TLS: a real server that asks for certificates, and one that speaks none."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.messaging import MessagingError, NatsConfig, connect
from batuta.messaging.server import jetstream_answers
from batuta.messaging.tls_client import ClientTls
from tests.support.certificates import Authority, Validity
from tests.support.servers import NatsServer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """It asks its clients for certificates of the same authority."""
    pair = authority.pair("nats")
    options = ("--tlsverify", f"--tlscacert={authority.ca}")
    files = (f"--tlscert={pair.cert}", f"--tlskey={pair.key}")
    made = NatsServer(tmp_path_factory.mktemp("nats"), *options, *files)
    made.start()
    yield made
    made.stop()


def config_of(server: NatsServer, authority: Authority, client: str = "client") -> NatsConfig:
    pair = authority.pair(client)
    return NatsConfig(
        url=server.url.replace("nats://", "tls://"),
        wait_s=5,
        tls_ca=authority.ca,
        tls_cert=pair.cert,
        tls_key=pair.key,
    )


async def refusal_of(config: NatsConfig) -> str:
    with pytest.raises(MessagingError) as refused:
        async with connect(config, "test"):
            pass
    return str(refused.value)


async def test_a_client_with_a_certificate_is_served(
    server: NatsServer, authority: Authority
) -> None:
    config = config_of(server, authority)
    async with connect(config, "test") as bus:
        assert await bus.publish_payload("data.test", b"1", "an-id") == 1
    assert await jetstream_answers(config)


@pytest.mark.parametrize("client", ["none", "unknown", "expired"])
async def test_a_client_without_a_right_certificate_is_refused(
    server: NatsServer, authority: Authority, tmp_path: Path, client: str
) -> None:
    config = config_of(server, authority)
    pair = None
    if client != "none":
        signer = authority if client == "expired" else Authority(tmp_path)
        validity = Validity(-90, -1) if client == "expired" else Validity()
        pair = signer.pair("refused", validity=validity)
    refused = NatsConfig(
        url=config.url,
        wait_s=0.5,
        tls_ca=config.tls_ca,
        tls_cert=pair.cert if pair else None,
        tls_key=pair.key if pair else None,
    )
    assert "could not connect to NATS at tls://127.0.0.1" in await refusal_of(refused)
    assert not await jetstream_answers(refused)


async def test_a_server_of_another_authority_or_name_is_refused(
    server: NatsServer, authority: Authority, tmp_path: Path
) -> None:
    url = server.url.replace("nats://", "tls://")
    other = NatsConfig(url=url, wait_s=0.5, tls_ca=Authority(tmp_path).ca)
    assert "its certificate is refused: unable to get local issuer" in await refusal_of(other)
    named = NatsConfig(url=url, wait_s=0.5, tls_ca=authority.ca, tls_name="nats.example.org")
    assert "Hostname mismatch" in await refusal_of(named)


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_nothing_is_shown_to_a_server_without_tls(authority: Authority, scheme: str) -> None:
    """Whoever is between client and server may leave out that the server speaks TLS."""
    received = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n')
        received.extend(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        config = NatsConfig(
            url=f"{scheme}://127.0.0.1:{port}", wait_s=0.5, token="a" * 16, tls_ca=authority.ca
        )
        assert "the server speaks no TLS" in await refusal_of(config)
    assert not received


async def test_a_renewed_certificate_is_shown_after_a_reconnection(authority: Authority) -> None:
    """nats-py keeps the context that it was given first: what is in it is replaced."""
    pair = authority.pair("renewed", validity=Validity(-89, 1))
    shown = ClientTls(NatsConfig(tls_ca=authority.ca, tls_cert=pair.cert, tls_key=pair.key))
    pair.key.write_text("half of a")
    with pytest.raises(ConfigurationError, match="--nats-tls-key"):
        shown.renew()
    new = authority.pair("renewed")
    shown.renew()
    assert shown_by(shown, authority) == pem_of(new.cert)


def shown_by(tls: ClientTls, authority: Authority) -> str:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.pair("server").load_into(server)
    server.load_verify_locations(authority.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = socket.socketpair()
    found: list[bytes | None] = []

    def answer() -> None:
        with server.wrap_socket(theirs, server_side=True) as secured:
            found.append(secured.getpeercert(binary_form=True))

    answering = threading.Thread(target=answer)
    answering.start()
    with tls.context.wrap_socket(ours, server_hostname="localhost"):
        answering.join()
    assert found[0] is not None
    return ssl.DER_cert_to_PEM_cert(found[0])


def pem_of(cert: Path) -> str:
    return cert.read_text()


async def test_half_of_a_certificate_is_refused(authority: Authority) -> None:
    with pytest.raises(ConfigurationError, match="both, or none"):
        ClientTls(NatsConfig(tls_cert=authority.pair("half").cert))
