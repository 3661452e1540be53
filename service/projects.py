"""Projects, their keys, and the versioned documents that decisions name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, update
from sqlmodel import Session, col, select

from annotation.label_schema import default_guidelines, from_json, to_json, validate
from annotation.questions import default_ratings, default_spans
from annotation.settlement import BEST, BY_CHANCE
from annotation.types import LabelSchema, TaskKind
from retrain.suites import GENERAL, general_questions
from retrain.types import sha256_of
from service import ledger, reasons
from service.clock import utcnow
from service.errors import AlreadyExists, Invalid, NotFound
from service.tables import (
    AnnotationTask,
    ConnectorKind,
    Document,
    DocumentKind,
    ModelState,
    ModelVersion,
    Project,
    ProjectKind,
    Promotion,
    PromotionKind,
    Source,
    TaskState,
    ToolProject,
)

MAX_AMOUNT = 10_000
PRODUCTION = "production"
PLAYGROUND = "playground"  # the source of answers that operators asked for
MAX_REPEAT_WEEKS = 520
MAX_PERSONS = 9
# Built once, for to build a statement costs more than to ask it, and each flag asks for its project's reasons.
NEWEST = (
    select(Document)
    .where(Document.project_id == bindparam("project_id"), Document.kind == bindparam("kind"))
    .order_by(col(Document.version).desc())
    .limit(1)
)
Check = Callable[[str, Any], Any]  # of a value by its name; returns it or raises Invalid
DEFAULT_REASONS = reasons.default_reasons()
# Resolved flags are few at first: they are shown, and a project says when they decide.
DEFAULT_RULES = {
    "max_loss": {"general": 0.15, "regression": 1.0},
    "default_loss": 0.05,
    "max_slice_loss": {"red_flag": 0.0},
}


@dataclass(frozen=True, slots=True)
class NewProject:
    """What `errata projects create` asks for; a `schema` stands for labels and guidelines."""

    slug: str
    kind: ProjectKind
    base_model: str
    labels: Sequence[str] = ()
    schema: LabelSchema | None = None
    guidelines: str = ""
    system_prompt: str = ""
    connector: ConnectorKind = ConnectorKind.LABEL_STUDIO
    overlap: int = 2
    needed: int = 2
    random_share: float = 0.0


def create(session: Session, new: NewProject, *, actor: str) -> Project:
    """Add a project with its documents, its production source, and the base model as its first champion.

    Raises:
        AlreadyExists: the slug is taken.
        Invalid: a field cannot be used.
        InvalidSchema: the labels do not make a question.
    """
    _check(session, new)
    project = Project(
        slug=new.slug,
        kind=new.kind,
        base_model=new.base_model,
        system_prompt=new.system_prompt,
        connector=new.connector,
        overlap=new.overlap,
        needed=new.needed,
        random_share=new.random_share,
    )
    base = ModelVersion(project_id=project.id, number=0, base_model=new.base_model, state=ModelState.CHAMPION)
    session.add(project)
    session.flush()
    session.add_all([Source(project_id=project.id, name=PRODUCTION), base])
    session.flush()
    session.add(Promotion(project_id=project.id, seq=0, kind=PromotionKind.FIRST, model_version_id=base.id))
    for kind, content in _first_documents(new).items():
        add_document(session, project, kind, content, actor=actor)
    ledger.append(session, actor=actor, action="project_created", subject=new.slug, project_id=project.id)
    return project


def find(session: Session, slug: str) -> Project:
    """Return the project of this slug.

    Raises:
        NotFound: there is none.
    """
    found = session.exec(select(Project).where(Project.slug == slug)).first()
    if found is None:
        raise NotFound(f"no project {slug!r}")
    return found


def add_document(
    session: Session,
    project: Project,
    kind: DocumentKind,
    content: dict[str, Any],
    *,
    actor: str,
    facts: Mapping[str, str] | None = None,
) -> Document:
    """Add the next version of a document; the same content again returns the newest version.

    The ledger gets the `facts` of why.
    """
    newest = document(session, project.id, kind)
    sha256 = sha256_of(content)
    if newest and newest.sha256 == sha256:
        return newest
    added = Document(
        project_id=project.id,
        kind=kind,
        version=newest.version + 1 if newest else 1,
        content=content,
        sha256=sha256,
        author=actor,
    )
    session.add(added)
    session.flush()
    ledger.append(
        session,
        actor=actor,
        action="document_added",
        subject=f"{kind}/v{added.version}",
        project_id=project.id,
        facts={"sha256": sha256, **(facts or {})},
    )
    if kind is DocumentKind.GUIDELINES:  # which tools show from their next look on
        of_project = update(ToolProject).where(col(ToolProject.project_id) == project.id)
        session.execute(of_project.values(look_due_at=utcnow()))
    return added


def set_reasons(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say what users may give as reasons; what was given before keeps the version of its time.

    Raises:
        Invalid: a code or what stands under it cannot be used.
    """
    reasons.check(content)
    return add_document(session, project, DocumentKind.REASONS, content, actor=actor)


