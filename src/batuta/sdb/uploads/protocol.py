"""What requests and answers of the tus protocol 1.0 say in their headers."""

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import Headers

from batuta.sdb.bare_body import APPENDED, DIGEST_LENGTH
from batuta.sdb.fields import FIELDS, FieldReader, ImportRequest, refuse
from batuta.service.problems import ProblemError

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,expiration,checksum,termination"
TUS_RESUMABLE: Final = "Tus-Resumable"
OFFSET: Final = "Upload-Offset"
LENGTH: Final = "Upload-Length"
METADATA: Final = "Upload-Metadata"
EXPIRES: Final = "Upload-Expires"
CHECKSUM: Final = "Upload-Checksum"
CONTENT_TYPE: Final = "application/offset+octet-stream"
FILENAME: Final = "filename"
FILETYPE: Final = "filetype"
FINGERPRINT: Final = "fingerprint"
KNOWN: Final = (*FIELDS, FILENAME, FILETYPE, FINGERPRINT)
ALGORITHMS: Final = ("sha1", "sha256")

_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Checksum:
    """The digest that the body of a request must have."""

    algorithm: str
    digest: bytes

    def new(self) -> Any:
        """Return a hash of its algorithm."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def check_version(headers: Headers) -> None:
    """Refuse another version of the protocol.

    Raises
    ------
    ProblemError
        412.
    """
    given = headers.get(TUS_RESUMABLE)
    if given != VERSION:
        raise ProblemError(
            HTTPStatus.PRECONDITION_FAILED,
            f"{TUS_RESUMABLE}: {(given or '')[:80]!r} (accepted: {VERSION})",
            {"Tus-Version": VERSION},
        )


def read_number(headers: Headers, name: str) -> int:
    """Return what a header says: a number of bytes.

    Raises
    ------
    ProblemError
        422, if it is none.
    """
    value = headers.get(name, "")
    if not _NUMBER.fullmatch(value):
        refuse(f"{name}: {value[:80]!r} (accepted: a number of bytes)")
    return int(value)


def read_checksum(headers: Headers) -> Checksum | None:
    """Return the digest that a body must have, if the request says one.

    Raises
    ------
    ProblemError
        400, if it is of an algorithm that is not known, or none.
    """
    value = headers.get(CHECKSUM)
    if value is None:
        return None
    algorithm, _, encoded = value.partition(" ")
    try:
        digest = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if algorithm not in ALGORITHMS or len(digest) != hashlib.new(algorithm).digest_size:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            f"{CHECKSUM}: {value[:80]!r} (accepted: {' or '.join(ALGORITHMS)}, a space and the "
            "digest in Base64)",
        )
    return Checksum(algorithm, digest)


def read_metadata(headers: Headers) -> dict[str, str]:
    """Return what is said of an upload: the fields of its import, by their names.

    Raises
    ------
    ProblemError
        422, naming all that is wrong.
    """
    fields: dict[str, str] = {}
    problems: list[str] = []
    for pair in filter(None, map(str.strip, headers.get(METADATA, "").split(","))):
        name, _, encoded = pair.partition(" ")
        if name not in KNOWN:
            problems.append(f"{METADATA}: unknown: {name[:80]!r}; known: {', '.join(KNOWN)}")
        elif name in fields:
            problems.append(f"{METADATA}: {name}: given twice")
        else:
            fields[name] = _decoded(name, encoded, problems)
    fingerprint = fields.get(FINGERPRINT)
    if fingerprint is not None and not _FINGERPRINT.fullmatch(fingerprint):
        problems.append(f"{FINGERPRINT}: {fingerprint[:80]!r} (accepted: 64 hexadecimal digits)")
    if problems:
        refuse("; ".join(problems))
    return fields


def read_fields(fields: Mapping[str, str], appended: str = "") -> ImportRequest:
    """Return what `fields` ask for; `appended` is the digest that has followed the file.

    Raises
    ------
    ProblemError
        422, naming all that is wrong.
    """
    problems: list[str] = []
    given = {name: value.encode() for name, value in fields.items() if name in FIELDS}
    if fields.get("sha256") == APPENDED:
        given["sha256"] = appended.encode()
        if not appended:  # not there yet
            del given["sha256"]
    reader = FieldReader(given, problems)
    asked = reader.read(fields.get(FILETYPE) or None, fields.get(FILENAME))
    if problems:
        refuse("; ".join(problems))
    return asked


def check_length(length: int, fields: Mapping[str, str], max_bytes: int) -> None:
    """Refuse a length that no upload may have.

    Raises
    ------
    ProblemError
        413 or 422.
    """
    besides = DIGEST_LENGTH if fields.get("sha256") == APPENDED else 0
    if length < besides:
        refuse(f"{LENGTH}: {length} (accepted: that of the file and of the digest after it)")
    if length - besides > max_bytes:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{LENGTH}: {length}: larger than {max_bytes} bytes (accepted: at most that; see "
            "max_upload_bytes)",
        )


def _decoded(name: str, encoded: str, problems: list[str]) -> str:
    try:
        return b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        problems.append(f"{METADATA}: {name}: {encoded[:80]!r} is not UTF-8 in Base64")
        return ""
