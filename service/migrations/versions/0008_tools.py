"""tools: several for one project, what hinders them, and answers that are taken back in them."""

import re
from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# What an enumeration may hold from here on, besides what it held.
ADDED = (
    ("annotation_task", "purpose", "taskpurpose", "added"),
    ("document", "kind", "documentkind", "routing"),
)
TOOLS = ("label-studio", "argilla", "none")
MOVED = (
    ("tool_project", "external_id", 64),
    ("tool_url", "url", 500),
    ("tool_hook_secret", "hook_secret", 200),
)
TIMES = ("hook_put_back_at", "lost_at", "quarantined_at", "cursor", "polled_at", "look_due_at", "not_before")
_BACK = (
    "UPDATE project SET {column} = (SELECT {name} FROM tool_project"
    " WHERE tool_project.project_id = project.id AND tool_project.connector = project.connector)"
)
ONE_A_TASK = "CONSTRAINT uq_settlement_task_id UNIQUE (task_id)"


def upgrade() -> None:
    for table, column, name, value in ADDED:
        _allow(table, column, name, added=value)
    _create_tool_project()
    op.execute(
        "ALTER TABLE annotation_task ADD COLUMN connector VARCHAR(32) DEFAULT 'none' NOT NULL"
        f" CONSTRAINT ck_annotation_task_connectorkind CHECK (connector IN ({_listed(TOOLS)}))"
    )
    op.add_column("annotation_task", sa.Column("overlap", sa.Integer(), nullable=True))
    op.add_column("annotation_task", sa.Column("pool", sa.String(length=100), nullable=True))
    op.execute(
        "UPDATE annotation_task SET connector = "
        "(SELECT connector FROM project WHERE project.id = annotation_task.project_id)"
    )
    op.create_index(
        "ix_annotation_task_project_id_external_id", "annotation_task", ["project_id", "external_id"]
    )
    is_selected = sa.text("state = 'selected'")
    op.create_index(
        "ix_annotation_task_selected",
        "annotation_task",
        ["project_id", "connector", "id"],
        sqlite_where=is_selected,
        postgresql_where=is_selected,
    )
    op.add_column("annotation", sa.Column("tool_task", sa.String(length=64), nullable=True))
    op.add_column("annotation", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE annotation SET tool_task = "
        "(SELECT external_id FROM annotation_task WHERE annotation_task.id = annotation.task_id)"
    )
    op.add_column("settlement", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        f"ALTER TABLE settlement ADD COLUMN withdrawn_by_id {'CHAR(32)' if _is_sqlite() else 'UUID'}"
        " CONSTRAINT fk_settlement_withdrawn_by_id_annotation REFERENCES annotation (id)"
    )
    if _is_sqlite():
        _write_settlements_anew(without=ONE_A_TASK)
    else:
        op.drop_constraint(op.f("uq_settlement_task_id"), "settlement")
    op.create_index("ix_settlement_task_id", "settlement", ["task_id"])
    in_force = sa.text("withdrawn_at IS NULL")
    op.create_index(
        "uq_settlement_task_id_in_force",
        "settlement",
        ["task_id"],
        unique=True,
        sqlite_where=in_force,
        postgresql_where=in_force,
    )


def downgrade() -> None:
    op.drop_index("uq_settlement_task_id_in_force", "settlement")
    op.drop_index("ix_settlement_task_id", "settlement")
    if _is_sqlite():
        _write_settlements_anew(added=ONE_A_TASK)
    else:
        op.create_unique_constraint(op.f("uq_settlement_task_id"), "settlement", ["task_id"])
        op.drop_constraint("fk_settlement_withdrawn_by_id_annotation", "settlement")
    for table, column in (
        ("settlement", "withdrawn_by_id"),
        ("settlement", "withdrawn_at"),
        ("annotation", "withdrawn_at"),
        ("annotation", "tool_task"),
    ):
        op.drop_column(table, column)
    op.drop_index("ix_annotation_task_selected", "annotation_task")
    op.drop_index("ix_annotation_task_project_id_external_id", "annotation_task")
    for column in ("pool", "overlap", "connector"):
        op.drop_column("annotation_task", column)
    _move_back()
    op.drop_table("tool_project")
    for table, column, name, value in ADDED:
        _allow(table, column, name, removed=value)


