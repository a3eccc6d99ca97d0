"""The records of uploads, which survive a restart of the sdb."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from batuta.sdb.bare_body import APPENDED, DIGEST_LENGTH
from batuta.sdb.records import StoredProduct
from batuta.sdb.tables import UPLOADS
from batuta.service.database import reading

MAX_LISTED: Final = 100
MAX_COLLECTED: Final = 1000
"""Uploads that are deleted at a time."""


class UploadState(BaseModel):
    """An upload, as its owner sees it.

    `offset` is where it goes on, of `length` bytes, until `expires`. Once it is `imported`, it has
    made a version, or repeated one (`is_new` is false): `stored` is its record.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    product: str
    obs_id: str
    filename: str | None
    length: int
    offset: int
    expires: datetime
    state: Literal["receiving", "imported"]
    is_new: bool | None = None
    stored: StoredProduct | None = None


@dataclass(frozen=True, kw_only=True)
class UploadRecord:
    """An upload.

    Attributes
    ----------
    id : str
        Its name, which nobody guesses: 32 hexadecimal digits.
    owner : str or None
        The name of the token that has created it; None if that has none.
    fingerprint : str or None
        By which its sender finds it again.
    length : int
        Bytes of the file, and of the digest that follows it, where one does.
    fields : mapping of str to str
        What was said of it.
    received : int
        Bytes of the file that are on the disk.
    appended : str
        What was received of the digest that follows the file.
    quicklook : bytes or None
        Its picture.
    expires : datetime
        Until when it may be resumed.
    product, obs_id, version, is_new
        What it is imported as; the latter two are None until it was.
    """

    id: str
    owner: str | None
    fingerprint: str | None
    length: int
    fields: Mapping[str, str]
    received: int = 0
    appended: str = ""
    quicklook: bytes | None = None
    expires: datetime
    product: str
    obs_id: str
    version: int | None = None
    is_new: bool | None = None

    @property
    def file_bytes(self) -> int:
        """How many bytes the file has."""
        return self.length - (DIGEST_LENGTH if self.is_followed_by_digest else 0)

    @property
    def is_followed_by_digest(self) -> bool:
        """Whether the last bytes are the digest of those before."""
        return self.fields.get("sha256") == APPENDED

    @property
    def offset(self) -> int:
        """Where it goes on."""
        return self.received + len(self.appended)

    @property
    def is_complete(self) -> bool:
        """Whether all of it was received."""
        return self.offset == self.length

    def state(self, stored: StoredProduct | None = None) -> UploadState:
        """Return what its owner sees."""
        return UploadState(
            id=self.id,
            product=self.product,
            obs_id=self.obs_id,
            filename=self.fields.get("filename"),
            length=self.length,
            offset=self.offset,
            expires=self.expires,
            state="receiving" if self.version is None else "imported",
            is_new=self.is_new,
            stored=stored,
        )


class UploadRecords:
    """Reads the records of uploads, and writes them in transactions of a `Committer`.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def find(self, upload_id: str) -> UploadRecord | None:
        """Return an upload; None if there is none. It blocks."""
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(UPLOADS).where(_is(upload_id))).one_or_none()
        return UploadRecord(**row._mapping) if row is not None else None

    def find_all(self, owner: str | None, fingerprint: str | None) -> list[UploadRecord]:
        """Return the uploads of an owner, the newest first, some of them if there are many.

        Without their pictures: together they may be large.
        """
        query = sa.select(*_BESIDES_PICTURES).where(UPLOADS.c.owner.is_not_distinct_from(owner))
        if fingerprint is not None:
            query = query.where(UPLOADS.c.fingerprint == fingerprint)
        query = query.order_by(UPLOADS.c.expires.desc()).limit(MAX_LISTED)
        with reading(self._engine) as connection:
            return [UploadRecord(**row._mapping) for row in connection.execute(query)]

    def find_expired(self, now: datetime) -> list[str]:
        """Return the names of some of those that may not be resumed any more. It blocks."""
        query = sa.select(_ID).where(UPLOADS.c.expires < now).limit(MAX_COLLECTED)
        with reading(self._engine) as connection:
            return list(connection.scalars(query))

    def known_among(self, upload_ids: list[str]) -> set[str]:
        """Return those of some names that have a record. It blocks."""
        with reading(self._engine) as connection:
            return set(connection.scalars(sa.select(_ID).where(_ID.in_(upload_ids))))

    def received_bytes(self) -> int:
        """Return the bytes that were received of uploads that are not imported. It blocks."""
        with reading(self._engine) as connection:
            return received_bytes(connection)

    def count(self) -> int:
        """Return how many are not imported. It blocks."""
        with reading(self._engine) as connection:
            return connection.scalar(_COUNT) or 0


def received_bytes(connection: sa.Connection, besides: str | None = None) -> int:
    """Return the bytes that were received of uploads that are not imported, but for one of them."""
    total = sa.cast(sa.func.coalesce(sa.func.sum(UPLOADS.c.received), 0), sa.BigInteger)
    query = sa.select(total).where(UPLOADS.c.version.is_(None))
    if besides is not None:
        query = query.where(~_is(besides))
    return connection.scalar(query) or 0


def insert_upload(connection: sa.Connection, record: UploadRecord, at_most: int) -> bool:
    """Insert a record, unless there are `at_most` of those that are not imported."""
    if (connection.scalar(_COUNT) or 0) >= at_most:
        return False
    connection.execute(sa.insert(UPLOADS), {**vars(record), "fields": dict(record.fields)})
    return True


def update_upload(connection: sa.Connection, upload_id: str, **values: Any) -> bool:
    """Change a record; return whether there is one."""
    change = sa.update(UPLOADS).where(_is(upload_id)).values(**values)
    return connection.execute(change).rowcount > 0


def delete_upload(connection: sa.Connection, upload_id: str) -> None:
    """Delete a record."""
    connection.execute(sa.delete(UPLOADS).where(_is(upload_id)))


_ID: Final[sa.ColumnElement[str]] = UPLOADS.c.id
_BESIDES_PICTURES: Final = [each for each in UPLOADS.c if each.name != "quicklook"]
_COUNT: Final = sa.select(sa.func.count()).select_from(UPLOADS).where(UPLOADS.c.version.is_(None))


def _is(upload_id: str) -> sa.ColumnElement[bool]:
    return UPLOADS.c.id == upload_id