def set_schema(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say what experts are asked from now on; guidelines that it does not name stay as they are.

    What was not answered yet is asked by it too, but in Argilla, where what was sent keeps its questions.

    Raises:
        InvalidSchema: the questions cannot be asked.
        Invalid: they are for another kind of project.
    """
    guidelines = current(session, project.id, DocumentKind.GUIDELINES).content["markdown"]
    schema = from_json({"guidelines": guidelines, **content} if isinstance(content, dict) else content)
    if schema.kind is not _task_kind(project.kind):
        raise Invalid(f"kind: a {project.kind} project asks questions of kind {_task_kind(project.kind)}")
    written = to_json(schema)
    markdown = {"markdown": written.pop("guidelines")}
    add_document(session, project, DocumentKind.GUIDELINES, markdown, actor=actor)
    added = add_document(session, project, DocumentKind.LABEL_SCHEMA, written, actor=actor)
    _ask_by_today(session, project)
    return added


def set_guidelines(session: Session, project: Project, markdown: str, *, actor: str) -> Document:
    """Say how experts are to judge from now on.

    Raises:
        InvalidSchema: they are too long.
    """
    schema = current(session, project.id, DocumentKind.LABEL_SCHEMA).content
    set_schema(session, project, {**schema, "guidelines": markdown}, actor=actor)
    return current(session, project.id, DocumentKind.GUIDELINES)


def change(session: Session, project: Project, *, actor: str, **wanted: Any) -> None:
    """Change how a project works, by the names of `SWITCHES`; None leaves as it is.

    Raises:
        Invalid: a value cannot be used.
    """
    for name, value in wanted.items():
        checked = SWITCHES[name](name, value) if value is not None else getattr(project, name)
        setattr(project, name, checked)
    session.add(project)
    ledger.append(
        session,
        actor=actor,
        action="project_changed",
        subject=project.slug,
        project_id=project.id,
        facts={name: getattr(project, name) for name in SWITCHES},
    )


def document(session: Session, project_id: UUID, kind: DocumentKind) -> Document | None:
    """Return the newest version of a project's document."""
    return session.exec(NEWEST, params={"project_id": project_id, "kind": kind}).first()


def current(session: Session, project_id: UUID, kind: DocumentKind) -> Document:
    """Return the newest version of a document that every project has."""
    found = document(session, project_id, kind)
    if found is None:
        raise NotFound(f"the project has no {kind}")
    return found


def reason_codes(session: Session, project_id: UUID) -> set[str]:
    """Return every reason that users could ever choose; any other is what somebody wrote, and outlives no erasure."""
    versions = select(Document.content).where(
        Document.project_id == project_id, Document.kind == DocumentKind.REASONS
    )
    return {code for content in session.exec(versions) for code in content}


def labels_to_choose(session: Session, project_id: UUID) -> list[str]:
    """Return the labels of which a model chooses one; where several may be right it writes them."""
    schema = current(session, project_id, DocumentKind.LABEL_SCHEMA).content
    return [] if schema.get("is_multi_label") else list(schema["labels"])


def questions(session: Session, project_id: UUID) -> tuple[UUID, UUID]:
    """Return what a task asks by today: the label schema and the guidelines."""
    kinds = (DocumentKind.LABEL_SCHEMA, DocumentKind.GUIDELINES)
    schema, guidelines = (current(session, project_id, kind).id for kind in kinds)
    return schema, guidelines


def label_schema(session: Session, project: Project) -> LabelSchema:
    """Return the questions that the project's experts are asked."""
    schema = current(session, project.id, DocumentKind.LABEL_SCHEMA)
    guidelines = current(session, project.id, DocumentKind.GUIDELINES)
    return read_schema(schema, guidelines)


def read_schema(schema: Document, guidelines: Document) -> LabelSchema:
    """Put together the questions that two documents hold."""
    return from_json({**schema.content, "guidelines": guidelines.content["markdown"]})


def _check(session: Session, new: NewProject) -> None:
    if not new.slug or not all(
        c.isascii() and (c.isalnum() or c == "-") and c == c.lower() for c in new.slug
    ):
        raise Invalid(f"name: {new.slug!r} may hold lower-case letters, digits and hyphens only")
    if not 1 <= new.needed <= new.overlap:
        raise Invalid("overlap: at least as many experts must be asked as have to agree")
    _share("random_share", new.random_share)
    if session.exec(select(Project).where(Project.slug == new.slug)).first():
        raise AlreadyExists(f"there is a project {new.slug!r} already")
    validate(_schema(new))


def _share(name: str, share: float) -> float:
    if not 0 <= share <= 1:
        raise Invalid(f"{name}: {share} does not lie between 0 and 1")
    return share


def _amount(name: str, amount: int) -> int:
    if not 0 <= amount <= MAX_AMOUNT:
        raise Invalid(f"{name}: {amount} does not lie between 0, for no limit, and {MAX_AMOUNT}")
    return amount


def _between(low: float, high: float) -> Check:
    def check(name: str, value: float) -> float:
        if not low < value < high:
            raise Invalid(f"{name}: {value:g} does not lie between {low} and {high}")
        return value

    return check


def _any(name: str, value: Any) -> Any:
    return value


SWITCHES: dict[str, Check] = {
    "random_share": _share,
    "suggestion": _any,
    "blind_share": _share,
    "persons_needed": _between(0, MAX_PERSONS + 1),
    "needs_blindness": _any,
    "admission_bar": _between(0, 1),
    "settlement_bar": _between(BY_CHANCE, BEST),
    "gold_share": _share,
    "repeat_weeks": _between(0, MAX_REPEAT_WEEKS + 1),
    "daily_capacity": _amount,
    "qualifying_answers": _amount,
    "qualifying_accuracy": _share,
    "needs_token": _any,
    "masks_personal": _any,
    "presumes_consent": _any,
    "wave_voices": _amount,
}
"""What of a project's work can be changed, and what checks each new value."""


def _ask_by_today(session: Session, project: Project) -> None:
    """Let tasks that nothing was settled about ask by the newest questions, where the tool's page changes with them."""
    state, tool = col(AnnotationTask.state), col(AnnotationTask.connector)
    is_shown = state.in_((TaskState.SENT, TaskState.CONTESTED)) & (tool != ConnectorKind.ARGILLA)
    schema_id, guidelines_id = questions(session, project.id)
    unsettled = (col(AnnotationTask.project_id) == project.id, (state == TaskState.SELECTED) | is_shown)
    asked = update(AnnotationTask).where(*unsettled)
    session.execute(asked.values(schema_id=schema_id, guidelines_id=guidelines_id))


def _task_kind(kind: ProjectKind) -> TaskKind:
    asked = {ProjectKind.EXTRACTION: TaskKind.GENERATION, ProjectKind.COMPARISON: TaskKind.PAIRWISE}
    return asked.get(kind) or TaskKind(kind)


def _schema(new: NewProject) -> LabelSchema:
    kind = _task_kind(new.kind)
    schema = new.schema or LabelSchema(
        kind, tuple(new.labels), default_ratings(kind), default_guidelines(kind), spans=default_spans(kind)
    )
    if schema.kind is not kind:
        raise Invalid(f"kind: a {new.kind} project asks questions of kind {kind}")
    return replace(schema, guidelines=new.guidelines or schema.guidelines)


def _first_documents(new: NewProject) -> dict[DocumentKind, dict[str, Any]]:
    schema = to_json(_schema(new))
    return {
        DocumentKind.GUIDELINES: {"markdown": schema.pop("guidelines")},
        DocumentKind.LABEL_SCHEMA: schema,
        DocumentKind.REASONS: DEFAULT_REASONS,
        DocumentKind.GATE_RULES: DEFAULT_RULES,
        DocumentKind.SUITE: {GENERAL: general_questions()},
    }
