"""questions: several labels, marked spans, abstentions, pairwise verdicts and suggestions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
VERDICTS = ("correct", "incorrect", "unsure")
ADDED = ("a", "b", "tie")
COLUMNS = (
    ("annotation", "labels", JSON, "[]"),
    ("annotation", "spans", JSON, "[]"),
    ("settlement", "labels", JSON, "[]"),
    ("annotation_task", "suggestion", JSON, "{}"),
    ("project", "blind_share", sa.Float(), "0.3"),
)
CAUSES = ("schema_id", "guidelines_id")
# Table, column, constraint, values and what follows.
ENUMS = (
    ("annotation", "abstention", "abstention", ("cannot_judge", "guideline_unclear"), ""),
    (
        "project",
        "suggestion",
        "suggestionsource",
        ("none", "response", "correction"),
        " DEFAULT 'none' NOT NULL",
    ),
)


def upgrade() -> None:
    for table in ("annotation", "settlement"):
        _allow(table, VERDICTS, (*VERDICTS, *ADDED))
    for table, column, kind, default in COLUMNS:
        op.add_column(table, sa.Column(column, kind, nullable=False, server_default=default))
    op.add_column("annotation_task", sa.Column("is_blind", sa.Boolean(), nullable=True))
    for column in CAUSES:
        op.execute(
            f"ALTER TABLE annotation ADD COLUMN {column} {'CHAR(32)' if _is_sqlite() else 'UUID'}"
            f" CONSTRAINT fk_annotation_{column}_document REFERENCES document (id)"
        )
    op.execute(
        "UPDATE annotation SET (schema_id, guidelines_id) = (SELECT schema_id, guidelines_id FROM annotation_task"
        " WHERE annotation_task.id = annotation.task_id)"
    )
    for table, column, name, values, rest in ENUMS:
        # In one statement: SQLite adds no constraint to a table that is there.
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN {column} VARCHAR(32){rest}"
            f" CONSTRAINT ck_{table}_{name} CHECK ({column} IN ({_listed(values)}))"
        )


def downgrade() -> None:
    for table, column, name, _, _ in reversed(ENUMS):
        if not _is_sqlite():
            op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
        op.drop_column(table, column)
    for column in CAUSES:
        if not _is_sqlite():
            op.drop_constraint(f"fk_annotation_{column}_document", "annotation")
        op.drop_column("annotation", column)
    op.drop_column("annotation_task", "is_blind")
    for table, column, _, _ in reversed(COLUMNS):
        op.drop_column(table, column)
    for table in ("annotation", "settlement"):
        _allow(table, (*VERDICTS, *ADDED), VERDICTS)


def _allow(table: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """Replace the check of `verdict`; SQLite can only change it in the schema's text, as revision 0003 does."""
    constraint = f"ck_{table}_verdict"
    if not _is_sqlite():
        op.drop_constraint(op.f(constraint), table)
        op.create_check_constraint(op.f(constraint), table, f"verdict IN ({_listed(after)})")
        return
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    changed = connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ? AND instr(sql, ?)",
        (f"IN ({_listed(before)})", f"IN ({_listed(after)})", table, f"IN ({_listed(before)})"),
    )
    if changed.rowcount != 1:
        raise RuntimeError(f"{constraint} is not as the revisions before left it")
    connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=RESET")


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
