"""Reads the log of a processing through the conductor, as it grows."""

import codecs
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx
import typer

from batuta.errors import printable
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
    conductor_url : str
        The conductor, which knows where its pipeline keeps it.
    processing : mapping
        As the conductor shows it.
    attempt : int or None
        The only attempt whose log is read; None for that of all.
    """

    def __init__(
        self, conductor_url: str, processing: Mapping[str, Any], attempt: int | None = None
    ) -> None:
        self._url = f"{conductor_url.rstrip('/')}/processings/{quote(processing['id'], safe='')}"
        self._attempt: Mapping[str, int] = {} if attempt is None else {"attempt": attempt}
        self._read = 0
        self._client = httpx.Client(
            timeout=TIMEOUT,
            headers=auth_headers(None),
            trust_env=False,
            verify=tls_verification(conductor_url),
        )

    def close(self) -> None:
        """Close its connection."""
        self._client.close()

    def print_new(self, tail: int | None = None) -> None:
        """Print what was written since the last call; of the first, at most `tail` lines.

        Raises
        ------
        ServiceError
            If its pipeline keeps no log of it, or cannot be reached.
        """
        if tail is None:
            self._print("log", {"since": self._read})
        else:
            size = max(MIN_TAIL_BYTES, tail * LINE_BYTES)
            self._print("log", {"tail": size}, last=tail)

    def print_workers(self) -> None:
        """Print the logs of its workers."""
        self._print("workers_log", {})

    def _print(self, part: str, params: Mapping[str, int], last: int | None = None) -> None:
        url = f"{self._url}/{part}"
        with (
            translate_errors("conductor", url),
            self._client.stream("GET", url, params={**params, **self._attempt}) as response,
        ):
            if not response.is_success:
                response.read()
                check_response("conductor", response)
            if last is not None:
                _echo("".join(response.read().decode(errors="replace").splitlines(True)[-last:]))
                size = len(response.content)
            else:
                size = self._print_pieces(response, params.get("since", 0))
            # The pipeline of somebody else may always send all of it.
            self._read = int(response.headers.get(LOG_BYTES_HEADER, size))

    def _print_pieces(self, response: httpx.Response, since: int) -> int:
        """Print an answer as it comes, without what was printed before; return its size."""
        whole = LOG_BYTES_HEADER not in response.headers
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        size, skipped = 0, since if whole else 0
        for piece in response.iter_bytes():
            size += len(piece)
            new = piece[max(0, skipped - (size - len(piece))) :] if size > skipped else b""
            # A character may be split between two pieces.
            _echo(decoder.decode(new))
        return size


def _echo(text: str) -> None:
    if text:
        typer.echo(printable(text), nl=False)
