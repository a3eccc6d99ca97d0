"""Databases of an orchestra that has run for years: filled through their real schemas, in bulk.

``python -m benchmarks.orchestra.support.history DATABASE_URL OBSERVATIONS`` fills a conductor's,
``… --sdb`` an sdb's. SQLite takes a million observations in a minute or two.
"""

# ruff: noqa: S608  the statements are built of constants alone

import argparse
import time
from typing import Final

import sqlalchemy as sa

from batuta.conductor.database.schema import MIGRATIONS as CONDUCTOR
from batuta.sdb.tables import MIGRATIONS as SDB
from batuta.service.database import open_database

PRODUCTS: Final = 30
MADE: Final = 3
"""Products of an observation that were made, of the thirty in turn; besides, its input."""
FAILED_EACH: Final = 1000
"""One processing in so many has failed."""
DAY_S: Final = 86_400
OBSERVED_EACH_S: Final = 60.0
BEGUN: Final = 1_600_000_000.0
BATCH: Final = 50_000

# Of observation i: its name, when it was heard of, and its k-th product.
_OBSERVATION: Final = "'sb' || (100000000 + i)"
_TIME: Final = f"({BEGUN} + i * {OBSERVED_EACH_S} + k)"
_PRODUCT: Final = f"'L' || (1 + (i * {MADE} + k) % {PRODUCTS})"
_NUMBERS: Final = (
    "WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {end}), "
    f"m(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM m WHERE k + 1 < {MADE}) "
)
_AVAILABLE: Final = (
    "INSERT INTO conductor_available (obs_id, product, version, archived, heard) "
    + _NUMBERS
    + f"SELECT {_OBSERVATION}, 'L0', 1, {{true}}, {BEGUN} + i * {OBSERVED_EACH_S} FROM n UNION ALL "
    f"SELECT {_OBSERVATION}, {_PRODUCT}, 1, {{true}}, {_TIME} FROM n, m ORDER BY 1, 2"
)
_PROCESSINGS: Final = (
    "INSERT INTO conductor_processings (id, product, obs_id, claim, inputs, provider, priority, "
    "state, attempt, pipeline_attempt, max_attempts, timeout_s, not_before, ask_at, done, total, "
    "error, created, requested, started, ended) "
    + _NUMBERS
    + f"SELECT {{id}}, {_PRODUCT}, {_OBSERVATION}, 'once', '{{{{\"L0\": 1}}}}', "
    f"'maker' || (1 + (i * {MADE} + k) % {PRODUCTS}), 0, "
    f"CASE WHEN (i * {MADE} + k) % {FAILED_EACH} = 0 THEN 'failed' ELSE 'succeeded' END, "
    f"1, 1, 3, 3600.0, {_TIME}, {_TIME}, 16, 16, NULL, {_TIME}, {_TIME}, {_TIME}, {_TIME} + 30 "
    "FROM n, m ORDER BY i, k"
)
_ARCHIVED: Final = (
    "INSERT INTO products (product, obs_id, version, sha256, size, media_type, metadata, inputs, "
    "provider, processing_id, attempt, created, withdrawn) "
    + _NUMBERS
    + f"SELECT {_PRODUCT}, {_OBSERVATION}, 1, {{id}} || {{id}}, 1000000, 'image/fits', '{{{{}}}}', "
    f"'[]', 'maker', {{id}}, 1, {{date}}, "
    f"CASE WHEN (i * {MADE} + k) % {FAILED_EACH} = 0 THEN {{date}} END FROM n, m ORDER BY i, k"
)
_WORDS: Final = {
    "sqlite": {
        "true": "1",
        "id": "lower(hex(randomblob(16)))",
        "date": f"strftime('%Y-%m-%d %H:%M:%f000', {_TIME}, 'unixepoch')",
    },
    "postgresql": {
        "true": "true",
        "id": "md5(random()::text)",
        "date": f"to_timestamp({_TIME})",
    },
}


def name_of(number: int) -> str:
    """Return the name of an observation, as `fill_conductor` gives it."""
    return f"sb{100_000_000 + number}"


def fill_conductor(url: str, observations: int) -> None:
    """Record observations that were heard of long ago, and what was made of them."""
    with open_database(url, CONDUCTOR) as engine:
        _fill(engine, (_AVAILABLE, _PROCESSINGS), observations)
        with engine.begin() as connection:
            connection.execute(
                sa.text("INSERT INTO conductor_about (key, value) VALUES ('rebuilt', 'yes')")
            )


def fill_sdb(url: str, observations: int) -> None:
    """Record versions of products, whose bytes no store has."""
    with open_database(url, SDB) as engine:
        _fill(engine, (_ARCHIVED,), observations)


def _fill(engine: sa.Engine, statements: tuple[str, ...], observations: int) -> None:
    words = _WORDS[engine.dialect.name]
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Nobody reads it yet: what a crash loses here is made again.
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA synchronous = OFF")
            connection.exec_driver_sql("PRAGMA cache_size = -500000")
            connection.exec_driver_sql("BEGIN")
        for first in range(0, observations, BATCH):
            end = min(first + BATCH, observations)
            for statement in statements:
                connection.execute(sa.text(statement.format(first=first, end=end, **words)))
            connection.commit()
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
    engine.dispose()  # with what was set on its connections


def main() -> None:
    """Fill a database, and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database_url")
    parser.add_argument("observations", type=int)
    parser.add_argument("--sdb", action="store_true")
    asked = parser.parse_args()
    began = time.monotonic()
    (fill_sdb if asked.sdb else fill_conductor)(asked.database_url, asked.observations)
    print(f"{asked.observations:,} observations in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
