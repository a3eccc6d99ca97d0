"""Alembic's entry: runs the steps in the connection that `open_database` hands over."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    target_metadata=None,
)
with context.begin_transaction():
    context.run_migrations()
