"""the console: passwords, sessions and roles per project; attempts to break the model; pages of lists."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Pages of lists go along these.
INDEXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("response", ("project_id", "id")),
    ("response", ("project_id", "triaged_at", "id")),
    ("response", ("project_id", "conversation_id")),
    ("response", ("model_version_id", "id")),
    ("feedback", ("project_id", "id")),
    ("feedback", ("project_id", "triaged_at", "id")),
    ("annotation_task", ("project_id", "id")),
    ("annotation_task", ("project_id", "priority", "id")),
    ("settlement", ("project_id", "id")),
    ("job", ("project_id", "id")),
    ("job", ("project_id", "kind", "id")),
    ("job", ("project_id", "state", "kind")),
    ("ledger_entry", ("project_id", "id")),
)
# Each is the beginning of a longer one above.
REPLACED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("response", ("project_id",)),
    ("response", ("model_version_id",)),
    ("feedback", ("project_id", "triaged_at")),
    ("settlement", ("project_id",)),
    ("job", ("project_id",)),
    ("ledger_entry", ("project_id",)),
)
TABLES = ("membership", "user_session", "attack_session", "suite_candidate")


def upgrade() -> None:
    op.add_column(
        "project", sa.Column("needs_two_persons", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("user", sa.Column("password", sa.String(length=200), nullable=True))
    op.add_column("api_key", sa.Column("name", sa.String(length=100), nullable=False, server_default=""))
    op.create_table(
        "membership",
        *_identity("membership"),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "annotator",
                "auditor",
                "operator",
                "approver",
                "admin",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        _reference("membership", "user_id", "user"),
        _reference("membership", "project_id", "project"),
        sa.UniqueConstraint("user_id", "project_id", name=op.f("uq_membership_user_id_project_id")),
    )
    op.create_table(
        "user_session",
        *_identity("user_session"),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("browser", sa.String(length=200), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        _reference("user_session", "user_id", "user"),
        sa.UniqueConstraint("sha256", name=op.f("uq_user_session_sha256")),
    )
    op.create_table(
        "attack_session",
        *_identity("attack_session"),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        _reference("attack_session", "project_id", "project"),
        _reference("attack_session", "user_id", "user"),
    )
    op.create_table(
        "suite_candidate",
        *_identity("suite_candidate"),
        sa.Column("attack_session_id", sa.Uuid(), nullable=False),
        sa.Column("response_id", sa.Uuid(), nullable=False),
        _reference("suite_candidate", "attack_session_id", "attack_session"),
        _reference("suite_candidate", "response_id", "response"),
        sa.UniqueConstraint("response_id", name=op.f("uq_suite_candidate_response_id")),
    )
    for table in TABLES:
        _index(table, ("created_at",))
    _index("membership", ("project_id",))
    _index("user_session", ("user_id",))
    _index("attack_session", ("project_id",))
    _index("attack_session", ("user_id",))
    _index("suite_candidate", ("attack_session_id",))
    for table, columns in INDEXES:
        _index(table, columns)
    for table, columns in REPLACED:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)


def downgrade() -> None:
    for table, columns in REPLACED:
        _index(table, columns)
    for table, columns in INDEXES:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
    for table in reversed(TABLES):
        op.drop_table(table)
    op.drop_column("api_key", "name")
    op.drop_column("user", "password")
    op.drop_column("project", "needs_two_persons")


def _identity(table: str) -> tuple[sa.Column[Any], sa.Column[Any], sa.PrimaryKeyConstraint]:
    return (
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )


def _reference(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"))


def _index(table: str, columns: tuple[str, ...]) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns), unique=False)
