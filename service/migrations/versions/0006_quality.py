"""the quality of annotations: posteriors, what was known of annotators, adjudicators' reasons, reports."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JOBS = (
    "triage",
    "send",
    "sync",
    "curate",
    "train",
    "evaluate",
    "rebuild",
    "import",
    "corpus",
    "mirror",
    "collect",
)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
COLUMNS = (
    ("project", sa.Column("settlement_bar", sa.Float(), nullable=False, server_default="0.85")),
    ("annotation", sa.Column("reason", sa.String(), nullable=True)),
    ("settlement", sa.Column("posterior", sa.Float(), nullable=True)),
    ("settlement_annotation", sa.Column("accuracy", sa.Float(), nullable=True)),
)


def upgrade() -> None:
    _allow("job", "kind", "jobkind", JOBS, (*JOBS, "quality"))
    for table, column in COLUMNS:
        op.add_column(table, column)
    op.create_table(
        "quality_report",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_quality_report_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quality_report")),
        sa.UniqueConstraint("project_id", name=op.f("uq_quality_report_project_id")),
    )
    op.create_index("ix_quality_report_created_at", "quality_report", ["created_at"], unique=False)


def downgrade() -> None:
    op.drop_table("quality_report")
    for table, column in reversed(COLUMNS):
        op.drop_column(table, column.name)
    _allow("job", "kind", "jobkind", (*JOBS, "quality"), JOBS)


def _allow(table: str, column: str, name: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """Replace an enumeration's check; SQLite can only change it in the schema's text."""
    old, new = (", ".join(f"'{value}'" for value in values) for values in (before, after))
    constraint = f"ck_{table}_{name}"
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        op.drop_constraint(op.f(constraint), table)
        op.create_check_constraint(op.f(constraint), table, f"{column} IN ({new})")
        return
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    changed = connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ? AND instr(sql, ?)",
        (f"IN ({old})", f"IN ({new})", table, f"IN ({old})"),
    )
    if changed.rowcount != 1:
        raise RuntimeError(f"{constraint} is not as the revisions before left it")
    connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=RESET")