def _create_tool_project() -> None:
    """Move what a project knew of its one tool into a row for each."""
    op.create_table(
        "tool_project",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column(
            "connector",
            sa.Enum(*TOOLS, name="connectorkind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("external_id", sa.String(length=64), nullable=True),
        sa.Column("url", sa.String(length=500), nullable=True),
        sa.Column("hook_secret", sa.String(length=200), nullable=True),
        sa.Column("hook_sha256", sa.String(length=71), nullable=True),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in TIMES),
        sa.Column("foreign_tasks", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("problem", sa.String(length=1000), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_tool_project_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_project")),
        sa.UniqueConstraint("project_id", "connector", name=op.f("uq_tool_project_project_id_connector")),
    )
    op.create_index("ix_tool_project_created_at", "tool_project", ["created_at"])
    # A project has one tool so far, so that its own id serves as the row's.
    op.execute(
        "INSERT INTO tool_project (id, created_at, project_id, connector, external_id, url, hook_secret, cursor,"
        " foreign_tasks, failures) SELECT id, created_at, id, connector, tool_project, tool_url, tool_hook_secret,"
        " tool_cursor, 0, 0 FROM project WHERE tool_project IS NOT NULL"
    )
    for column, _, _ in MOVED:
        op.drop_column("project", column)
    op.drop_column("project", "tool_cursor")


def _move_back() -> None:
    for column, name, length in MOVED:
        op.add_column("project", sa.Column(column, sa.String(length=length), nullable=True))
        op.execute(_BACK.format(column=column, name=name))
    op.add_column("project", sa.Column("tool_cursor", sa.DateTime(timezone=True), nullable=True))
    op.execute(_BACK.format(column="tool_cursor", name="cursor"))


def _allow(table: str, column: str, name: str, *, added: str = "", removed: str = "") -> None:
    """Change what an enumeration's check lets in, whatever that was.

    SQLite can only change it in the schema's text, as its documentation of ALTER TABLE describes: to drop and copy a
    table that others refer to would break their references.
    """
    constraint, connection = f"ck_{table}_{name}", op.get_bind()

    def change(held: list[str]) -> str:
        return _listed(value for value in (*held, added) if value and value != removed)

    if not _is_sqlite():
        query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s"
        held = re.findall("'([a-z_]+)'", connection.exec_driver_sql(query, (constraint,)).scalar_one())
        op.drop_constraint(op.f(constraint), table)
        op.create_check_constraint(op.f(constraint), table, f"{column} IN ({change(held)})")
        return
    query = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?"
    sql = connection.exec_driver_sql(query, (table,)).scalar_one()
    pattern = rf"(CONSTRAINT {constraint} CHECK \({column} IN \()([^)]*)"
    [(_, held)] = re.findall(pattern, sql)
    after = change(re.findall("'([a-z_]+)'", held))
    wanted = re.sub(pattern, rf"\g<1>{after}", sql)
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    connection.exec_driver_sql(
        "UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ?", (wanted, table)
    )
    connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=RESET")


def _write_settlements_anew(*, without: str = "", added: str = "") -> None:
    """Drop or add a constraint with an index of its own, which SQLite can only do by writing a table again.

    References to its rows are checked when the transaction ends, and all of them are there again by then.
    """
    connection = op.get_bind()
    query = "SELECT type, sql FROM sqlite_schema WHERE tbl_name = 'settlement' AND sql IS NOT NULL"
    found = connection.exec_driver_sql(query).all()
    [sql] = [sql for kind, sql in found if kind == "table"]
    body = re.sub(r",\s*" + re.escape(without), "", sql) if without else sql
    if without and body == sql:
        raise RuntimeError("settlement is not as the revisions before left it")
    for statement in (
        "PRAGMA defer_foreign_keys=ON",
        "CREATE TEMPORARY TABLE kept AS SELECT * FROM settlement",
        "DROP TABLE settlement",
        f"{body.rstrip().removesuffix(')')}, {added})" if added else body,
        "INSERT INTO settlement SELECT * FROM kept",
        "DROP TABLE kept",
        *(sql for kind, sql in found if kind == "index"),
    ):
        connection.exec_driver_sql(statement)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
