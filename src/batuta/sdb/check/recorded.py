"""The bytes that records name: all of them, in the order of their digests, in bounded memory.

They are read once, in a short transaction, into a temporary file: a check of terabytes takes hours,
and a database keeps all that changes for as long as a transaction reads.
"""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import IO, Final

import sqlalchemy as sa

from batuta.sdb.tables import CONTENTS, PRODUCTS, QUICKLOOKS
from batuta.service.committer import lock_writers
from batuta.service.database import reading

PREFIXES: Final = tuple(f"{number:02x}" for number in range(256))
"""How digests begin: what is held in memory is what begins alike."""
_ROWS_AT_A_TIME: Final = 1000
_CONTENTS_AT_A_TIME: Final = 16
"""Each has a megabyte at most."""
_DIGESTS_AT_A_TIME: Final = 500


@dataclass(frozen=True)
class RecordedBytes:
    """Bytes that a record names; `part` is ``file`` or ``quicklook``."""

    sha256: str
    size: int
    part: str
    product: str
    obs_id: str
    version: int


RecordsByDigest = dict[str, list[RecordedBytes]]


class Records:
    """The records as they were when they were read, in a file.

    Attributes
    ----------
    count : int
        How many there are.
    """

    def __init__(self, lines: IO[str], count: int) -> None:
        self._lines = lines
        self.count = count

    def by_prefix(self) -> Iterator[tuple[str, RecordsByDigest]]:
        """Yield each prefix of digests, in order, with the records of digests that it begins."""
        self._lines.seek(0)
        groups = groupby(map(_parsed, self._lines), key=lambda each: each.sha256[:2])
        following = next(groups, None)
        for prefix in PREFIXES:
            found: RecordsByDigest = {}
            if following is not None and following[0] == prefix:
                for record in following[1]:
                    found.setdefault(record.sha256, []).append(record)
                following = next(groups, None)
            yield prefix, found


@contextmanager
def read_records(engine: sa.Engine) -> Iterator[Records]:
    """Read what all records name; the file is deleted at the end."""
    with tempfile.TemporaryFile("w+", encoding="ascii") as lines:
        count = 0
        with reading(engine) as connection:
            options = {"yield_per": _ROWS_AT_A_TIME}
            query = _all_named(engine.dialect.name)
            with connection.execute(query, execution_options=options) as rows:
                for count, row in enumerate(rows, 1):  # noqa: B007  the last one is their number
                    # Names have no spaces: see `batuta.names`.
                    lines.write(" ".join(map(str, row)) + "\n")
        yield Records(lines, count)


def _parsed(line: str) -> RecordedBytes:
    sha256, size, part, product, obs_id, version = line.split()
    return RecordedBytes(sha256, int(size), part, product, obs_id, int(version))


def _all_named(dialect: str) -> sa.Select[tuple[str, int, str, str, str, int]]:
    both = sa.union_all(
        *(
            sa.select(
                table.c.sha256,
                table.c.size,
                sa.literal(part).label("part"),
                table.c.product,
                table.c.obs_id,
                table.c.version,
            ).where(table.c.sha256.is_not(None))
            for table, part in ((PRODUCTS, "file"), (QUICKLOOKS, "quicklook"))
        )
    ).subquery()
    # By their bytes, whatever the language of a PostgreSQL database.
    digest = both.c.sha256.collate("C" if dialect == "postgresql" else "BINARY")
    return sa.select(*both.c).order_by(digest, both.c.product, both.c.obs_id, both.c.version)


def small_files(
    engine: sa.Engine, prefix: str, *, with_content: bool
) -> Iterator[tuple[str, int, bytes | None]]:
    """Yield digest, size and, if asked for, content of each file in the database with a prefix."""
    content = CONTENTS.c.content
    columns = [CONTENTS.c.sha256, sa.func.length(content), content if with_content else sa.null()]
    # A range, and not LIKE, is found by the index.
    query = sa.select(*columns).where(CONTENTS.c.sha256.between(prefix, prefix + "g"))
    with reading(engine) as connection:
        options = {"yield_per": _CONTENTS_AT_A_TIME}
        with connection.execute(query, execution_options=options) as rows:
            yield from ((row[0], row[1], row[2]) for row in rows)


def unnamed_now(engine: sa.Engine, digests: Collection[str]) -> set[str]:
    """Return those of `digests` that no record names now."""
    unnamed = set(digests)
    with reading(engine) as connection:
        for batch in _batches(digests):
            unnamed -= _named(connection, batch)
    return unnamed


def delete_unnamed_small_files(engine: sa.Engine, digests: Collection[str]) -> set[str]:
    """Delete from the database those of `digests` that no record names; return them.

    The record of an import is committed together with its small file, by one writer at a time.
    """
    deleted: set[str] = set()
    for batch in _batches(digests):
        with engine.begin() as connection:
            lock_writers(connection)
            unnamed = set(batch) - _named(connection, batch)
            connection.execute(sa.delete(CONTENTS).where(CONTENTS.c.sha256.in_(unnamed)))
            deleted |= unnamed
    return deleted


def replace_small_file(engine: sa.Engine, sha256: str, content: bytes) -> None:
    """Replace the content of a small file in the database, which was damaged."""
    change = sa.update(CONTENTS).where(CONTENTS.c.sha256 == sha256).values(content=content)
    with engine.begin() as connection:
        lock_writers(connection)
        connection.execute(change)


def _batches(digests: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(digests)
    for start in range(0, len(ordered), _DIGESTS_AT_A_TIME):
        yield ordered[start : start + _DIGESTS_AT_A_TIME]


def _named(connection: sa.Connection, digests: Collection[str]) -> set[str]:
    named: set[str] = set()
    for table in (PRODUCTS, QUICKLOOKS):
        query = sa.select(table.c.sha256).where(table.c.sha256.in_(digests))
        named.update(connection.scalars(query))
    return named
