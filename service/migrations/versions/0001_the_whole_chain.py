"""the whole chain."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


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
        sa.Column("tool_project", sa.String(length=64), nullable=True),
        sa.Column("tool_url", sa.String(length=500), nullable=True),
        sa.Column("tool_cursor", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("slug", name=op.f("uq_project_slug")),
    )
    op.create_index("ix_project_created_at", "project", ["created_at"], unique=False)

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
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("name", name=op.f("uq_user_name")),
    )
    op.create_index("ix_user_created_at", "user", ["created_at"], unique=False)

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
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_annotator_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotator")),
        sa.UniqueConstraint("connector", "account", name=op.f("uq_annotator_connector_account")),
    )
    op.create_index("ix_annotator_created_at", "annotator", ["created_at"], unique=False)

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
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("origins", JSON, nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_api_key_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_key_sha256")),
    )
    op.create_index("ix_api_key_created_at", "api_key", ["created_at"], unique=False)
    op.create_index("ix_api_key_project_id", "api_key", ["project_id"], unique=False)

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
    op.create_index("ix_document_created_at", "document", ["created_at"], unique=False)

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
    op.create_index("ix_inbox_event_created_at", "inbox_event", ["created_at"], unique=False)
    op.create_index("ix_inbox_event_project_id", "inbox_event", ["project_id"], unique=False)

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
    op.create_index("ix_job_created_at", "job", ["created_at"], unique=False)
    op.create_index("ix_job_project_id", "job", ["project_id"], unique=False)
    op.create_index("ix_job_state_not_before", "job", ["state", "not_before"], unique=False)
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
    op.create_index("ix_ledger_entry_created_at", "ledger_entry", ["created_at"], unique=False)
    op.create_index("ix_ledger_entry_project_id", "ledger_entry", ["project_id"], unique=False)

    op.create_table(
        "outbox_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_outbox_event_project_id_project")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_event")),
    )
    op.create_index("ix_outbox_event_created_at", "outbox_event", ["created_at"], unique=False)
    op.create_index("ix_outbox_event_project_id", "outbox_event", ["project_id"], unique=False)

    op.create_table(
        "source",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_source_project_id_project")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_source_project_id_name")),
    )
    op.create_index("ix_source_created_at", "source", ["created_at"], unique=False)

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
    op.create_index("ix_training_set_created_at", "training_set", ["created_at"], unique=False)
    op.create_index("ix_training_set_fingerprint", "training_set", ["fingerprint"], unique=False)

    op.create_table(
        "user_token",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=71), nullable=False),
        sa.Column("is_sign_in_link", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_user_token_user_id_user")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_token")),
        sa.UniqueConstraint("sha256", name=op.f("uq_user_token_sha256")),
    )
    op.create_index("ix_user_token_created_at", "user_token", ["created_at"], unique=False)
    op.create_index("ix_user_token_user_id", "user_token", ["user_id"], unique=False)

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
        sa.ForeignKeyConstraint(
            ["training_set_id"],
            ["training_set.id"],
            name=op.f("fk_audit_finding_training_set_id_training_set"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_finding")),
    )
    op.create_index("ix_audit_finding_created_at", "audit_finding", ["created_at"], unique=False)
    op.create_index("ix_audit_finding_training_set_id", "audit_finding", ["training_set_id"], unique=False)

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
    op.create_index("ix_split_assignment_created_at", "split_assignment", ["created_at"], unique=False)
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
    op.create_index("ix_training_run_created_at", "training_run", ["created_at"], unique=False)
    op.create_index("ix_training_run_project_id", "training_run", ["project_id"], unique=False)
    op.create_index("ix_training_run_training_set_id", "training_run", ["training_set_id"], unique=False)

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
    op.create_index("ix_model_version_adapter_sha256", "model_version", ["adapter_sha256"], unique=False)
    op.create_index("ix_model_version_created_at", "model_version", ["created_at"], unique=False)

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
    op.create_index("ix_evaluation_created_at", "evaluation", ["created_at"], unique=False)
    op.create_index("ix_evaluation_model_version_id", "evaluation", ["model_version_id"], unique=False)
    op.create_index("ix_evaluation_project_id", "evaluation", ["project_id"], unique=False)

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
        sa.Column("host_metadata", JSON, nullable=False),
        sa.Column("triaged_at", sa.DateTime(timezone=True), nullable=True),
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
    op.create_index("ix_response_created_at", "response", ["created_at"], unique=False)
    op.create_index("ix_response_model_version_id", "response", ["model_version_id"], unique=False)
    op.create_index("ix_response_project_id", "response", ["project_id"], unique=False)
    op.create_index("ix_response_source_id", "response", ["source_id"], unique=False)
    op.create_index("ix_response_subject", "response", ["subject"], unique=False)

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
    op.create_index("ix_approval_created_at", "approval", ["created_at"], unique=False)
    op.create_index("ix_approval_evaluation_id", "approval", ["evaluation_id"], unique=False)
    op.create_index("ix_approval_project_id", "approval", ["project_id"], unique=False)

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
    op.create_index("ix_feedback_created_at", "feedback", ["created_at"], unique=False)
    op.create_index(
        "ix_feedback_project_id_response_ref", "feedback", ["project_id", "response_ref"], unique=False
    )
    op.create_index(
        "ix_feedback_project_id_triaged_at", "feedback", ["project_id", "triaged_at"], unique=False
    )
    op.create_index("ix_feedback_response_id", "feedback", ["response_id"], unique=False)
    op.create_index("ix_feedback_subject", "feedback", ["subject"], unique=False)

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
    op.create_index("ix_score_created_at", "score", ["created_at"], unique=False)
    op.create_index("ix_score_model_version_id", "score", ["model_version_id"], unique=False)

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
                "adjudication",
                "human_evaluation",
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
        sa.Column("adjudicates_id", sa.Uuid(), nullable=True),
        sa.Column("evaluation_id", sa.Uuid(), nullable=True),
        sa.Column("schema_id", sa.Uuid(), nullable=False),
        sa.Column("guidelines_id", sa.Uuid(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["adjudicates_id"],
            ["annotation_task.id"],
            name=op.f("fk_annotation_task_adjudicates_id_annotation_task"),
        ),
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
            ["response_id"], ["response.id"], name=op.f("fk_annotation_task_response_id_response")
        ),
        sa.ForeignKeyConstraint(
            ["schema_id"], ["document.id"], name=op.f("fk_annotation_task_schema_id_document")
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["source.id"], name=op.f("fk_annotation_task_source_id_source")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation_task")),
    )
    op.create_index("ix_annotation_task_created_at", "annotation_task", ["created_at"], unique=False)
    op.create_index(
        "ix_annotation_task_project_id_state",
        "annotation_task",
        ["project_id", "state", "priority"],
        unique=False,
    )
    op.create_index("ix_annotation_task_response_id", "annotation_task", ["response_id"], unique=False)

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
    op.create_index("ix_promotion_created_at", "promotion", ["created_at"], unique=False)

    op.create_table(
        "annotation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("annotator_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.String(length=64), nullable=False),
        sa.Column("revised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_skipped", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.String(length=500), nullable=True),
        sa.Column(
            "verdict",
            sa.Enum(
                "correct",
                "incorrect",
                "unsure",
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("label", sa.String(length=200), nullable=True),
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
        sa.Column("ratings", JSON, nullable=False),
        sa.Column("seconds_spent", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["annotator_id"], ["annotator.id"], name=op.f("fk_annotation_annotator_id_annotator")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["annotation_task.id"], name=op.f("fk_annotation_task_id_annotation_task")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
        sa.UniqueConstraint(
            "task_id", "external_id", "revised_at", name=op.f("uq_annotation_task_id_external_id_revised_at")
        ),
    )
    op.create_index("ix_annotation_annotator_id", "annotation", ["annotator_id"], unique=False)
    op.create_index("ix_annotation_created_at", "annotation", ["created_at"], unique=False)
    op.create_index("ix_annotation_task_id", "annotation", ["task_id"], unique=False)

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
                name="verdict",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("label", sa.String(length=200), nullable=True),
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
        sa.ForeignKeyConstraint(
            ["project_id"], ["project.id"], name=op.f("fk_settlement_project_id_project")
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["annotation_task.id"], name=op.f("fk_settlement_task_id_annotation_task")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlement")),
        sa.UniqueConstraint("task_id", name=op.f("uq_settlement_task_id")),
    )
    op.create_index("ix_settlement_created_at", "settlement", ["created_at"], unique=False)
    op.create_index("ix_settlement_project_id", "settlement", ["project_id"], unique=False)

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
    op.create_index("ix_task_flag_created_at", "task_flag", ["created_at"], unique=False)
    op.create_index("ix_task_flag_task_id", "task_flag", ["task_id"], unique=False)

    op.create_table(
        "settlement_annotation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settlement_id", sa.Uuid(), nullable=False),
        sa.Column("annotation_id", sa.Uuid(), nullable=False),
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
        "ix_settlement_annotation_annotation_id", "settlement_annotation", ["annotation_id"], unique=False
    )
    op.create_index(
        "ix_settlement_annotation_created_at", "settlement_annotation", ["created_at"], unique=False
    )
    op.create_index(
        "ix_settlement_annotation_settlement_id", "settlement_annotation", ["settlement_id"], unique=False
    )

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
                "test",
                name="split",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("group_name", sa.String(length=100), nullable=False),
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
        "ix_training_set_example_created_at", "training_set_example", ["created_at"], unique=False
    )
    op.create_index(
        "ix_training_set_example_settlement_id", "training_set_example", ["settlement_id"], unique=False
    )
    op.create_index(
        "ix_training_set_example_training_set_id", "training_set_example", ["training_set_id"], unique=False
    )


def downgrade() -> None:
    op.drop_table("training_set_example")
    op.drop_table("settlement_annotation")
    op.drop_table("task_flag")
    op.drop_table("settlement")
    op.drop_table("annotation")
    op.drop_table("promotion")
    op.drop_table("annotation_task")
    op.drop_table("score")
    op.drop_table("feedback")
    op.drop_table("approval")
    op.drop_table("response")
    op.drop_table("evaluation")
    op.drop_table("model_version")
    op.drop_table("training_run")
    op.drop_table("split_assignment")
    op.drop_table("audit_finding")
    op.drop_table("user_token")
    op.drop_table("training_set")
    op.drop_table("source")
    op.drop_table("outbox_event")
    op.drop_table("ledger_entry")
    op.drop_table("job")
    op.drop_table("inbox_event")
    op.drop_table("document")
    op.drop_table("api_key")
    op.drop_table("annotator")
    op.drop_table("user")
    op.drop_table("project")
