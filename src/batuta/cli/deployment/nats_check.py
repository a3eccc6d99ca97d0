"""Whether the NATS server of an orchestra still does its work."""

import shutil
from pathlib import Path
from typing import Final

import httpx

from batuta.messaging import NatsConfig
from batuta.messaging.server import jetstream_answers
from batuta.service.client import answered_json, tls_verification

MIN_FREE_BYTES: Final = 2**20


async def nats_works(config: NatsConfig, folder: Path, sdb_url: str) -> bool:
    """Return whether NATS works, as far as a restart would change that.

    A stream whose disk was full stores nothing more until the server is restarted, however much
    was freed, while the server answers as if nothing was wrong. Only those who publish notice: the
    sdb is asked, which tells of its announcements and of its activity.

    Parameters
    ----------
    config : NatsConfig
        The server.
    folder : Path
        Where it keeps its streams: while that disk is full, no restart helps.
    sdb_url : str
        An sdb that uses it.
    """
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        return True
    return await jetstream_answers(config) and not await _is_missed(sdb_url)


async def _is_missed(sdb_url: str) -> bool:
    """Return whether the sdb says that NATS does not work; False if it says nothing."""
    try:
        async with httpx.AsyncClient(
            trust_env=False, verify=tls_verification(sdb_url), timeout=2
        ) as client:
            health = answered_json(await client.get(f"{sdb_url}/health"))
    except (httpx.HTTPError, ValueError):
        return False
    checks = health.get("checks") if isinstance(health, dict) else None
    return isinstance(checks, dict) and checks.get("nats") is False
