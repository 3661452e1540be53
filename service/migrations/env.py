"""Alembic's entry: run revisions on the connection that `service.migrations` hands over."""

from alembic import context
from sqlmodel import SQLModel

import service.tables  # noqa: F401  fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
context.run_migrations()
