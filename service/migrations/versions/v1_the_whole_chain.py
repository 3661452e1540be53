"""the whole chain."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "v1_6c856e65"  # after its tables: a test says what it is to be
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
APPEND_ONLY = ("ledger_entry", "promotion", "approval")


def upgrade() -> None:
    op.create_table(
        "project",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "classification",
                "generation",
                "conversation",
                "extraction",
                "comparison",
                name="projectkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("base_model", sa.String(length=500), nullable=False),
        sa.Column("system_prompt", sa.String(), nullable=False),
        sa.Column(
            "connector",
            sa.Enum(
                "label-studio",
                "argilla",
                "none",
                name="connectorkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("random_share", sa.Float(), nullable=False),
        sa.Column(
            "suggestion",
            sa.Enum(
                "none",
                "response",
                "correction",
                name="suggestionsource",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("blind_share", sa.Float(), nullable=False),
        sa.Column("admission_bar", sa.Float(), nullable=False),
        sa.Column("settlement_bar", sa.Float(), nullable=False),
        sa.Column("gold_share", sa.Float(), nullable=False),
        sa.Column("repeat_weeks", sa.Integer(), nullable=False),
        sa.Column("persons_needed", sa.Integer(), nullable=False),
        sa.Column("needs_blindness", sa.Boolean(), nullable=False),
        sa.Column("compares_id", sa.Uuid(), nullable=True),
        sa.Column("daily_capacity", sa.Integer(), nullable=False),
        sa.Column("qualifying_answers", sa.Integer(), nullable=False),
        sa.Column("qualifying_accuracy", sa.Float(), nullable=False),
        sa.Column("needs_token", sa.Boolean(), nullable=False),
        sa.Column("masks_personal", sa.Boolean(), nullable=False),
        sa.Column("presumes_consent", sa.Boolean(), nullable=False),
        sa.Column("wave_voices", sa.Integer(), nullable=False),
        sa.Column("token_keys", JSON, nullable=False),
        sa.ForeignKeyConstraint(["compares_id"], ["project.id"], name=op.f("fk_project_compares_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("slug", name=op.f("uq_project_slug")),
    )
    op.create_index(op.f("ix_project_compares_id"), "project", ["compares_id"], unique=False)
    op.create_index(op.f("ix_project_created_at"), "project", ["created_at"], unique=False)
    op.create_table(
        "user",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
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
        sa.Column("password", sa.String(length=200), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("name", name=op.f("uq_user_name")),
    )
    op.create_index(op.f("ix_user_created_at"), "user", ["created_at"], unique=False)
    op.create_table(
        "annotator",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "connector",
            sa.Enum(
                "label-studio",
                "argilla",
                "none",
                name="connectorkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("account", sa.String(length=200), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("daily_capacity", sa.Integer(), nullable=True),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_annotator_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotator")),
        sa.UniqueConstraint("connector", "account", name=op.f("uq_annotator_connector_account")),
    )
    op.create_index(op.f("ix_annotator_created_at"), "annotator", ["created_at"], unique=False)
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("secret", "public", name="keykind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("origins", JSON, nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_api_key_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_key_sha256")),
    )
    op.create_index(op.f("ix_api_key_created_at"), "api_key", ["created_at"], unique=False)
    op.create_index(op.f("ix_api_key_project_id"), "api_key", ["project_id"], unique=False)
    op.create_table(
        "attack_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_attack_session_project_id_project")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_attack_session_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attack_session")),
    )
    op.create_index(op.f("ix_attack_session_created_at"), "attack_session", ["created_at"], unique=False)
    op.create_index(op.f("ix_attack_session_project_id"), "attack_session", ["project_id"], unique=False)
    op.create_index(op.f("ix_attack_session_user_id"), "attack_session", ["user_id"], unique=False)
    op.create_table(
        "document",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "label_schema",
                "guidelines",
                "reasons",
                "criteria",
                "gate_rules",
                "suite",
                "glossary",
                "waiver",
                "routing",
                "triggers",
                "declined_suites",
                "rates",
                "retention",
                name="documentkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("author", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_document_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_document")),
        sa.UniqueConstraint(
            "project_id", "kind", "name", "version", name=op.f("uq_document_project_id_kind_name_version")
        ),
    )
    op.create_index(op.f("ix_document_created_at"), "document", ["created_at"], unique=False)
    op.create_table(
        "erasure",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("salted", sa.String(length=71), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("recalled", JSON, nullable=False),
        sa.Column("certificate", JSON, nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_erasure_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    op.create_index(op.f("ix_erasure_created_at"), "erasure", ["created_at"], unique=False)
    op.create_index(op.f("ix_erasure_project_id"), "erasure", ["project_id"], unique=False)
    op.create_table(
        "inbox_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("natural_key", sa.String(length=200), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_inbox_event_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox_event")),
        sa.UniqueConstraint("source", "natural_key", name=op.f("uq_inbox_event_source_natural_key")),
    )
    op.create_index(op.f("ix_inbox_event_created_at"), "inbox_event", ["created_at"], unique=False)
    op.create_index(op.f("ix_inbox_event_project_id"), "inbox_event", ["project_id"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
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
                "quality",
                "compare",
                "notify",
                "serve",
                "erase",
                "bisect",
                "value",
                "bases",
                "tune",
                "reproduce",
                "recheck",
                "monitor",
                name="jobkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("row_id", sa.Uuid(), nullable=False),
        sa.Column("unique_key", sa.String(length=200), nullable=True),
        sa.Column("options", JSON, nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "leased",
                "done",
                "dead",
                "cancelled",
                name="jobstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("leases_lost", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("progress", JSON, nullable=False),
        sa.Column("result", JSON, nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("failure_code", sa.String(length=64), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_job_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index(op.f("ix_job_created_at"), "job", ["created_at"], unique=False)
    op.create_index(
        "ix_job_leases_lost",
        "job",
        ["leases_lost"],
        unique=False,
        sqlite_where=sa.text("leases_lost > 0"),
        postgresql_where=sa.text("leases_lost > 0"),
    )
    op.create_index("ix_job_project_id_id", "job", ["project_id", "id"], unique=False)
    op.create_index("ix_job_project_id_kind_id", "job", ["project_id", "kind", "id"], unique=False)
    op.create_index("ix_job_project_id_state_kind", "job", ["project_id", "state", "kind"], unique=False)
    op.create_index("ix_job_state_not_before", "job", ["state", "not_before"], unique=False)
    op.create_index(
        "uq_job_training_leased",
        "job",
        ["project_id"],
        unique=True,
        sqlite_where=sa.text("state = 'leased' AND kind = 'train'"),
        postgresql_where=sa.text("state = 'leased' AND kind = 'train'"),
    )
    op.create_index(
        "uq_job_unique_key_leased",
        "job",
        ["unique_key"],
        unique=True,
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "uq_job_unique_key_pending",
        "job",
        ["unique_key"],
        unique=True,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "schedule_turn",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.String(length=1000), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_turn")),
        sa.UniqueConstraint("name", name=op.f("uq_schedule_turn_name")),
    )
    op.create_index(op.f("ix_schedule_turn_created_at"), "schedule_turn", ["created_at"], unique=False)
    op.create_table(
        "ledger_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("previous", sa.String(length=71), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_ledger_entry_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entry")),
        sa.UniqueConstraint("seq", name=op.f("uq_ledger_entry_seq")),
    )
    op.create_index(op.f("ix_ledger_entry_created_at"), "ledger_entry", ["created_at"], unique=False)
    op.create_index("ix_ledger_entry_project_id_id", "ledger_entry", ["project_id", "id"], unique=False)
    op.create_index(
        "ix_ledger_entry_project_id_subject", "ledger_entry", ["project_id", "subject"], unique=False
    )
    op.create_table(
        "legal_hold",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_legal_hold_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_hold")),
    )
    op.create_index(op.f("ix_legal_hold_created_at"), "legal_hold", ["created_at"], unique=False)
    op.create_index(op.f("ix_legal_hold_project_id"), "legal_hold", ["project_id"], unique=False)
    op.create_index(op.f("ix_legal_hold_subject"), "legal_hold", ["subject"], unique=False)
    op.create_table(
        "text_read",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("page", sa.String(length=64), nullable=False),
        sa.Column("row_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_text_read_project_id_project")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_text_read_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_text_read")),
        sa.UniqueConstraint(
            "user_id", "page", "row_id", "day", name=op.f("uq_text_read_user_id_page_row_id_day")
        ),
    )
    op.create_index(op.f("ix_text_read_created_at"), "text_read", ["created_at"], unique=False)
    op.create_index("ix_text_read_project_id_id", "text_read", ["project_id", "id"], unique=False)
    op.create_index(op.f("ix_text_read_row_id"), "text_read", ["row_id"], unique=False)
    op.create_table(
        "membership",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_membership_project_id_project")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_membership_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
        sa.UniqueConstraint("user_id", "project_id", name=op.f("uq_membership_user_id_project_id")),
    )
    op.create_index(op.f("ix_membership_created_at"), "membership", ["created_at"], unique=False)
    op.create_index(op.f("ix_membership_project_id"), "membership", ["project_id"], unique=False)
    op.create_table(
        "notice_target",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("kinds", JSON, nullable=False),
        sa.Column("problem", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_notice_target_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice_target")),
    )
    op.create_index(op.f("ix_notice_target_created_at"), "notice_target", ["created_at"], unique=False)
    op.create_index(op.f("ix_notice_target_project_id"), "notice_target", ["project_id"], unique=False)
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
    op.create_index(op.f("ix_quality_report_created_at"), "quality_report", ["created_at"], unique=False)
    op.create_table(
        "source",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_corpus", sa.Boolean(), nullable=False),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_source_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_source_project_id_name")),
    )
    op.create_index(op.f("ix_source_created_at"), "source", ["created_at"], unique=False)
    op.create_table(
        "time_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column(
            "part",
            sa.Enum(
                "data",
                "training",
                "validation",
                name="part",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_time_entry_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_time_entry")),
    )
    op.create_index(op.f("ix_time_entry_created_at"), "time_entry", ["created_at"], unique=False)
    op.create_index(op.f("ix_time_entry_project_id"), "time_entry", ["project_id"], unique=False)
    op.create_table(
        "tool_project",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column(
            "connector",
            sa.Enum(
                "label-studio",
                "argilla",
                "none",
                name="connectorkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("external_id", sa.String(length=64), nullable=True),
        sa.Column("url", sa.String(length=500), nullable=True),
        sa.Column("hook_secret", sa.String(length=200), nullable=True),
        sa.Column("hook_sha256", sa.String(length=71), nullable=True),
        sa.Column("hook_put_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor", sa.DateTime(timezone=True), nullable=True),
        sa.Column("polled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("look_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("foreign_tasks", sa.Integer(), nullable=False),
        sa.Column("guidelines_shown", JSON, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.String(length=1000), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_tool_project_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_project")),
        sa.UniqueConstraint("project_id", "connector", name=op.f("uq_tool_project_project_id_connector")),
    )
    op.create_index(op.f("ix_tool_project_created_at"), "tool_project", ["created_at"], unique=False)
    op.create_table(
        "training_set",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=71), nullable=False),
        sa.Column("artifact", sa.String(length=71), nullable=False),
        sa.Column("recipe", JSON, nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("is_blocked", sa.Boolean(), nullable=False),
        sa.Column("current_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("audit_report", sa.String(length=71), nullable=True),
        sa.Column("card", sa.String(length=71), nullable=True),
        sa.Column("dropped", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["training_set.id"], name=op.f("fk_training_set_parent_id_training_set")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_training_set_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_set")),
        sa.UniqueConstraint("project_id", "fingerprint", name=op.f("uq_training_set_project_id_fingerprint")),
        sa.UniqueConstraint("project_id", "version", name=op.f("uq_training_set_project_id_version")),
    )
    op.create_index(op.f("ix_training_set_created_at"), "training_set", ["created_at"], unique=False)
    op.create_index(op.f("ix_training_set_fingerprint"), "training_set", ["fingerprint"], unique=False)
    op.create_table(
        "user_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("browser", sa.String(length=200), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_user_session_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_session")),
        sa.UniqueConstraint("sha256", name=op.f("uq_user_session_sha256")),
    )
    op.create_index(op.f("ix_user_session_created_at"), "user_session", ["created_at"], unique=False)
    op.create_index(op.f("ix_user_session_user_id"), "user_session", ["user_id"], unique=False)
    op.create_table(
        "user_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("is_sign_in_link", sa.Boolean(), nullable=False),
        sa.Column("joins_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["joins_id"], ["project.id"], name=op.f("fk_user_token_joins_id_project")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_user_token_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_token")),
        sa.UniqueConstraint("sha256", name=op.f("uq_user_token_sha256")),
    )
    op.create_index(op.f("ix_user_token_created_at"), "user_token", ["created_at"], unique=False)
    op.create_index(op.f("ix_user_token_user_id"), "user_token", ["user_id"], unique=False)
    op.create_table(
        "admission",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("right", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("bar", sa.Float(), nullable=False),
        sa.Column("is_admitted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_admission_project_id_project")),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_admission_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admission")),
    )
    op.create_index(op.f("ix_admission_created_at"), "admission", ["created_at"], unique=False)
    op.create_index(op.f("ix_admission_project_id"), "admission", ["project_id"], unique=False)
    op.create_index(op.f("ix_admission_source_id"), "admission", ["source_id"], unique=False)
    op.create_table(
        "audit_finding",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("check", sa.String(length=64), nullable=False),
        sa.Column("check_version", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("keys", JSON, nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("repair", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=71), nullable=False),
        sa.Column("proposals", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["training_set_id"],
            ["training_set.id"],
            name=op.f("fk_audit_finding_training_set_id_training_set"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_finding")),
    )
    op.create_index(op.f("ix_audit_finding_created_at"), "audit_finding", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_audit_finding_training_set_id"), "audit_finding", ["training_set_id"], unique=False
    )
    op.create_table(
        "mirror",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("git_commit", sa.String(length=64), nullable=False),
        sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["training_set_id"], ["training_set.id"], name=op.f("fk_mirror_training_set_id_training_set")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mirror")),
        sa.UniqueConstraint("training_set_id", name=op.f("uq_mirror_training_set_id")),
    )
    op.create_index(op.f("ix_mirror_created_at"), "mirror", ["created_at"], unique=False)
    op.create_table(
        "notice",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("target_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "handed_over",
                "flag_answered",
                "gate_passed",
                "gate_refused",
                "approval_wanted",
                "promoted",
                "rolled_back",
                "alarm",
                "digest",
                "dead_letter",
                "test",
                name="noticekind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("about_id", sa.Uuid(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "delivered",
                "dead",
                name="noticestate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failure", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_notice_project_id_project")),
        sa.ForeignKeyConstraint(
            ["target_id"], ["notice_target.id"], name=op.f("fk_notice_target_id_notice_target")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
    )
    op.create_index(op.f("ix_notice_about_id"), "notice", ["about_id"], unique=False)
    op.create_index(op.f("ix_notice_created_at"), "notice", ["created_at"], unique=False)
    op.create_index("ix_notice_project_id_id", "notice", ["project_id", "id"], unique=False)
    op.create_index(
        "ix_notice_waiting",
        "notice",
        ["target_id", "not_before"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "pool_member",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("pool", sa.String(length=100), nullable=False),
        sa.Column("annotator_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["annotator.id"], name=op.f("fk_pool_member_annotator_id_annotator")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_pool_member_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool_member")),
        sa.UniqueConstraint(
            "project_id", "pool", "annotator_id", name=op.f("uq_pool_member_project_id_pool_annotator_id")
        ),
    )
    op.create_index(op.f("ix_pool_member_annotator_id"), "pool_member", ["annotator_id"], unique=False)
    op.create_index(op.f("ix_pool_member_created_at"), "pool_member", ["created_at"], unique=False)
    op.create_table(
        "qualification",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("annotator_id", sa.Uuid(), nullable=False),
        sa.Column("right", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["annotator.id"], name=op.f("fk_qualification_annotator_id_annotator")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_qualification_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_qualification")),
        sa.UniqueConstraint(
            "project_id", "annotator_id", name=op.f("uq_qualification_project_id_annotator_id")
        ),
    )
    op.create_index(op.f("ix_qualification_annotator_id"), "qualification", ["annotator_id"], unique=False)
    op.create_index(op.f("ix_qualification_created_at"), "qualification", ["created_at"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["lifted_by"], ["user.id"], name=op.f("fk_quarantine_lifted_by_user")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_quarantine_project_id_project")
        ),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_quarantine_source_id_source")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_quarantine_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_created_at"), "quarantine", ["created_at"], unique=False)
    op.create_index(op.f("ix_quarantine_project_id"), "quarantine", ["project_id"], unique=False)
    op.create_table(
        "split_assignment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("group_name", sa.String(length=100), nullable=False),
        sa.Column(
            "split",
            sa.Enum(
                "train",
                "validation",
                "regression",
                "test",
                name="split",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("is_contaminated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_split_assignment_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["training_set_id"],
            ["training_set.id"],
            name=op.f("fk_split_assignment_training_set_id_training_set"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_split_assignment")),
    )
    op.create_index(op.f("ix_split_assignment_created_at"), "split_assignment", ["created_at"], unique=False)
    op.create_index(
        "ix_split_assignment_project_id_group_name",
        "split_assignment",
        ["project_id", "group_name"],
        unique=False,
    )
    op.create_table(
        "training_run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("criteria_id", sa.Uuid(), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "requested",
                "running",
                "finished",
                "failed",
                "cancelled",
                name="runstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("is_only_watched", sa.Boolean(), nullable=False),
        sa.Column("code_archive", sa.String(length=71), nullable=True),
        sa.Column("package_lock", sa.String(length=71), nullable=True),
        sa.Column("environment", JSON, nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["criteria_id"], ["document.id"], name=op.f("fk_training_run_criteria_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_training_run_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["requested_by"], ["user.id"], name=op.f("fk_training_run_requested_by_user")
        ),
        sa.ForeignKeyConstraint(
            ["training_set_id"],
            ["training_set.id"],
            name=op.f("fk_training_run_training_set_id_training_set"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_run")),
    )
    op.create_index(op.f("ix_training_run_created_at"), "training_run", ["created_at"], unique=False)
    op.create_index(op.f("ix_training_run_project_id"), "training_run", ["project_id"], unique=False)
    op.create_index(
        op.f("ix_training_run_training_set_id"), "training_run", ["training_set_id"], unique=False
    )
    op.create_table(
        "accepted_repair",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("finding_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(length=2000), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(
            ["finding_id"], ["audit_finding.id"], name=op.f("fk_accepted_repair_finding_id_audit_finding")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_accepted_repair_project_id_project")
        ),
        sa.ForeignKeyConstraint(["undone_by"], ["user.id"], name=op.f("fk_accepted_repair_undone_by_user")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_accepted_repair_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accepted_repair")),
    )
    op.create_index(op.f("ix_accepted_repair_created_at"), "accepted_repair", ["created_at"], unique=False)
    op.create_index(op.f("ix_accepted_repair_finding_id"), "accepted_repair", ["finding_id"], unique=False)
    op.create_index(op.f("ix_accepted_repair_project_id"), "accepted_repair", ["project_id"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("base_model", sa.String(length=500), nullable=False),
        sa.Column("base_sha256", sa.String(length=71), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("training_run_id", sa.Uuid(), nullable=True),
        sa.Column("adapter_sha256", sa.String(length=71), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "challenger",
                "champion",
                "retired",
                "refused",
                name="modelstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["model_version.id"], name=op.f("fk_model_version_parent_id_model_version")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_model_version_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["training_run_id"],
            ["training_run.id"],
            name=op.f("fk_model_version_training_run_id_training_run"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("project_id", "number", name=op.f("uq_model_version_project_id_number")),
        sa.UniqueConstraint("training_run_id", name=op.f("uq_model_version_training_run_id")),
    )
    op.create_index(
        op.f("ix_model_version_adapter_sha256"), "model_version", ["adapter_sha256"], unique=False
    )
    op.create_index(op.f("ix_model_version_created_at"), "model_version", ["created_at"], unique=False)
    op.create_table(
        "bisection",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column("good_id", sa.Uuid(), nullable=False),
        sa.Column("bad_id", sa.Uuid(), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("budget", sa.Integer(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "requested",
                "running",
                "finished",
                "failed",
                "cancelled",
                name="runstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("progress", JSON, nullable=False),
        sa.Column("trainings", JSON, nullable=False),
        sa.Column("result", JSON, nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["bad_id"], ["model_version.id"], name=op.f("fk_bisection_bad_id_model_version")
        ),
        sa.ForeignKeyConstraint(
            ["good_id"], ["model_version.id"], name=op.f("fk_bisection_good_id_model_version")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_bisection_project_id_project")),
        sa.ForeignKeyConstraint(["requested_by"], ["user.id"], name=op.f("fk_bisection_requested_by_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bisection")),
    )
    op.create_index(op.f("ix_bisection_created_at"), "bisection", ["created_at"], unique=False)
    op.create_index(op.f("ix_bisection_project_id"), "bisection", ["project_id"], unique=False)
    op.create_table(
        "tuning",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("requested_by", sa.Uuid(), nullable=True),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("plan", JSON, nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "requested",
                "running",
                "finished",
                "failed",
                "cancelled",
                name="runstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("trials", JSON, nullable=False),
        sa.Column("result", JSON, nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_tuning_project_id_project")),
        sa.ForeignKeyConstraint(["requested_by"], ["user.id"], name=op.f("fk_tuning_requested_by_user")),
        sa.ForeignKeyConstraint(
            ["training_set_id"], ["training_set.id"], name=op.f("fk_tuning_training_set_id_training_set")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tuning")),
    )
    op.create_index(op.f("ix_tuning_created_at"), "tuning", ["created_at"], unique=False)
    op.create_index(op.f("ix_tuning_project_id"), "tuning", ["project_id"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("champion_id", sa.Uuid(), nullable=False),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("criteria_id", sa.Uuid(), nullable=False),
        sa.Column("rules_id", sa.Uuid(), nullable=False),
        sa.Column("suite_id", sa.Uuid(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "awaiting_people",
                "passed",
                "refused",
                "cannot_tell",
                "failed",
                name="evaluationstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=True),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("hashes", JSON, nullable=False),
        sa.Column("report", sa.String(length=71), nullable=True),
        sa.Column("people", JSON, nullable=False),
        sa.Column("contaminated", sa.Integer(), nullable=False),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["champion_id"], ["model_version.id"], name=op.f("fk_evaluation_champion_id_model_version")
        ),
        sa.ForeignKeyConstraint(
            ["criteria_id"], ["document.id"], name=op.f("fk_evaluation_criteria_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_evaluation_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_evaluation_project_id_project")
        ),
        sa.ForeignKeyConstraint(["rules_id"], ["document.id"], name=op.f("fk_evaluation_rules_id_document")),
        sa.ForeignKeyConstraint(["suite_id"], ["document.id"], name=op.f("fk_evaluation_suite_id_document")),
        sa.ForeignKeyConstraint(
            ["training_set_id"], ["training_set.id"], name=op.f("fk_evaluation_training_set_id_training_set")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
    )
    op.create_index(op.f("ix_evaluation_created_at"), "evaluation", ["created_at"], unique=False)
    op.create_index(op.f("ix_evaluation_model_version_id"), "evaluation", ["model_version_id"], unique=False)
    op.create_index(op.f("ix_evaluation_project_id"), "evaluation", ["project_id"], unique=False)
    op.create_table(
        "response",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("model_version", sa.String(length=200), nullable=True),
        sa.Column("external_id", sa.String(length=200), nullable=True),
        sa.Column("conversation_id", sa.String(length=200), nullable=True),
        sa.Column("messages", JSON, nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(length=71), nullable=False),
        sa.Column("context", JSON, nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("language", sa.String(length=35), nullable=True),
        sa.Column("may_train", sa.Boolean(), nullable=False),
        sa.Column("legal_basis", sa.String(length=200), nullable=True),
        sa.Column("trace_id", sa.String(length=64), nullable=True),
        sa.Column("text_sha256", sa.String(length=71), nullable=True),
        sa.Column("masked", JSON, nullable=False),
        sa.Column("channel", sa.String(length=32), nullable=True),
        sa.Column("host_metadata", JSON, nullable=False),
        sa.Column("triaged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("set_aside", sa.String(length=100), nullable=True),
        sa.Column("copy_of_id", sa.Uuid(), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["copy_of_id"], ["response.id"], name=op.f("fk_response_copy_of_id_response")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_response_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_response_project_id_project")),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("fk_response_source_id_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_response")),
        sa.UniqueConstraint("project_id", "external_id", name=op.f("uq_response_project_id_external_id")),
    )
    op.create_index(op.f("ix_response_copy_of_id"), "response", ["copy_of_id"], unique=False)
    op.create_index(op.f("ix_response_created_at"), "response", ["created_at"], unique=False)
    op.create_index("ix_response_model_version_id_id", "response", ["model_version_id", "id"], unique=False)
    op.create_index(
        "ix_response_project_id_conversation_id", "response", ["project_id", "conversation_id"], unique=False
    )
    op.create_index("ix_response_project_id_id", "response", ["project_id", "id"], unique=False)
    op.create_index(
        "ix_response_project_id_triaged_at_id", "response", ["project_id", "triaged_at", "id"], unique=False
    )
    op.create_index(
        "ix_response_source_id_body_sha256", "response", ["source_id", "body_sha256"], unique=False
    )
    op.create_index("ix_response_source_id_id", "response", ["source_id", "id"], unique=False)
    op.create_index(
        "ix_response_source_id_set_aside",
        "response",
        ["source_id", "set_aside"],
        unique=False,
        sqlite_where=sa.text("set_aside IS NOT NULL"),
        postgresql_where=sa.text("set_aside IS NOT NULL"),
    )
    op.create_index(op.f("ix_response_subject"), "response", ["subject"], unique=False)
    op.create_table(
        "approval",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("evaluation_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "decision",
            sa.Enum(
                "approved", "rejected", name="decision", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.Column("hashes", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_approval_evaluation_id_evaluation")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_approval_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_approval_project_id_project")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_approval_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
    )
    op.create_index(op.f("ix_approval_created_at"), "approval", ["created_at"], unique=False)
    op.create_index(op.f("ix_approval_evaluation_id"), "approval", ["evaluation_id"], unique=False)
    op.create_index(op.f("ix_approval_project_id"), "approval", ["project_id"], unique=False)
    op.create_table(
        "feedback",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("response_ref", sa.String(length=200), nullable=False),
        sa.Column("response_id", sa.Uuid(), nullable=True),
        sa.Column("reasons_id", sa.Uuid(), nullable=True),
        sa.Column(
            "rating",
            sa.Enum("up", "down", name="rating", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("comment", sa.String(), nullable=True),
        sa.Column("correction", sa.String(), nullable=True),
        sa.Column("consent", sa.Boolean(), nullable=True),
        sa.Column("selection", JSON, nullable=True),
        sa.Column("subject", sa.String(length=200), nullable=True),
        sa.Column("session", sa.String(length=200), nullable=True),
        sa.Column("trace_id", sa.String(length=64), nullable=True),
        sa.Column("span_id", sa.String(length=32), nullable=True),
        sa.Column("body_sha256", sa.String(length=71), nullable=False),
        sa.Column("earlier_events", JSON, nullable=False),
        sa.Column("text_sha256", sa.String(length=71), nullable=True),
        sa.Column("is_mismatched", sa.Boolean(), nullable=False),
        sa.Column("is_trusted", sa.Boolean(), nullable=False),
        sa.Column("held_for", sa.String(length=200), nullable=True),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("masked", JSON, nullable=False),
        sa.Column("triaged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_feedback_project_id_project")),
        sa.ForeignKeyConstraint(
            ["reasons_id"], ["document.id"], name=op.f("fk_feedback_reasons_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["response_id"], ["response.id"], name=op.f("fk_feedback_response_id_response")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sa.UniqueConstraint("project_id", "event_id", name=op.f("uq_feedback_project_id_event_id")),
    )
    op.create_index(op.f("ix_feedback_created_at"), "feedback", ["created_at"], unique=False)
    op.create_index("ix_feedback_project_id_id", "feedback", ["project_id", "id"], unique=False)
    op.create_index(
        "ix_feedback_project_id_response_ref", "feedback", ["project_id", "response_ref"], unique=False
    )
    op.create_index(
        "ix_feedback_project_id_triaged_at_id", "feedback", ["project_id", "triaged_at", "id"], unique=False
    )
    op.create_index(
        "ix_feedback_case_id",
        "feedback",
        ["case_id"],
        unique=False,
        sqlite_where=sa.text("case_id IS NOT NULL"),
        postgresql_where=sa.text("case_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_feedback_response_id"), "feedback", ["response_id"], unique=False)
    op.create_index(op.f("ix_feedback_subject"), "feedback", ["subject"], unique=False)
    op.create_table(
        "score",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evaluation_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("suite", sa.String(length=100), nullable=False),
        sa.Column("metric", sa.String(length=64), nullable=False),
        sa.Column("slice", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_score_evaluation_id_evaluation")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_version.id"], name=op.f("fk_score_model_version_id_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_score")),
        sa.UniqueConstraint(
            "evaluation_id",
            "model_version_id",
            "suite",
            "metric",
            "slice",
            name=op.f("uq_score_evaluation_id_model_version_id_suite_metric_slice"),
        ),
    )
    op.create_index(op.f("ix_score_created_at"), "score", ["created_at"], unique=False)
    op.create_index(op.f("ix_score_model_version_id"), "score", ["model_version_id"], unique=False)
    op.create_table(
        "outcome",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("response_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("body_sha256", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_version.id"], name=op.f("fk_outcome_model_version_id_model_version")
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_outcome_project_id_project")),
        sa.ForeignKeyConstraint(
            ["response_id"], ["response.id"], name=op.f("fk_outcome_response_id_response")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcome")),
        sa.UniqueConstraint("project_id", "event_id", name=op.f("uq_outcome_project_id_event_id")),
    )
    op.create_index(op.f("ix_outcome_created_at"), "outcome", ["created_at"], unique=False)
    op.create_index("ix_outcome_model_version_id_id", "outcome", ["model_version_id", "id"], unique=False)
    op.create_index(op.f("ix_outcome_response_id"), "outcome", ["response_id"], unique=False)
    op.create_table(
        "signal",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("response_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "copied",
                "edited",
                "regenerated",
                "abandoned",
                name="signalkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_signal_project_id_project")),
        sa.ForeignKeyConstraint(
            ["response_id"], ["response.id"], name=op.f("fk_signal_response_id_response")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signal")),
        sa.UniqueConstraint("project_id", "event_id", name=op.f("uq_signal_project_id_event_id")),
    )
    op.create_index(op.f("ix_signal_created_at"), "signal", ["created_at"], unique=False)
    op.create_index(op.f("ix_signal_response_id"), "signal", ["response_id"], unique=False)
    op.create_table(
        "suite_candidate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attack_session_id", sa.Uuid(), nullable=False),
        sa.Column("response_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attack_session_id"],
            ["attack_session.id"],
            name=op.f("fk_suite_candidate_attack_session_id_attack_session"),
        ),
        sa.ForeignKeyConstraint(
            ["response_id"], ["response.id"], name=op.f("fk_suite_candidate_response_id_response")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suite_candidate")),
        sa.UniqueConstraint("response_id", name=op.f("uq_suite_candidate_response_id")),
    )
    op.create_index(
        op.f("ix_suite_candidate_attack_session_id"), "suite_candidate", ["attack_session_id"], unique=False
    )
    op.create_index(op.f("ix_suite_candidate_created_at"), "suite_candidate", ["created_at"], unique=False)
    op.create_table(
        "annotation_task",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("response_id", sa.Uuid(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "flag",
                "random",
                "corpus",
                "gold",
                "recheck",
                "human_evaluation",
                "coverage",
                "added",
                name="taskpurpose",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("flag_id", sa.Uuid(), nullable=True),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("gold_of_id", sa.Uuid(), nullable=True),
        sa.Column("rechecks_id", sa.Uuid(), nullable=True),
        sa.Column("evaluation_id", sa.Uuid(), nullable=True),
        sa.Column("rival_id", sa.Uuid(), nullable=True),
        sa.Column("repair_id", sa.Uuid(), nullable=True),
        sa.Column("schema_id", sa.Uuid(), nullable=False),
        sa.Column("guidelines_id", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("urgency", JSON, nullable=False),
        sa.Column(
            "connector",
            sa.Enum(
                "label-studio",
                "argilla",
                "none",
                name="connectorkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("overlap", sa.Integer(), nullable=True),
        sa.Column("pool", sa.String(length=100), nullable=True),
        sa.Column("suggestion", JSON, nullable=False),
        sa.Column("is_blind", sa.Boolean(), nullable=True),
        sa.Column("is_gold", sa.Boolean(), nullable=True),
        sa.Column(
            "state",
            sa.Enum(
                "selected",
                "sent",
                "settled",
                "contested",
                "withdrawn",
                name="taskstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("external_id", sa.String(length=64), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluation.id"], name=op.f("fk_annotation_task_evaluation_id_evaluation")
        ),
        sa.ForeignKeyConstraint(
            ["flag_id"], ["feedback.id"], name=op.f("fk_annotation_task_flag_id_feedback")
        ),
        sa.ForeignKeyConstraint(
            ["gold_of_id"], ["annotation_task.id"], name=op.f("fk_annotation_task_gold_of_id_annotation_task")
        ),
        sa.ForeignKeyConstraint(
            ["guidelines_id"], ["document.id"], name=op.f("fk_annotation_task_guidelines_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_annotation_task_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["rechecks_id"],
            ["annotation_task.id"],
            name=op.f("fk_annotation_task_rechecks_id_annotation_task"),
        ),
        sa.ForeignKeyConstraint(
            ["repair_id"], ["accepted_repair.id"], name=op.f("fk_annotation_task_repair_id_accepted_repair")
        ),
        sa.ForeignKeyConstraint(
            ["response_id"], ["response.id"], name=op.f("fk_annotation_task_response_id_response")
        ),
        sa.ForeignKeyConstraint(
            ["rival_id"], ["response.id"], name=op.f("fk_annotation_task_rival_id_response")
        ),
        sa.ForeignKeyConstraint(
            ["schema_id"], ["document.id"], name=op.f("fk_annotation_task_schema_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["source.id"], name=op.f("fk_annotation_task_source_id_source")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation_task")),
    )
    op.create_index(op.f("ix_annotation_task_created_at"), "annotation_task", ["created_at"], unique=False)
    op.create_index(
        op.f("ix_annotation_task_evaluation_id"), "annotation_task", ["evaluation_id"], unique=False
    )
    op.create_index(op.f("ix_annotation_task_gold_of_id"), "annotation_task", ["gold_of_id"], unique=False)
    op.create_index(
        "ix_annotation_task_project_id_external_id",
        "annotation_task",
        ["project_id", "external_id"],
        unique=False,
    )
    op.create_index("ix_annotation_task_project_id_id", "annotation_task", ["project_id", "id"], unique=False)
    op.create_index(
        "ix_annotation_task_project_id_priority_id",
        "annotation_task",
        ["project_id", "priority", "id"],
        unique=False,
    )
    op.create_index(
        "ix_annotation_task_project_id_state",
        "annotation_task",
        ["project_id", "state", "priority"],
        unique=False,
    )
    op.create_index(op.f("ix_annotation_task_rechecks_id"), "annotation_task", ["rechecks_id"], unique=False)
    op.create_index(op.f("ix_annotation_task_response_id"), "annotation_task", ["response_id"], unique=False)
    op.create_index(op.f("ix_annotation_task_rival_id"), "annotation_task", ["rival_id"], unique=False)
    op.create_index(
        "ix_annotation_task_selected",
        "annotation_task",
        ["project_id", "connector", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'selected'"),
        postgresql_where=sa.text("state = 'selected'"),
    )
    op.create_index(op.f("ix_annotation_task_source_id"), "annotation_task", ["source_id"], unique=False)
    op.create_index(
        "ix_annotation_task_to_close",
        "annotation_task",
        ["project_id", "connector"],
        unique=False,
        sqlite_where=sa.text("NOT is_closed AND state IN ('settled', 'withdrawn')"),
        postgresql_where=sa.text("NOT is_closed AND state IN ('settled', 'withdrawn')"),
    )
    op.create_table(
        "promotion",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "first",
                "promotion",
                "rollback",
                "override",
                name="promotionkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("approval_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["approval_id"], ["approval.id"], name=op.f("fk_promotion_approval_id_approval")
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_promotion_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_promotion_project_id_project")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_promotion_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
        sa.UniqueConstraint("project_id", "seq", name=op.f("uq_promotion_project_id_seq")),
    )
    op.create_index(op.f("ix_promotion_created_at"), "promotion", ["created_at"], unique=False)
    op.create_table(
        "annotation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("annotator_id", sa.Uuid(), nullable=False),
        sa.Column("schema_id", sa.Uuid(), nullable=True),
        sa.Column("guidelines_id", sa.Uuid(), nullable=True),
        sa.Column("external_id", sa.String(length=64), nullable=False),
        sa.Column("revised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_skipped", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.String(length=500), nullable=True),
        sa.Column(
            "set_aside",
            sa.Enum(
                "outside_pool",
                "unqualified",
                "left",
                name="setaside",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column(
            "abstention",
            sa.Enum(
                "cannot_judge",
                "guideline_unclear",
                name="abstention",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column(
            "verdict",
            sa.Enum(
                "correct",
                "incorrect",
                "unsure",
                "a",
                "b",
                "tie",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("label", sa.String(length=200), nullable=True),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("correction", sa.String(), nullable=True),
        sa.Column(
            "cause",
            sa.Enum(
                "model",
                "context",
                "prompt",
                "policy",
                "product",
                "user_mistaken",
                name="cause",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("spans", JSON, nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("ratings", JSON, nullable=False),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.Column("tool_task", sa.String(length=64), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["annotator.id"], name=op.f("fk_annotation_annotator_id_annotator")
        ),
        sa.ForeignKeyConstraint(
            ["guidelines_id"], ["document.id"], name=op.f("fk_annotation_guidelines_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["schema_id"], ["document.id"], name=op.f("fk_annotation_schema_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["annotation_task.id"], name=op.f("fk_annotation_task_id_annotation_task")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
        sa.UniqueConstraint(
            "task_id", "external_id", "revised_at", name=op.f("uq_annotation_task_id_external_id_revised_at")
        ),
    )
    op.create_index(op.f("ix_annotation_annotator_id"), "annotation", ["annotator_id"], unique=False)
    op.create_index(op.f("ix_annotation_created_at"), "annotation", ["created_at"], unique=False)
    op.create_index(op.f("ix_annotation_task_id"), "annotation", ["task_id"], unique=False)
    op.create_table(
        "guideline_question",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("guidelines_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("answered_by", sa.Uuid(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["answered_by"], ["user.id"], name=op.f("fk_guideline_question_answered_by_user")
        ),
        sa.ForeignKeyConstraint(
            ["guidelines_id"], ["document.id"], name=op.f("fk_guideline_question_guidelines_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_guideline_question_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["annotation_task.id"], name=op.f("fk_guideline_question_task_id_annotation_task")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_guideline_question_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guideline_question")),
    )
    op.create_index(
        op.f("ix_guideline_question_created_at"), "guideline_question", ["created_at"], unique=False
    )
    op.create_index(
        "ix_guideline_question_project_id_id", "guideline_question", ["project_id", "id"], unique=False
    )
    op.create_index(op.f("ix_guideline_question_task_id"), "guideline_question", ["task_id"], unique=False)
    op.create_index(op.f("ix_guideline_question_user_id"), "guideline_question", ["user_id"], unique=False)
    op.create_table(
        "task_flag",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("feedback_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["feedback_id"], ["feedback.id"], name=op.f("fk_task_flag_feedback_id_feedback")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["annotation_task.id"], name=op.f("fk_task_flag_task_id_annotation_task")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_flag")),
        sa.UniqueConstraint("feedback_id", name=op.f("uq_task_flag_feedback_id")),
    )
    op.create_index(op.f("ix_task_flag_created_at"), "task_flag", ["created_at"], unique=False)
    op.create_index(op.f("ix_task_flag_task_id"), "task_flag", ["task_id"], unique=False)
    op.create_table(
        "settlement",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum(
                "correct",
                "incorrect",
                "unsure",
                "a",
                "b",
                "tie",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("label", sa.String(length=200), nullable=True),
        sa.Column("labels", JSON, nullable=False),
        sa.Column("correction", sa.String(), nullable=True),
        sa.Column(
            "cause",
            sa.Enum(
                "model",
                "context",
                "prompt",
                "policy",
                "product",
                "user_mistaken",
                name="cause",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("agreeing", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("explanation", sa.String(length=500), nullable=False),
        sa.Column("posterior", sa.Float(), nullable=True),
        sa.Column("admission_id", sa.Uuid(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_by_id", sa.Uuid(), nullable=True),
        sa.Column("ticket_url", sa.String(length=500), nullable=True),
        sa.ForeignKeyConstraint(
            ["admission_id"], ["admission.id"], name=op.f("fk_settlement_admission_id_admission")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_settlement_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["annotation_task.id"], name=op.f("fk_settlement_task_id_annotation_task")
        ),
        sa.ForeignKeyConstraint(
            ["withdrawn_by_id"], ["annotation.id"], name=op.f("fk_settlement_withdrawn_by_id_annotation")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement")),
    )
    op.create_index(op.f("ix_settlement_created_at"), "settlement", ["created_at"], unique=False)
    op.create_index("ix_settlement_project_id_id", "settlement", ["project_id", "id"], unique=False)
    op.create_index(op.f("ix_settlement_task_id"), "settlement", ["task_id"], unique=False)
    op.create_index(
        "uq_settlement_task_id_in_force",
        "settlement",
        ["task_id"],
        unique=True,
        sqlite_where=sa.text("withdrawn_at IS NULL"),
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.create_table(
        "settlement_annotation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settlement_id", sa.Uuid(), nullable=False),
        sa.Column("annotation_id", sa.Uuid(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["annotation_id"],
            ["annotation.id"],
            name=op.f("fk_settlement_annotation_annotation_id_annotation"),
        ),
        sa.ForeignKeyConstraint(
            ["settlement_id"],
            ["settlement.id"],
            name=op.f("fk_settlement_annotation_settlement_id_settlement"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement_annotation")),
        sa.UniqueConstraint(
            "settlement_id",
            "annotation_id",
            name=op.f("uq_settlement_annotation_settlement_id_annotation_id"),
        ),
    )
    op.create_index(
        op.f("ix_settlement_annotation_annotation_id"),
        "settlement_annotation",
        ["annotation_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_settlement_annotation_created_at"), "settlement_annotation", ["created_at"], unique=False
    )
    op.create_index(
        op.f("ix_settlement_annotation_settlement_id"),
        "settlement_annotation",
        ["settlement_id"],
        unique=False,
    )
    op.create_table(
        "recheck",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settlement_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_recheck_model_version_id_model_version"),
        ),
        sa.ForeignKeyConstraint(
            ["settlement_id"], ["settlement.id"], name=op.f("fk_recheck_settlement_id_settlement")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recheck")),
        sa.UniqueConstraint(
            "settlement_id",
            "model_version_id",
            name=op.f("uq_recheck_settlement_id_model_version_id"),
        ),
    )
    op.create_index(op.f("ix_recheck_created_at"), "recheck", ["created_at"], unique=False)
    op.create_index(op.f("ix_recheck_model_version_id"), "recheck", ["model_version_id"], unique=False)
    op.create_table(
        "influence",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("rows", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_version.id"],
            name=op.f("fk_influence_model_version_id_model_version"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_influence")),
        sa.UniqueConstraint("model_version_id", name=op.f("uq_influence_model_version_id")),
    )
    op.create_index(op.f("ix_influence_created_at"), "influence", ["created_at"], unique=False)
    op.create_table(
        "training_set_example",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("training_set_id", sa.Uuid(), nullable=False),
        sa.Column("settlement_id", sa.Uuid(), nullable=False),
        sa.Column("content_sha256", sa.String(length=71), nullable=False),
        sa.Column(
            "split",
            sa.Enum(
                "train",
                "validation",
                "regression",
                "test",
                name="split",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("group_name", sa.String(length=100), nullable=False),
        sa.Column("repairs", JSON, nullable=False),
        sa.Column("consent", JSON, nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["settlement_id"],
            ["settlement.id"],
            name=op.f("fk_training_set_example_settlement_id_settlement"),
        ),
        sa.ForeignKeyConstraint(
            ["training_set_id"],
            ["training_set.id"],
            name=op.f("fk_training_set_example_training_set_id_training_set"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_set_example")),
        sa.UniqueConstraint(
            "training_set_id",
            "settlement_id",
            name=op.f("uq_training_set_example_training_set_id_settlement_id"),
        ),
    )
    op.create_index(
        op.f("ix_training_set_example_created_at"), "training_set_example", ["created_at"], unique=False
    )
    op.create_index(
        op.f("ix_training_set_example_settlement_id"), "training_set_example", ["settlement_id"], unique=False
    )
    op.create_index(
        op.f("ix_training_set_example_training_set_id"),
        "training_set_example",
        ["training_set_id"],
        unique=False,
    )
    op.create_index(
        "ix_training_set_example_training_set_id_content_sha256",
        "training_set_example",
        ["training_set_id", "content_sha256"],
        unique=False,
    )
    op.create_index(
        "ix_training_set_example_training_set_id_erased_at",
        "training_set_example",
        ["training_set_id", "erased_at"],
        unique=False,
        sqlite_where=sa.text("erased_at IS NOT NULL"),
        postgresql_where=sa.text("erased_at IS NOT NULL"),
    )
    op.create_table(
        "serving_target",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "directory",
                "vllm",
                "webhook",
                name="servingkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("place", sa.String(length=500), nullable=False),
        sa.Column("seen_as", sa.String(length=500), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("base_name", sa.String(length=200), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "published",
                "live",
                "cannot_tell",
                "failing",
                name="servingstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("served", sa.String(length=200), nullable=True),
        sa.Column("told", sa.String(length=500), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_serving_target_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_serving_target")),
    )
    op.create_index(op.f("ix_serving_target_created_at"), "serving_target", ["created_at"], unique=False)
    op.create_index(op.f("ix_serving_target_project_id"), "serving_target", ["project_id"], unique=False)
    # ### end Alembic commands ###
    for table in APPEND_ONLY:
        _forbid_changes(table)


def _forbid_changes(table: str) -> None:
    """Have the database itself refuse to change or remove a row of history."""
    said = f"{table}: rows are only added"
    if op.get_context().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{said}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuses() RETURNS trigger LANGUAGE plpgsql "
        f"AS $$ BEGIN RAISE EXCEPTION '{said}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuses_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuses()"
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_serving_target_project_id"), table_name="serving_target")
    op.drop_index(op.f("ix_serving_target_created_at"), table_name="serving_target")
    op.drop_table("serving_target")
    op.drop_index(
        "ix_training_set_example_training_set_id_erased_at",
        table_name="training_set_example",
        sqlite_where=sa.text("erased_at IS NOT NULL"),
        postgresql_where=sa.text("erased_at IS NOT NULL"),
    )
    op.drop_index("ix_training_set_example_training_set_id_content_sha256", table_name="training_set_example")
    op.drop_index(op.f("ix_training_set_example_training_set_id"), table_name="training_set_example")
    op.drop_index(op.f("ix_training_set_example_settlement_id"), table_name="training_set_example")
    op.drop_index(op.f("ix_training_set_example_created_at"), table_name="training_set_example")
    op.drop_table("training_set_example")
    op.drop_index(op.f("ix_influence_created_at"), table_name="influence")
    op.drop_table("influence")
    op.drop_index(op.f("ix_recheck_model_version_id"), table_name="recheck")
    op.drop_index(op.f("ix_recheck_created_at"), table_name="recheck")
    op.drop_table("recheck")
    op.drop_index(op.f("ix_settlement_annotation_settlement_id"), table_name="settlement_annotation")
    op.drop_index(op.f("ix_settlement_annotation_created_at"), table_name="settlement_annotation")
    op.drop_index(op.f("ix_settlement_annotation_annotation_id"), table_name="settlement_annotation")
    op.drop_table("settlement_annotation")
    op.drop_index(
        "uq_settlement_task_id_in_force",
        table_name="settlement",
        sqlite_where=sa.text("withdrawn_at IS NULL"),
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.drop_index(op.f("ix_settlement_task_id"), table_name="settlement")
    op.drop_index("ix_settlement_project_id_id", table_name="settlement")
    op.drop_index(op.f("ix_settlement_created_at"), table_name="settlement")
    op.drop_table("settlement")
    op.drop_index(op.f("ix_task_flag_task_id"), table_name="task_flag")
    op.drop_index(op.f("ix_task_flag_created_at"), table_name="task_flag")
    op.drop_table("task_flag")
    op.drop_index(op.f("ix_guideline_question_user_id"), table_name="guideline_question")
    op.drop_index(op.f("ix_guideline_question_task_id"), table_name="guideline_question")
    op.drop_index("ix_guideline_question_project_id_id", table_name="guideline_question")
    op.drop_index(op.f("ix_guideline_question_created_at"), table_name="guideline_question")
    op.drop_table("guideline_question")
    op.drop_index(op.f("ix_annotation_task_id"), table_name="annotation")
    op.drop_index(op.f("ix_annotation_created_at"), table_name="annotation")
    op.drop_index(op.f("ix_annotation_annotator_id"), table_name="annotation")
    op.drop_table("annotation")
    op.drop_index(op.f("ix_promotion_created_at"), table_name="promotion")
    op.drop_table("promotion")
    op.drop_index(
        "ix_annotation_task_to_close",
        table_name="annotation_task",
        sqlite_where=sa.text("NOT is_closed AND state IN ('settled', 'withdrawn')"),
        postgresql_where=sa.text("NOT is_closed AND state IN ('settled', 'withdrawn')"),
    )
    op.drop_index(op.f("ix_annotation_task_source_id"), table_name="annotation_task")
    op.drop_index(
        "ix_annotation_task_selected",
        table_name="annotation_task",
        sqlite_where=sa.text("state = 'selected'"),
        postgresql_where=sa.text("state = 'selected'"),
    )
    op.drop_index(op.f("ix_annotation_task_rival_id"), table_name="annotation_task")
    op.drop_index(op.f("ix_annotation_task_response_id"), table_name="annotation_task")
    op.drop_index(op.f("ix_annotation_task_rechecks_id"), table_name="annotation_task")
    op.drop_index("ix_annotation_task_project_id_state", table_name="annotation_task")
    op.drop_index("ix_annotation_task_project_id_priority_id", table_name="annotation_task")
    op.drop_index("ix_annotation_task_project_id_id", table_name="annotation_task")
    op.drop_index("ix_annotation_task_project_id_external_id", table_name="annotation_task")
    op.drop_index(op.f("ix_annotation_task_gold_of_id"), table_name="annotation_task")
    op.drop_index(op.f("ix_annotation_task_evaluation_id"), table_name="annotation_task")
    op.drop_index(op.f("ix_annotation_task_created_at"), table_name="annotation_task")
    op.drop_table("annotation_task")
    op.drop_index(op.f("ix_suite_candidate_created_at"), table_name="suite_candidate")
    op.drop_index(op.f("ix_suite_candidate_attack_session_id"), table_name="suite_candidate")
    op.drop_table("suite_candidate")
    op.drop_index(op.f("ix_signal_response_id"), table_name="signal")
    op.drop_index(op.f("ix_signal_created_at"), table_name="signal")
    op.drop_table("signal")
    op.drop_index(op.f("ix_outcome_response_id"), table_name="outcome")
    op.drop_index("ix_outcome_model_version_id_id", table_name="outcome")
    op.drop_index(op.f("ix_outcome_created_at"), table_name="outcome")
    op.drop_table("outcome")
    op.drop_index(op.f("ix_score_model_version_id"), table_name="score")
    op.drop_index(op.f("ix_score_created_at"), table_name="score")
    op.drop_table("score")
    op.drop_index(op.f("ix_feedback_subject"), table_name="feedback")
    op.drop_index(op.f("ix_feedback_response_id"), table_name="feedback")
    op.drop_index("ix_feedback_case_id", table_name="feedback")
    op.drop_index("ix_feedback_project_id_triaged_at_id", table_name="feedback")
    op.drop_index("ix_feedback_project_id_response_ref", table_name="feedback")
    op.drop_index("ix_feedback_project_id_id", table_name="feedback")
    op.drop_index(op.f("ix_feedback_created_at"), table_name="feedback")
    op.drop_table("feedback")
    op.drop_index(op.f("ix_approval_project_id"), table_name="approval")
    op.drop_index(op.f("ix_approval_evaluation_id"), table_name="approval")
    op.drop_index(op.f("ix_approval_created_at"), table_name="approval")
    op.drop_table("approval")
    op.drop_index(op.f("ix_response_subject"), table_name="response")
    op.drop_index(
        "ix_response_source_id_set_aside",
        table_name="response",
        sqlite_where=sa.text("set_aside IS NOT NULL"),
        postgresql_where=sa.text("set_aside IS NOT NULL"),
    )
    op.drop_index("ix_response_source_id_id", table_name="response")
    op.drop_index("ix_response_source_id_body_sha256", table_name="response")
    op.drop_index("ix_response_project_id_triaged_at_id", table_name="response")
    op.drop_index("ix_response_project_id_id", table_name="response")
    op.drop_index("ix_response_project_id_conversation_id", table_name="response")
    op.drop_index("ix_response_model_version_id_id", table_name="response")
    op.drop_index(op.f("ix_response_created_at"), table_name="response")
    op.drop_index(op.f("ix_response_copy_of_id"), table_name="response")
    op.drop_table("response")
    op.drop_index(op.f("ix_evaluation_project_id"), table_name="evaluation")
    op.drop_index(op.f("ix_evaluation_model_version_id"), table_name="evaluation")
    op.drop_index(op.f("ix_evaluation_created_at"), table_name="evaluation")
    op.drop_table("evaluation")
    op.drop_index(op.f("ix_tuning_project_id"), table_name="tuning")
    op.drop_index(op.f("ix_tuning_created_at"), table_name="tuning")
    op.drop_table("tuning")
    op.drop_index(op.f("ix_bisection_project_id"), table_name="bisection")
    op.drop_index(op.f("ix_bisection_created_at"), table_name="bisection")
    op.drop_table("bisection")
    op.drop_index(op.f("ix_model_version_created_at"), table_name="model_version")
    op.drop_index(op.f("ix_model_version_adapter_sha256"), table_name="model_version")
    op.drop_table("model_version")
    op.drop_index(op.f("ix_accepted_repair_project_id"), table_name="accepted_repair")
    op.drop_index(op.f("ix_accepted_repair_finding_id"), table_name="accepted_repair")
    op.drop_index(op.f("ix_accepted_repair_created_at"), table_name="accepted_repair")
    op.drop_table("accepted_repair")
    op.drop_index(op.f("ix_training_run_training_set_id"), table_name="training_run")
    op.drop_index(op.f("ix_training_run_project_id"), table_name="training_run")
    op.drop_index(op.f("ix_training_run_created_at"), table_name="training_run")
    op.drop_table("training_run")
    op.drop_index("ix_split_assignment_project_id_group_name", table_name="split_assignment")
    op.drop_index(op.f("ix_split_assignment_created_at"), table_name="split_assignment")
    op.drop_table("split_assignment")
    op.drop_index(op.f("ix_quarantine_project_id"), table_name="quarantine")
    op.drop_index(op.f("ix_quarantine_created_at"), table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_index(op.f("ix_qualification_created_at"), table_name="qualification")
    op.drop_index(op.f("ix_qualification_annotator_id"), table_name="qualification")
    op.drop_table("qualification")
    op.drop_index(op.f("ix_pool_member_created_at"), table_name="pool_member")
    op.drop_index(op.f("ix_pool_member_annotator_id"), table_name="pool_member")
    op.drop_table("pool_member")
    op.drop_index(
        "ix_notice_waiting",
        table_name="notice",
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.drop_index("ix_notice_project_id_id", table_name="notice")
    op.drop_index(op.f("ix_notice_created_at"), table_name="notice")
    op.drop_index(op.f("ix_notice_about_id"), table_name="notice")
    op.drop_table("notice")
    op.drop_index(op.f("ix_mirror_created_at"), table_name="mirror")
    op.drop_table("mirror")
    op.drop_index(op.f("ix_audit_finding_training_set_id"), table_name="audit_finding")
    op.drop_index(op.f("ix_audit_finding_created_at"), table_name="audit_finding")
    op.drop_table("audit_finding")
    op.drop_index(op.f("ix_admission_source_id"), table_name="admission")
    op.drop_index(op.f("ix_admission_project_id"), table_name="admission")
    op.drop_index(op.f("ix_admission_created_at"), table_name="admission")
    op.drop_table("admission")
    op.drop_index(op.f("ix_user_token_user_id"), table_name="user_token")
    op.drop_index(op.f("ix_user_token_created_at"), table_name="user_token")
    op.drop_table("user_token")
    op.drop_index(op.f("ix_user_session_user_id"), table_name="user_session")
    op.drop_index(op.f("ix_user_session_created_at"), table_name="user_session")
    op.drop_table("user_session")
    op.drop_index(op.f("ix_training_set_fingerprint"), table_name="training_set")
    op.drop_index(op.f("ix_training_set_created_at"), table_name="training_set")
    op.drop_table("training_set")
    op.drop_index(op.f("ix_tool_project_created_at"), table_name="tool_project")
    op.drop_table("tool_project")
    op.drop_index(op.f("ix_time_entry_project_id"), table_name="time_entry")
    op.drop_index(op.f("ix_time_entry_created_at"), table_name="time_entry")
    op.drop_table("time_entry")
    op.drop_index(op.f("ix_source_created_at"), table_name="source")
    op.drop_table("source")
    op.drop_index(op.f("ix_quality_report_created_at"), table_name="quality_report")
    op.drop_table("quality_report")
    op.drop_index(op.f("ix_notice_target_project_id"), table_name="notice_target")
    op.drop_index(op.f("ix_notice_target_created_at"), table_name="notice_target")
    op.drop_table("notice_target")
    op.drop_index(op.f("ix_membership_project_id"), table_name="membership")
    op.drop_index(op.f("ix_membership_created_at"), table_name="membership")
    op.drop_table("membership")
    op.drop_index(op.f("ix_text_read_row_id"), table_name="text_read")
    op.drop_index("ix_text_read_project_id_id", table_name="text_read")
    op.drop_index(op.f("ix_text_read_created_at"), table_name="text_read")
    op.drop_table("text_read")
    op.drop_index(op.f("ix_legal_hold_subject"), table_name="legal_hold")
    op.drop_index(op.f("ix_legal_hold_project_id"), table_name="legal_hold")
    op.drop_index(op.f("ix_legal_hold_created_at"), table_name="legal_hold")
    op.drop_table("legal_hold")
    op.drop_index("ix_ledger_entry_project_id_subject", table_name="ledger_entry")
    op.drop_index("ix_ledger_entry_project_id_id", table_name="ledger_entry")
    op.drop_index(op.f("ix_ledger_entry_created_at"), table_name="ledger_entry")
    op.drop_table("ledger_entry")
    op.drop_index(
        "uq_job_unique_key_pending",
        table_name="job",
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index(
        "uq_job_training_leased",
        table_name="job",
        sqlite_where=sa.text("state = 'leased' AND kind = 'train'"),
        postgresql_where=sa.text("state = 'leased' AND kind = 'train'"),
    )
    op.drop_index(
        "uq_job_unique_key_leased",
        table_name="job",
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.drop_index("ix_job_state_not_before", table_name="job")
    op.drop_index("ix_job_project_id_state_kind", table_name="job")
    op.drop_index("ix_job_project_id_kind_id", table_name="job")
    op.drop_index("ix_job_project_id_id", table_name="job")
    op.drop_index(op.f("ix_schedule_turn_created_at"), table_name="schedule_turn")
    op.drop_table("schedule_turn")
    op.drop_index(
        "ix_job_leases_lost",
        table_name="job",
        sqlite_where=sa.text("leases_lost > 0"),
        postgresql_where=sa.text("leases_lost > 0"),
    )
    op.drop_index(op.f("ix_job_created_at"), table_name="job")
    op.drop_table("job")
    op.drop_index(op.f("ix_inbox_event_project_id"), table_name="inbox_event")
    op.drop_index(op.f("ix_inbox_event_created_at"), table_name="inbox_event")
    op.drop_table("inbox_event")
    op.drop_index(op.f("ix_erasure_project_id"), table_name="erasure")
    op.drop_index(op.f("ix_erasure_created_at"), table_name="erasure")
    op.drop_table("erasure")
    op.drop_index(op.f("ix_document_created_at"), table_name="document")
    op.drop_table("document")
    op.drop_index(op.f("ix_attack_session_user_id"), table_name="attack_session")
    op.drop_index(op.f("ix_attack_session_project_id"), table_name="attack_session")
    op.drop_index(op.f("ix_attack_session_created_at"), table_name="attack_session")
    op.drop_table("attack_session")
    op.drop_index(op.f("ix_api_key_project_id"), table_name="api_key")
    op.drop_index(op.f("ix_api_key_created_at"), table_name="api_key")
    op.drop_table("api_key")
    op.drop_index(op.f("ix_annotator_created_at"), table_name="annotator")
    op.drop_table("annotator")
    op.drop_index(op.f("ix_user_created_at"), table_name="user")
    op.drop_table("user")
    op.drop_index(op.f("ix_project_created_at"), table_name="project")
    op.drop_index(op.f("ix_project_compares_id"), table_name="project")
    op.drop_table("project")
    # ### end Alembic commands ###
    if op.get_context().dialect.name == "postgresql":
        for table in APPEND_ONLY:
            op.execute(f"DROP FUNCTION {table}_refuses()")
