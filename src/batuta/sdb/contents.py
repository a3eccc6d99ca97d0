"""The bytes of products: small files in the database, the others in the store."""

from collections.abc import AsyncIterator
from typing import Final

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from batuta.sdb.records import StoredProduct
from batuta.sdb.settings import MAX_SMALL_FILE_BYTES
from batuta.sdb.store import ProductStore
from batuta.sdb.tables import CONTENTS
from batuta.service.database import reading

_SELECT_CONTENT: Final = sa.select(CONTENTS.c.content).where(
    CONTENTS.c.sha256 == sa.bindparam("of_sha256")
)


class Contents:
    """Reads the bytes of products, wherever they are.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    store : ProductStore
        Where larger files are, and small ones that were imported under another setting.
    """

    def __init__(self, engine: sa.Engine, store: ProductStore) -> None:
        self._engine = engine
        self._store = store

    async def read(self, stored: StoredProduct, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Yield the bytes ``[start, stop)`` of a product, a chunk at a time.

        Raises
        ------
        StoreError
            If the store cannot read them, or has lost them.
        """
        if stored.size <= MAX_SMALL_FILE_BYTES:
            content = await run_in_threadpool(self._small, stored.sha256)
            if content is not None:
                yield memoryview(content)[start:stop]
                return
        async for piece in self._store.read(stored.sha256, start, stop):
            yield piece

    def _small(self, sha256: str) -> bytes | None:
        with reading(self._engine) as connection:
            return connection.scalar(_SELECT_CONTENT, {"of_sha256": sha256})
