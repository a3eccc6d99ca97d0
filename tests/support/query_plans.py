"""How a database would execute what was asked of it: whether its cost grows with a table."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa


@dataclass(frozen=True)
class Statement:
    """A statement as it was executed."""

    sql: str
    parameters: Any

    def is_about(self, tables: Collection[str]) -> bool:
        """Return whether it names one of the tables."""
        return any(re.search(rf"\b{table}\b", self.sql) for table in tables)


@contextmanager
def recorded(engine: sa.Engine) -> Iterator[list[Statement]]:
    """Record what is executed in the block, of each statement once."""
    statements: dict[str, Statement] = {}

    def record(
        _connection: object,
        _cursor: object,
        sql: str,
        parameters: Any,
        _context: object,
        executemany: bool,
    ) -> None:
        if re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)\b", sql):
            statements[sql] = Statement(sql, parameters[0] if executemany else parameters)

    found: list[Statement] = []
    sa.event.listen(engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", record)
        found += statements.values()


def costly_queries(
    engine: sa.Engine,
    statements: Collection[Statement],
    tables: Collection[str],
    small_indexes: Collection[str] = (),
) -> dict[str, list[str]]:
    """Return the statements that read all of a table, or sort what they read of it, and how.

    Parameters
    ----------
    tables : collection of str
        Those that grow.
    small_indexes : collection of str
        Of those, the indexes of parts that do not grow, and may be read as a whole.
    """
    small = re.compile(rf"\b({'|'.join(small_indexes)})\b" if small_indexes else r"(?!)")
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        explain = _sqlite_steps if sqlite else _postgresql_steps
        if not sqlite:
            # Its tables are empty here: it would read them whole even where indexes serve.
            for way in ("seqscan", "bitmapscan", "sort", "hashagg", "hashjoin", "mergejoin"):
                connection.execute(sa.text(f"SET enable_{way} = off"))
        found = {
            each.sql: [
                step for step in explain(connection, each, tables) if small.search(step) is None
            ]
            for each in statements
            if each.is_about(tables)
        }
        connection.rollback()
    return {sql: steps for sql, steps in found.items() if steps}


def _sqlite_steps(
    connection: sa.Connection, statement: Statement, tables: Collection[str]
) -> list[str]:
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)
    steps = [row.detail for row in plan]
    names = "|".join([*tables, r"\w+_1", "newer"])  # and their aliases
    scans = [step for step in steps if re.match(rf"SCAN ({names})\b", step)]
    sorts = [step for step in steps if "TEMP B-TREE" in step]
    # Read in the order of an index, or of the table itself, and no further than to the limit.
    if "LIMIT" in statement.sql and "ORDER BY" in statement.sql:
        return sorts
    return [step for step in scans if "LIMIT" not in statement.sql or "USING" not in step] + sorts


def _postgresql_steps(
    connection: sa.Connection, statement: Statement, tables: Collection[str]
) -> list[str]:
    plan = connection.exec_driver_sql(f"EXPLAIN {statement.sql}", statement.parameters)
    steps = [row[0].strip() for row in plan]
    costly = rf"Seq Scan on ({'|'.join(tables)})\b|^(->\s+)?(Incremental )?Sort\b"
    return [step for step in steps if re.search(costly, step)]
