"""Sends files to be imported: a large one in parts, so that it is resumed after a cut."""

import json
import logging
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypedDict

import httpx
from pydantic import ValidationError

from batuta.json_values import json_problem, plain
from batuta.sdb.import_body import ImportBody
from batuta.sdb.records import InputRef, StoredProduct
from batuta.sdb.resumable_import import NotResumableError, ResumableImport
from batuta.sdb.retries import Retries
from batuta.service.client import ServiceError, check_response, translate_errors
from batuta.stages import Stage
from batuta.work_classes import WorkClass

LOG: Final = logging.getLogger(__name__)

SERVICE: Final = "sdb"
RESUMABLE_FROM_BYTES: Final = 64 * 2**20
"""Files of this size and more are resumed after a cut. It costs four short requests."""
IMPORT_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0, read=900.0)
"""The sdb answers once the whole file is on its disk."""


class About(TypedDict, total=False):
    """What is said of a file: see `SdbClient.import_file`."""

    metadata: Mapping[str, Any] | None
    media_type: str | None
    processing_id: str | None
    attempt: int | None
    provider: str | None
    inputs: Sequence[InputRef]
    code: str | None
    graph_version: str | None
    sha256: str | None
    stage: Stage | None
    work_class: WorkClass | None
    quicklook: Path | None
    by_reference: bool


@dataclass(frozen=True)
class Imported:
    """What an import was answered with.

    Attributes
    ----------
    stored : StoredProduct
        The record.
    is_new : bool
        Whether this import has made it; if not, it was there already.
    """

    stored: StoredProduct
    is_new: bool


@dataclass(frozen=True)
class ImportSender:
    """Sends files to an sdb.

    Parameters
    ----------
    http : httpx.Client
        A connection to it.
    retries : Retries
        How long it is tried.
    resumable_from_bytes : int
        From which size on a file is sent in parts.
    """

    http: httpx.Client
    retries: Retries
    resumable_from_bytes: int

    def send(self, path: Path, product: str, obs_id: str, about: About) -> Imported:
        """Import a file; raises as `SdbClient.import_file`."""
        fields = {"product": product, "obs_id": obs_id, **text_fields(about)}
        kind = media_type_of(path, about)
        if about.get("by_reference"):
            return self._name(path, {"media_type": kind, **fields}, about)
        given = about.get("quicklook")
        picture = given.read_bytes() if given is not None else None
        sha256 = about.get("sha256")
        # Before anything is sent: it says of a name that cannot be what is wrong with it.
        body = ImportBody(path, kind, fields, sha256, picture)
        if path.stat().st_size >= self.resumable_from_bytes:
            try:
                return self._send_in_parts(path, kind, fields, sha256, picture)
            except NotResumableError:
                LOG.debug("%s: is sent as a whole", path)
        imported = self.retries.run(partial(self._send, body))
        _warn_of_other_bytes(imported.stored, body.sent_sha256, about.get("processing_id"))
        return imported

    def _name(self, path: Path, fields: Mapping[str, str], about: About) -> Imported:
        """Import a file by reference: the sdb reads it itself."""
        if about.get("quicklook") is not None:
            raise ServiceError(f"{SERVICE}: a quicklook does not go with a file by reference")
        sha256 = about.get("sha256")
        given = {"sha256": sha256} if sha256 is not None else {}
        # The name as it was given; the path without links, as the sdb follows none.
        said = {**fields, **given, "filename": path.name, "path": str(path.resolve(strict=True))}
        return self.retries.run(partial(self._post_json, "/products/reference", said))

    def _post_json(self, path: str, said: Mapping[str, str]) -> Imported:
        with translate_errors(SERVICE, str(self.http.base_url)):
            response = self.http.post(path, json=said, timeout=IMPORT_TIMEOUT)
        return self._read(response)

    def _send_in_parts(
        self,
        path: Path,
        kind: str,
        fields: Mapping[str, str],
        sha256: str | None,
        picture: bytes | None,
    ) -> Imported:
        upload = ResumableImport(self.http, path, kind, fields, sha256, picture)
        imported = Imported(*self.retries.run(upload.send, lambda: upload.offset))
        _warn_of_other_bytes(imported.stored, upload.sent_sha256, fields.get("processing_id"))
        return imported

    def _send(self, body: ImportBody) -> Imported:
        url = str(self.http.base_url)
        with translate_errors(SERVICE, url):
            response = self.http.post(
                body.target, content=body, headers=body.headers, timeout=IMPORT_TIMEOUT
            )
        return self._read(response)

    def _read(self, response: httpx.Response) -> Imported:
        check_response(SERVICE, response)
        try:
            stored = StoredProduct.model_validate_json(response.content)
        except ValidationError as exc:
            raise ServiceError(
                f"{SERVICE} at {self.http.base_url}: the answer is not a StoredProduct; is it an "
                "sdb?",
                status=response.status_code,
            ) from exc
        return Imported(stored, is_new=response.status_code == httpx.codes.CREATED)


def media_type_of(path: Path, about: About) -> str:
    """Return the media type of a file: as it is told, or as its name tells."""
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return about.get("media_type") or guessed


def text_fields(about: About) -> dict[str, str]:
    """Return what is said of a file as fields of a form, without its digest and its picture.

    Raises
    ------
    ServiceError
        If its metadata has what JSON cannot carry.
    """
    fields = {}
    if metadata := about.get("metadata"):
        values = plain(metadata)
        if (problem := json_problem(values, "metadata")) is not None:
            raise ServiceError(f"{SERVICE}: {problem}; nothing was sent")
        fields["metadata"] = json.dumps(values)
    inputs = about.get("inputs") or ()
    given = {
        "processing_id": about.get("processing_id"),
        "attempt": about.get("attempt"),
        "provider": about.get("provider"),
        "inputs": json.dumps([ref.model_dump() for ref in inputs]) if inputs else None,
        "stage": about.get("stage"),
        "code": about.get("code"),
        "graph_version": about.get("graph_version"),
        "class": about.get("work_class"),
    }
    return fields | {name: str(value) for name, value in given.items() if value is not None}


def _warn_of_other_bytes(
    stored: StoredProduct, sent_sha256: str | None, processing_id: str | None
) -> None:
    if stored.sha256 == sent_sha256:
        return
    LOG.warning(
        "%s of %s: processing %s had imported it with other bytes, which are kept: "
        "version %d, SHA-256 %s, not %s",
        stored.product,
        stored.obs_id,
        processing_id,
        stored.version,
        stored.sha256,
        sent_sha256,
    )
