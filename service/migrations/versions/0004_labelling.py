"""labelling: what Argilla signs its webhooks with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("project", sa.Column("tool_hook_secret", sa.String(length=200), nullable=True))


def downgrade() -> None:
    op.drop_column("project", "tool_hook_secret")
