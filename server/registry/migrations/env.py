"""Alembic's entry: migrate over the connection that server.registry.database hands in."""

from alembic import context

from server.registry import (  # noqa: F401 - they have tables, too
    audit,
    key_rows,
    operators,
    rollout_rows,
    signing_rows,
)
from server.registry.rows import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    # SQLite cannot alter most things in place; batch mode copies the table instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
