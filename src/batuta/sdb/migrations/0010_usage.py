"""How many bytes the versions of each product have, kept as they change.

Triggers keep the sums in the transaction of what they sum, whoever writes, so that a quota is
checked without reading all records.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

TABLES = ("products", "quicklooks")

_ADD = (
    "INSERT INTO usage (product, bytes) VALUES (NEW.product, COALESCE(NEW.size, 0)) "
    "ON CONFLICT (product) DO UPDATE SET bytes = usage.bytes + excluded.bytes;"
)
_SUBTRACT = "UPDATE usage SET bytes = bytes - COALESCE(OLD.size, 0) WHERE product = OLD.product;"
_STATEMENTS = {
    "INSERT": _ADD,
    "UPDATE": f"{_SUBTRACT} {_ADD}",
    "DELETE": _SUBTRACT,
}


def upgrade() -> None:
    """Create the table, sum what is there, and have triggers keep the sums."""
    op.create_table(
        "usage",
        sa.Column("product", sa.String(128), primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO usage (product, bytes) SELECT product, sum(size) FROM ("
        "SELECT product, size FROM products UNION ALL "
        "SELECT product, COALESCE(size, 0) FROM quicklooks) AS recorded GROUP BY product"
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in TABLES:
        for event, statements in _STATEMENTS.items():
            name = f"usage_{table}_{event.lower()}"
            if postgresql:
                _create_in_postgresql(name, table, event, statements)
            else:
                _execute(
                    f"CREATE TRIGGER {name} AFTER {_of(event)} ON {table} BEGIN {statements} END"
                )


def downgrade() -> None:
    """Drop all of it."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in TABLES:
        for event in _STATEMENTS:
            name = f"usage_{table}_{event.lower()}"
            _execute(f"DROP TRIGGER {name}" + (f" ON {table}" if postgresql else ""))
            if postgresql:
                _execute(f"DROP FUNCTION {name}()")
    op.drop_table("usage")


def _create_in_postgresql(name: str, table: str, event: str, statements: str) -> None:
    _execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {statements} RETURN NULL; END $$"
    )
    _execute(
        f"CREATE TRIGGER {name} AFTER {_of(event)} ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {name}()"
    )


def _of(event: str) -> str:
    return "UPDATE OF product, size" if event == "UPDATE" else event


def _execute(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)
