"""Sends many small files together, a line of JSON for each."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import BaseModel, ValidationError

from batuta.sdb.import_sender import (
    IMPORT_TIMEOUT,
    SERVICE,
    About,
    Imported,
    ImportSender,
    media_type_of,
    text_fields,
)
from batuta.sdb.records import StoredProduct
from batuta.sdb.retries import GivenUpError, is_transient
from batuta.service.client import ServiceError, check_response, translate_errors

SMALL_BYTES: Final = 2**18
"""Files up to this size are sent together: a request for a larger one costs less than its bytes."""
TOGETHER: Final = 250
TOGETHER_BYTES: Final = 16 * 2**20
_UNKNOWN_THERE: Final = frozenset(
    {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
)
"""What an older sdb answers; a scope that lacks is told by the imports themselves."""

Outcome = Imported | ServiceError


@dataclass(frozen=True)
class NewFile:
    """A file to be imported.

    Attributes
    ----------
    path : Path
        The file.
    product, obs_id : str
        What it is.
    about : mapping
        What else is said of it: the arguments of `SdbClient.import_file`.
    """

    path: Path
    product: str
    obs_id: str
    about: About = field(default_factory=About)


class _Answer(BaseModel):
    """The line of an answer."""

    status: int
    stored: StoredProduct | None = None
    detail: str = ""


class BulkSender:
    """Sends files, small ones together.

    Parameters
    ----------
    sender : ImportSender
        Sends those that are not small.
    """

    def __init__(self, sender: ImportSender) -> None:
        self._sender = sender

    def send(self, files: Iterable[NewFile]) -> Iterator[Outcome]:
        """Yield, for each of `files` and in their order, what it was answered with, or its error.

        What the sdb could not record at the time is sent again, for as long as other calls are.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached, or lets nothing in.
        """
        lines: list[tuple[NewFile, bytes]] = []
        for file in files:
            line = self._line(file)
            if isinstance(line, bytes):
                lines.append((file, line))
            if lines and (not isinstance(line, bytes) or _is_full(lines)):
                yield from self._send_together(lines)
                lines = []
            if isinstance(line, ServiceError):
                yield line
            elif line is None:
                yield self._send_alone(file)
        if lines:
            yield from self._send_together(lines)

    def _line(self, file: NewFile) -> bytes | ServiceError | None:
        """Return the line of a small file, why it cannot be sent, or None if it is not small."""
        try:
            if file.about.get("quicklook") is not None or file.about.get("by_reference"):
                return None
            if file.path.stat().st_size > SMALL_BYTES:
                return None
            content = file.path.read_bytes()
            fields = text_fields(file.about)
        except OSError as exc:
            return ServiceError(f"{file.path}: cannot be read: {exc.strerror}")
        except ServiceError as exc:
            return exc
        said: Mapping[str, Any] = {
            **fields,
            "product": file.product,
            "obs_id": file.obs_id,
            "filename": file.path.name,
            "media_type": media_type_of(file.path, file.about),
            "sha256": file.about.get("sha256") or hashlib.sha256(content).hexdigest(),
            "content": b64encode(content).decode(),
        }
        return json.dumps(said).encode() + b"\n"

    def _send_alone(self, file: NewFile) -> Outcome:
        try:
            return self._sender.send(file.path, file.product, file.obs_id, file.about)
        except OSError as exc:
            return ServiceError(f"{file.path}: cannot be read: {exc.strerror}")
        except GivenUpError:  # so it would be with all others
            raise
        except ServiceError as exc:
            return exc

    def _send_together(self, lines: list[tuple[NewFile, bytes]]) -> Iterator[Outcome]:
        together = _Together([line for _, line in lines])
        call = partial(self._send_left, together)
        try:
            knows_bulk = self._sender.retries.run(call, position=together.known)
        except GivenUpError as exc:
            # What is known is told; then that the sdb cannot be reached, as of all others.
            if together.known():
                yield from (exc if each is None else each for each in together.outcomes)
            raise
        if not knows_bulk:
            for file, _ in lines:
                yield self._send_alone(file)
            return
        yield from (each for each in together.outcomes if each is not None)

    def _send_left(self, together: "_Together") -> bool:
        """Send what is not known yet; return False if the sdb knows no bulk.

        Raises
        ------
        ServiceError
            If some of it is to be sent again, or all.
        """
        left = together.left()
        response = self._post(b"".join(together.lines[place] for place in left))
        if response.status_code in _UNKNOWN_THERE:
            return False
        answers = [_read(self._sender.http, line) for line in response.content.splitlines()]
        if len(answers) != len(left):
            raise ServiceError(f"{SERVICE}: {len(answers)} answers to {len(left)} files")
        again: ServiceError | None = None
        for place, answer in zip(left, answers, strict=True):
            if isinstance(answer, ServiceError) and is_transient(answer):
                again = again or answer
            else:
                together.outcomes[place] = answer
        if again is not None:
            raise again
        return True

    def _post(self, body: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/x-ndjson"}
        with translate_errors(SERVICE, str(self._sender.http.base_url)):
            response = self._sender.http.post(
                "/products/bulk", content=body, headers=headers, timeout=IMPORT_TIMEOUT
            )
        if response.status_code in _UNKNOWN_THERE:
            return response
        return check_response(SERVICE, response)


class _Together:
    """Lines that are sent together, until something is known of each."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.outcomes: list[Outcome | None] = [None] * len(lines)

    def left(self) -> list[int]:
        """Return the places of those of which nothing is known."""
        return [place for place, outcome in enumerate(self.outcomes) if outcome is None]

    def known(self) -> int:
        """Return how many are known of."""
        return len(self.lines) - len(self.left())


def _is_full(lines: list[tuple[NewFile, bytes]]) -> bool:
    return len(lines) == TOGETHER or sum(len(line) for _, line in lines) >= TOGETHER_BYTES


def _read(http: httpx.Client, line: bytes) -> Outcome:
    try:
        answer = _Answer.model_validate_json(line)
    except ValidationError as exc:
        raise ServiceError(
            f"{SERVICE} at {http.base_url}: the answer is not that of an import; is it an sdb?"
        ) from exc
    if answer.stored is None:
        return ServiceError(f"{SERVICE}: {answer.detail}", answer.status)
    return Imported(answer.stored, is_new=answer.status == HTTPStatus.CREATED)
