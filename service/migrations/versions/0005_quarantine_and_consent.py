"""quarantine: what is kept from experts and sets; a set's rows keep the consent of the day it was frozen."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)
CAUSES = (
    ("project_id", "project"),
    ("source_id", "source"),
    ("user_id", "user"),
    ("lifted_by", "user"),
)
REVISIONS = "ix_ledger_entry_project_id_subject"
DIFFERENCES = "ix_training_set_example_training_set_id_content_sha256"


def upgrade() -> None:
    op.add_column("training_set_example", sa.Column("consent", JSON, nullable=True))
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("lifted_at", MOMENT, nullable=True),
        sa.Column("lifted_by", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
        *(
            sa.ForeignKeyConstraint([column], [f"{table}.id"], name=f"fk_quarantine_{column}_{table}")
            for column, table in CAUSES
        ),
    )
    for column in ("created_at", "project_id"):
        op.create_index(f"ix_quarantine_{column}", "quarantine", [column])
    op.create_index(REVISIONS, "ledger_entry", ["project_id", "subject"])
    op.create_index(DIFFERENCES, "training_set_example", ["training_set_id", "content_sha256"])


def downgrade() -> None:
    op.drop_index(REVISIONS, "ledger_entry")
    op.drop_index(DIFFERENCES, "training_set_example")
    op.drop_table("quarantine")
    op.drop_column("training_set_example", "consent")
