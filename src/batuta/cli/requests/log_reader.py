"""Reads the log of a processing from its pipeline, as it grows."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import httpx
import typer

from batuta.errors import BatutaError, printable
from batuta.service.client import (
    TIMEOUT,
    auth_headers,
    check_response,
    tls_verification,
    translate_errors,
)

LOG_BYTES_HEADER: Final = "X-Log-Bytes"
LINE_BYTES: Final = 400
"""More than most lines have: so much is asked for, for each line of a tail."""
MIN_TAIL_BYTES: Final = 65_536


class LogReader:
    """The log of one processing; to be closed.

    Parameters
    ----------
    processing : mapping
        As the conductor shows it.

    Raises
    ------
    BatutaError
        If it has none.
    """

    def __init__(self, processing: Mapping[str, Any]) -> None:
        address = processing.get("log")
        if address is None:
            raise BatutaError(
                f"{processing['product']} of {processing['obs_id']}: no log: it is "
                f"{processing['state']}, and was not requested from {processing['provider']}"
            )
        self._address: str = address
        self._service = str(processing["provider"])
        self._read = 0
        self._client = httpx.Client(
            timeout=TIMEOUT,
            headers=auth_headers(None),
            trust_env=False,
            verify=tls_verification(address),
        )

    def close(self) -> None:
        """Close its connection."""
        self._client.close()

    def print_new(self, tail: int | None = None) -> None:
        """Print what was written since the last call; of the first, at most `tail` lines."""
        if tail is None:
            text = self._read_log({"since": self._read})
        else:
            size = max(MIN_TAIL_BYTES, tail * LINE_BYTES)
            text = "".join(self._read_log({"tail": size}).splitlines(keepends=True)[-tail:])
        _print(text)

    def _read_log(self, params: Mapping[str, int]) -> str:
        response = self._get(self._address, params)
        # The pipeline of somebody else may always send all of it.
        total = response.headers.get(LOG_BYTES_HEADER, len(response.content))
        self._read = int(total)
        return response.text

    def print_workers(self) -> None:
        """Print the logs of its workers."""
        _print(self._get(self._address.removesuffix("/log") + "/workers_log", {}).text)

    def _get(self, address: str, params: Mapping[str, int]) -> httpx.Response:
        with translate_errors(self._service, address):
            response = self._client.get(address, params=dict(params))
        if response.status_code == HTTPStatus.NOT_FOUND and "json" not in response.headers.get(
            "Content-Type", ""
        ):
            raise BatutaError(f"{self._service}: keeps no logs ({address})")
        return check_response(self._service, response)


def _print(text: str) -> None:
    if text:
        typer.echo(printable(text), nl=False)
