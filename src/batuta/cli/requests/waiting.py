"""Waits until all that follows from an import is made, or has failed."""

import time
from collections.abc import Mapping
from typing import Any, Final

import typer

from batuta.cli.clients import conductor_at
from batuta.cli.output import console
from batuta.errors import BatutaError, printable
from batuta.formatting import format_count, format_seconds

WAIT_TIMEOUT_S: Final = 3600.0
POLL_INTERVAL_S: Final = 0.3


class FollowingFailedError(BatutaError):
    """Something that follows from an import failed, or did not end in time."""


def follow(conductor_url: str, product: str, obs_id: str, version: int, timeout_s: float) -> None:
    """Return once all that follows from a version is made; print each end as it comes.

    Raises
    ------
    FollowingFailedError
        Naming what failed, with its cause, or what is open after `timeout_s`.
    """
    started = time.monotonic()
    told: set[tuple[str, str, int]] = set()
    with conductor_at(conductor_url) as conductor, console.status("") as status:
        while True:
            found = conductor.following(product, obs_id, version)
            retried = [each for each in found["open"] if each["state"] == "retrying"]
            for each in (*found["made"], *found["failed"], *retried):
                _tell(each, told)
            if found["done"]:
                break
            waited_s = time.monotonic() - started
            if waited_s > timeout_s:
                raise FollowingFailedError(_late(found, waited_s))
            status.update(printable(_shown(found)))
            time.sleep(POLL_INTERVAL_S)
    _conclude(found, time.monotonic() - started)


def _tell(processing: Mapping[str, Any], told: set[tuple[str, str, int]]) -> None:
    key = (processing["id"], processing["state"], processing["attempt"])
    if key not in told:
        told.add(key)
        attempt = ""
        if processing["state"] == "retrying":
            attempt = f", attempt {processing['attempt']} of {processing['max_attempts']} failed"
        error = f": {processing['error']}" if processing["error"] else ""
        line = f"{processing['product']}: {processing['state']}{attempt}{error}"
        typer.echo(printable(line), err=True)


def _shown(found: Mapping[str, Any]) -> str:
    if not found["heard"]:
        return "waiting for the conductor to hear of it"
    parts = []
    for each in found["open"]:
        progress = each["progress"]
        tiles = f" {progress['done']}/{progress['total']}" if progress["total"] else ""
        parts.append(f"{each['product']} {each['state']}{tiles}")
    return ", ".join(parts)


def _late(found: Mapping[str, Any], waited_s: float) -> str:
    return f"not done after {format_seconds(waited_s)}: {_shown(found)}"


def _conclude(found: Mapping[str, Any], waited_s: float) -> None:
    failed = found["failed"]
    if failed:
        names = ", ".join(each["product"] for each in failed)
        raise FollowingFailedError(
            f"{names}: not made (see above; batuta log PRODUCT {failed[0]['obs_id']} has more)"
        )
    made = format_count(len(found["made"]), "product")
    typer.echo(f"{made} made in {format_seconds(waited_s)}", err=True)
