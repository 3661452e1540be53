"""training sets: corpora and their admission, repairs, reports, mirrors, time spent elsewhere."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What an enumeration may hold from here on, by table, column and constraint: what it held, and what is added.
ADDED: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("project", "kind", "projectkind", ("classification", "generation", "conversation"), ("extraction",)),
    ("split_assignment", "split", "split", ("train", "validation", "test"), ("regression",)),
    ("training_set_example", "split", "split", ("train", "validation", "test"), ("regression",)),
    (
        *("annotation_task", "purpose", "taskpurpose"),
        ("flag", "random", "corpus", "gold", "recheck", "adjudication", "human_evaluation"),
        ("coverage",),
    ),
    (
        *("job", "kind", "jobkind"),
        ("triage", "send", "sync", "curate", "train", "evaluate", "rebuild", "import"),
        ("corpus", "mirror", "collect"),
    ),
)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TABLES = ("admission", "accepted_repair", "mirror", "time_entry")
INDEXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("annotation_task", ("source_id",)),
    ("response", ("source_id", "id")),
    ("response", ("source_id", "body_sha256")),
)
CAUSES = (("settlement", "admission_id", "admission"), ("annotation_task", "repair_id", "accepted_repair"))
SELDOM = (("response", "source_id", "set_aside"), ("training_set_example", "training_set_id", "erased_at"))
REPORTS = ("audit_report", "card")
ERASABLE = ("response", "training_set_example")


def upgrade() -> None:
    for table, column, name, before, added in ADDED:
        _allow(table, column, name, before, (*before, *added))
    op.add_column("project", sa.Column("admission_bar", sa.Float(), nullable=False, server_default="0.9"))
    op.add_column("source", sa.Column("is_corpus", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("source", sa.Column("author", sa.String(length=200), nullable=False, server_default=""))
    op.add_column("response", sa.Column("set_aside", sa.String(length=100), nullable=True))
    op.add_column("audit_finding", sa.Column("name", sa.String(length=71), nullable=False, server_default=""))
    op.add_column("audit_finding", sa.Column("proposals", JSON, nullable=False, server_default="[]"))
    op.add_column("training_set", sa.Column("dropped", JSON, nullable=False, server_default="{}"))
    op.add_column("training_set_example", sa.Column("repairs", JSON, nullable=False, server_default="[]"))
    _add_current_at()
    for name in REPORTS:
        op.add_column("training_set", sa.Column(name, sa.String(length=71), nullable=True))
    for table in ERASABLE:
        op.add_column(table, sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    _create_tables()
    for table, column, other in CAUSES:
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN {column} {'CHAR(32)' if _is_sqlite() else 'UUID'}"
            f" CONSTRAINT fk_{table}_{column}_{other} REFERENCES {other} (id)"
        )
    for table, columns in INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns), unique=False)
    for table, column, other in SELDOM:
        is_there = sa.text(f"{other} IS NOT NULL")
        op.create_index(
            f"ix_{table}_{column}_{other}",
            table,
            [column, other],
            sqlite_where=is_there,
            postgresql_where=is_there,
        )
    op.drop_index("ix_response_source_id", "response")


def downgrade() -> None:
    op.create_index("ix_response_source_id", "response", ["source_id"], unique=False)
    for table, column, other in SELDOM:
        op.drop_index(f"ix_{table}_{column}_{other}", table)
    for table, columns in INDEXES:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
    op.drop_column("training_set", "current_at")
    for table in ERASABLE:
        op.drop_column(table, "erased_at")
    for table, column, other in CAUSES:
        if not _is_sqlite():
            op.drop_constraint(f"fk_{table}_{column}_{other}", table)
        op.drop_column(table, column)
    for table in reversed(TABLES):
        op.drop_table(table)
    for name in REPORTS:
        op.drop_column("training_set", name)
    for table, column in (
        ("training_set_example", "repairs"),
        ("training_set", "dropped"),
        ("audit_finding", "proposals"),
        ("audit_finding", "name"),
        ("response", "set_aside"),
        ("source", "author"),
        ("source", "is_corpus"),
        ("project", "admission_bar"),
    ):
        op.drop_column(table, column)
    for table, column, name, before, added in ADDED:
        _allow(table, column, name, (*before, *added), before)


def _add_current_at() -> None:
    """Say of each set that it was last built when it was first built."""
    epoch = "1970-01-01 00:00:00"
    column = sa.Column("current_at", sa.DateTime(timezone=True), nullable=False, server_default=epoch)
    op.add_column("training_set", column)
    op.execute("UPDATE training_set SET current_at = created_at")


def _create_tables() -> None:
    op.create_table(
        "admission",
        *_identity("admission"),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("right", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("bar", sa.Float(), nullable=False),
        sa.Column("is_admitted", sa.Boolean(), nullable=False),
        _reference("admission", "project_id", "project"),
        _reference("admission", "source_id", "source"),
    )
    op.create_table(
        "accepted_repair",
        *_identity("accepted_repair"),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("finding_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Uuid(), nullable=True),
        _reference("accepted_repair", "project_id", "project"),
        _reference("accepted_repair", "finding_id", "audit_finding"),
        _reference("accepted_repair", "user_id", "user"),
        _reference("accepted_repair", "undone_by", "user"),
    )
    op.create_table(
        "mirror",
        *_identity("mirror"),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("git_commit", sa.String(length=64), nullable=False),
        sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        _reference("mirror", "training_set_id", "training_set"),
        sa.UniqueConstraint("training_set_id", name=op.f("uq_mirror_training_set_id")),
    )
    op.create_table(
        "time_entry",
        *_identity("time_entry"),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column(
            "part",
            sa.Enum(
                *("data", "training", "validation"),
                name="part",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        _reference("time_entry", "project_id", "project"),
    )
    for table in TABLES:
        _index(table, "created_at")
    for table, column in (
        ("admission", "project_id"),
        ("admission", "source_id"),
        ("accepted_repair", "project_id"),
        ("accepted_repair", "finding_id"),
        ("time_entry", "project_id"),
    ):
        _index(table, column)


def _allow(table: str, column: str, name: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """Replace an enumeration's check.

    SQLite can only change it in the schema's text, as its documentation of ALTER TABLE describes: to drop and copy a
    table that others refer to would break their references.
    """
    old, new = (", ".join(f"'{value}'" for value in values) for values in (before, after))
    constraint = f"ck_{table}_{name}"
    if not _is_sqlite():
        op.drop_constraint(op.f(constraint), table)
        op.create_check_constraint(op.f(constraint), table, f"{column} IN ({new})")
        return
    connection = op.get_bind()
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


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _identity(table: str) -> tuple[sa.Column[Any], sa.Column[Any], sa.PrimaryKeyConstraint]:
    return (
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )


def _reference(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"))


def _index(table: str, column: str) -> None:
    op.create_index(f"ix_{table}_{column}", table, [column], unique=False)
