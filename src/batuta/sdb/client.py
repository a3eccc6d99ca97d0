"""The client of the sdb: imports and exports files of any size, verified by their digests."""

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from batuta.sdb.bulk_sender import BulkSender, NewFile
from batuta.sdb.download import Download
from batuta.sdb.import_sender import RESUMABLE_FROM_BYTES, About, Imported, ImportSender
from batuta.sdb.records import Lineage, QuicklookState, StoredProduct
from batuta.sdb.retries import MIN_WAIT_S, Retries
from batuta.service.client import (
    ServiceError,
    auth_headers,
    check_response,
    tls_verification,
    translate_errors,
)
from batuta.service.pagination import Page

SERVICE: Final = "sdb"
RETRY_FOR_S: Final = 60.0
PAGE_LIMIT: Final = 500
QUICKLOOK_FOR_S: Final = 120.0
"""How long to wait for a quicklook that is being drawn, behind others."""
TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)
M = TypeVar("M", bound=BaseModel)


class SdbClient:
    """A connection to the product database, to be used in a ``with`` block.

    While the sdb cannot be reached, each call is retried with growing waits.

    Parameters
    ----------
    url : str
        Its address, such as ``http://127.0.0.1:8001``.
    token : str, optional
        The bearer token; ``BATUTA_TOKEN`` by default.
    retry_for_s : float
        How long a call is retried, in seconds.
    resumable_from_bytes : int
        From which size on a file is imported in parts.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        retry_for_s: float = RETRY_FOR_S,
        resumable_from_bytes: int = RESUMABLE_FROM_BYTES,
    ) -> None:
        self.url = _check_address(url).rstrip("/")
        self._retries = Retries(retry_for_s)
        self._download = Download(SERVICE, self.url, auth_headers(token))
        with translate_errors(SERVICE, url):
            self._http = httpx.Client(
                base_url=self.url,
                headers=auth_headers(token),
                timeout=TIMEOUT,
                trust_env=False,
                verify=tls_verification(url),
            )
        self._sender = ImportSender(self._http, self._retries, resumable_from_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def import_file(
        self, path: Path, product: str, obs_id: str, **about: Unpack[About]
    ) -> StoredProduct:
        """Import the file at `path` as the next version of `product` for `obs_id`.

        It is retried while the sdb cannot be reached: what is sent again is answered with the
        record that it repeats. With a `processing_id`, that is the first one of the processing,
        whose `sha256` differs if its bytes did (a warning is logged); without, the newest version,
        if its bytes and all that is said of it are the same.

        A large file is sent in parts. After a cut, it goes on where the sdb has its end, and so it
        does if this process is killed, and the same file is imported again with the same fields.
        Each time that the sdb has more of it than before, it is retried for as long again.

        Parameters
        ----------
        metadata : mapping, optional
            Stored with it: names and JSON values. Values of NumPy, dates and paths are converted.
        media_type : str, optional
            Guessed from the file's name by default.
        processing_id, provider : str, optional
            The processing that made it, and its pipeline.
        attempt : int, optional
            Its attempt: a later one may import again what was withdrawn since.
        inputs : sequence of InputRef, optional
            What it was made from.
        code : str, optional
            The version of the code that made it.
        graph_version : str, optional
            The version of the product graph under which it was asked for.
        sha256 : str, optional
            The expected digest, in hexadecimal; computed from the file by default.
        stage : {"preliminary", "final"} or int, optional
            How definitive it is; a number is between the two. What tells none is final.
        work_class : WorkClass, optional
            How urgent all is that is made from it; announced with it, and not kept in its record.
        quicklook : Path, optional
            A picture of it: PNG, JPEG or WebP, of at most 2 MiB.
        by_reference : bool
            Whether the sdb, which sees the file at the same path and whose operator has named its
            folder, is to copy it by itself, so that no bytes are sent.

        Raises
        ------
        OSError
            If the file, or the picture, cannot be read.
        ServiceError
            If `metadata` has what JSON cannot carry, the sdb refuses the import, or it cannot be
            reached in time.
        """
        return self.import_or_repeat(path, product, obs_id, **about).stored

    def import_or_repeat(
        self, path: Path, product: str, obs_id: str, **about: Unpack[About]
    ) -> Imported:
        """Import as `import_file`; return also whether the version is new, or was there already."""
        return self._sender.send(path, product, obs_id, about)

    def import_files(self, files: Iterable[NewFile]) -> Iterator[Imported | ServiceError]:
        """Import many files, small ones together; yield what became of each, in their order.

        What is refused, or cannot be read, is yielded as its error, and does not keep the others
        from being imported.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached in time.
        """
        return BulkSender(self._sender).send(files)

    def export(
        self, product: str, obs_id: str, version: int | None = None, *, to: Path
    ) -> StoredProduct:
        """Write a version of a product, the newest by default, to the file `to`.

        The file appears complete, its digest verified, or not at all.

        Raises
        ------
        OSError
            If it cannot be written.
        ServiceError
            If there is no such version, or the sdb cannot be reached in time.
        """
        stored = self.get(product, obs_id, version)
        self._retries.run(lambda: self._fetch(stored, to))
        return stored

    def quicklook(
        self,
        product: str,
        obs_id: str,
        version: int | None = None,
        *,
        to: Path,
        wait_for_s: float = QUICKLOOK_FOR_S,
    ) -> QuicklookState:
        """Write a picture of a version, the newest by default, to the file `to`.

        Of a version that came without one, it is drawn when it is first asked for: this waits for
        that, for `wait_for_s` seconds at most.

        Raises
        ------
        OSError
            If it cannot be written.
        ServiceError
            With status 404 if there is no such version, or no quicklook of it: the message says
            why. If it is not drawn, or the sdb cannot be reached, in time.
        """
        stored = self.get(product, obs_id, version)
        path = f"{_path(product, obs_id, stored.version)}/quicklook"
        deadline = time.monotonic() + wait_for_s
        while (state := self._get(f"{path}/state", QuicklookState)).state == "drawing":
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{SERVICE}: the quicklook of {product} of {obs_id}, version {stored.version}, "
                    f"is still being drawn after {wait_for_s:g} s"
                )
            # The sdb itself waits before it answers.
            time.sleep(MIN_WAIT_S)
        self._retries.run(lambda: self._fetch_quicklook(path, state, to))
        return state

    def get(self, product: str, obs_id: str, version: int | None = None) -> StoredProduct:
        """Return the record of a version, the newest by default.

        Raises
        ------
        ServiceError
            With status 404 if there is no such version; if the sdb cannot be reached in time.
        """
        return self._get(_path(product, obs_id, version), StoredProduct)

    def withdraw(
        self, product: str, obs_id: str, version: int, reason: str | None = None
    ) -> StoredProduct:
        """Withdraw a version: it is kept, and given no more; return its record.

        Raises
        ------
        ServiceError
            With status 404 if there is no such version; if the sdb cannot be reached in time.
        """

        def ask() -> StoredProduct:
            params = {} if reason is None else {"reason": reason}
            with translate_errors(SERVICE, self.url):
                response = self._http.delete(_path(product, obs_id, version), params=params)
            return self._read(response, StoredProduct)

        return self._retries.run(ask)

    def lineage(self, product: str, obs_id: str, version: int | None = None) -> Lineage:
        """Return all that a version, the newest by default, was made from; raises as `get`."""
        return self._get(f"{_path(product, obs_id, version)}/lineage", Lineage)

    def list(
        self, product: str | None = None, obs_id: str | None = None, *, latest: bool = False
    ) -> Iterator[StoredProduct]:
        """Yield every version, or the newest of each product, in the order of import.

        Raises
        ------
        ServiceError
            If the sdb cannot be reached in time.
        """
        asked = {"product": product, "obs_id": obs_id, "latest": str(latest).lower()}
        params = {key: value for key, value in asked.items() if value is not None}
        params["limit"] = str(PAGE_LIMIT)
        while True:
            page = self._get("/products", Page[StoredProduct], params)
            yield from page.items
            if page.next is None:
                return
            params["cursor"] = page.next

    def _get(self, path: str, model: type[M], params: Mapping[str, str] | None = None) -> M:
        def ask() -> M:
            with translate_errors(SERVICE, self.url):
                response = self._http.get(path, params=params)
            return self._read(response, model)

        return self._retries.run(ask)

    def _read(self, response: httpx.Response, model: type[M]) -> M:
        check_response(SERVICE, response)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as exc:
            raise ServiceError(
                f"{SERVICE} at {self.url}: the answer is not a {model.__name__}; is it an sdb?",
                status=response.status_code,
            ) from exc

    def _fetch(self, stored: StoredProduct, to: Path) -> None:
        path = f"{_path(stored.product, stored.obs_id, stored.version)}/data"
        with _temporary_sibling(to) as part:
            digest = self._download.fetch(path, part)
            if digest != stored.sha256:
                raise ServiceError(
                    f"{SERVICE}: {stored.product} of {stored.obs_id}, version {stored.version}: "
                    f"its SHA-256 is {digest}, not {stored.sha256}; {to} was not written"
                )
            part.replace(to)

    def _fetch_quicklook(self, path: str, state: QuicklookState, to: Path) -> None:
        with translate_errors(SERVICE, self.url):
            response = self._http.get(path)
        check_response(SERVICE, response)
        digest = hashlib.sha256(response.content).hexdigest()
        if digest != state.sha256:
            raise ServiceError(
                f"{SERVICE}: the quicklook of {state.product} of {state.obs_id}, "
                f"version {state.version}: its SHA-256 is {digest}, not {state.sha256}; "
                f"{to} was not written"
            )
        with _temporary_sibling(to) as part:
            part.write_bytes(response.content)
            part.replace(to)


def _check_address(url: str) -> str:
    with translate_errors(SERVICE, url):
        parsed = httpx.URL(url)
    if parsed.scheme in {"http", "https"} and parsed.host and (parsed.port or 0) <= 65_535:
        return url
    raise ServiceError(f"{SERVICE}: {url!r} is not an address (accepted: http://host:port)")


def _path(product: str, obs_id: str, version: int | None) -> str:
    path = f"/products/{quote(product, safe='')}/{quote(obs_id, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


@contextmanager
def _temporary_sibling(to: Path) -> Iterator[Path]:
    """Yield a temporary path beside `to`, deleted at the end if it is still there."""
    part = to.with_name(f".{to.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
