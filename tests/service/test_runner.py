"""Starting and stopping a service: port, token, signals, failing background work, lifeline."""

import asyncio
import errno
import io
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from batuta.errors import ConfigurationError
from batuta.service.lifeline import LIFELINE_VARIABLE
from batuta.service.runner import run_service, set_up_logging
from batuta.service.settings import ServiceSettings
from batuta.service.sockets import address_of, listening_socket
from batuta.validation import validated

PROGRAM = """
import asyncio, contextlib, sys
from fastapi import FastAPI
from batuta.service.runner import run_service, set_up_logging
from batuta.service.settings import ServiceSettings

class Thing:
    app = FastAPI()
    async def run(self):
        {work}

@contextlib.asynccontextmanager
async def open_thing(settings, url):
    {opening}
    try:
        yield Thing()
    finally:
        print("closed", flush=True)

run_service("thing", ServiceSettings(port=0), open_thing)
"""


def start(
    work: str = "await asyncio.Event().wait()", opening: str = "pass"
) -> subprocess.Popen[str]:
    program = PROGRAM.format(work=work, opening=opening)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_answers_once_it_prints_its_url_and_stops_on_a_signal(
    number: signal.Signals,
) -> None:
    with start() as process:
        line = first_line(process)
        assert line.startswith("thing listening on http://127.0.0.1:")
        assert httpx.get(f"{line.split()[-1]}/docs").status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("closed\n", 0), err


def test_the_garbage_collector_does_not_look_at_what_a_service_has_loaded() -> None:
    work = "import gc; print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)"
    with start(f"{work}; await asyncio.Event().wait()") as process:
        assert first_line(process).startswith("thing listening on ")
        frozen, watched = map(int, first_line(process).split())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert frozen > 50_000
    assert watched < frozen / 10


def test_a_service_stopped_while_it_opens_stops() -> None:
    opening = "print('opening', flush=True); await asyncio.Event().wait()"
    with start(opening=opening) as process:
        assert first_line(process) == "opening\n"
        process.terminate()
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("", 0), err


def test_work_that_fails_ends_the_service_with_its_error() -> None:
    with start(work="raise ValueError('the work failed')") as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out.endswith("closed\n")
    assert "ValueError: the work failed" in err


def test_a_port_in_use_is_refused_in_one_line_naming_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        expected = rf"^--port {port} on 127.0.0.1: Address already in use \(choose another --po"
        with (
            pytest.raises(ConfigurationError, match=expected),
            listening_socket(ServiceSettings(port=port)),
        ):
            pass


def test_a_foreign_address_is_refused() -> None:
    settings = ServiceSettings(host="192.0.2.1", port=0)
    with (
        pytest.raises(ConfigurationError, match=r"--port 0 on 192.0.2.1: "),
        listening_socket(settings),
    ):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])  # noqa: S104  refused
def test_a_service_without_a_token_listens_on_loopback_only(host: str) -> None:
    def never(settings: ServiceSettings, url: str) -> None:
        raise AssertionError("it must not be opened")

    with pytest.raises(ConfigurationError, match=f"--host {host}: without a token"):
        run_service("thing", ServiceSettings(host=host, port=0), never)  # type: ignore[arg-type]  # never called


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    ServiceSettings(host=host, port=0).require_token_beyond_loopback()


@pytest.mark.parametrize(
    ("given", "warned"),
    [
        ({"host": "0.0.0.0"}, True),  # noqa: S104  what is warned of
        ({"host": "0.0.0.0", "tls_cert": "cert.pem", "tls_key": "key.pem"}, False),  # noqa: S104
        ({}, False),
        ({"nats_url": "nats://127.0.0.1:1,nats://far:1", "nats_token": "secret"}, True),
        ({"nats_url": "nats://user:secret@far:1"}, True),
        ({"nats_url": "tls://user:secret@far:1"}, False),
        ({"nats_url": "nats://far:1"}, False),
        ({"nats_url": "nats://user:secret@localhost:1"}, False),
    ],
)
def test_what_would_cross_a_network_in_clear_is_warned_of(
    given: dict[str, str], *, warned: bool
) -> None:
    settings = ServiceSettings.model_validate({"port": 0, "token": "a" * 16, **given})
    told = [settings.clear_text_warning, settings.nats_clear_text_warning]
    assert any(told) == warned
    assert "secret" not in str(told)


def test_with_a_token_a_service_listens_everywhere() -> None:
    ServiceSettings.model_validate(
        {"host": "0.0.0.0", "port": 0, "token": "a-token-of-a-test"}  # noqa: S104  with a token
    ).require_token_beyond_loopback()


@pytest.mark.parametrize(
    "token", ["", "short", " " * 20, "sécret-sécret-sécret", "two words, one token"]
)
def test_a_token_that_protects_nothing_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validated(ServiceSettings, {"host": "0.0.0.0", "port": 0, "token": token})  # noqa: S104  refused
    assert caught.value.problems == ("token: at least 16 visible ASCII characters expected",)


def test_a_token_is_never_shown() -> None:
    settings = ServiceSettings.model_validate({"port": 0, "token": "hush-and-never-tell"})
    assert "hush" not in f"{settings!r} {settings.model_dump_json()}"


async def test_answers_are_not_delayed_by_nagles_algorithm() -> None:
    """Nagle's algorithm and delayed acknowledgements cost 40 ms an answer."""
    with listening_socket(ServiceSettings(port=0)) as sock:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            seen.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        server = await asyncio.start_server(accept, sock=sock)
        url = httpx.URL(address_of(sock))
        _, writer = await asyncio.open_connection(url.host, url.port)
        assert await seen
        writer.close()
        server.close()


def test_a_service_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(work="await asyncio.Event().wait()", opening="pass")],
        env={**os.environ, LIFELINE_VARIABLE: str(reading)},
        stdout=subprocess.PIPE,
        pass_fds=[reading],
        text=True,
    )
    os.close(reading)
    first_line(process)
    os.close(writing)
    assert process.wait(20) == 0
    assert process.stdout is not None
    process.stdout.close()


def test_a_message_from_outside_cannot_pass_for_a_line_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging()
    logging.getLogger("test").warning("refused: %s", "a\n2026 ERROR forged\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"WARNING test: refused: a\n2026 ERROR forged\x1b[2J")


@pytest.mark.parametrize("stream", [None, "closed", "gone"])
def test_a_service_whose_standard_error_is_gone_goes_on(
    stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    streams = {None: None, "closed": io.StringIO(), "gone": Gone()}
    if (closed := streams["closed"]) is not None:
        closed.close()
    set_up_logging()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", streams[stream])
        logging.getLogger("test").warning("nobody reads this")
