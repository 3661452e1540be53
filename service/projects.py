"""Projects, their keys and people, and the versioned documents that decisions name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from annotation.label_schema import default_guidelines, from_json, to_json, validate
from annotation.types import RATINGS, LabelSchema, TaskKind
from retrain.criteria import read_criteria, read_rules
from retrain.suites import general_questions
from retrain.types import sha256_of
from service import ledger, tokens
from service.clock import utcnow
from service.errors import AlreadyExists, Invalid, NotFound
from service.tables import (
    ApiKey,
    ConnectorKind,
    Document,
    DocumentKind,
    KeyKind,
    ModelState,
    ModelVersion,
    Project,
    ProjectKind,
    Promotion,
    PromotionKind,
    Role,
    Source,
    User,
    UserToken,
)

PRODUCTION = "production"
LINK_HOURS = 24
DEFAULT_REASONS = {
    "wrong": {"severity": 3},
    "unsafe": {"severity": 5},
    "incomplete": {"severity": 2},
    "off_topic": {"severity": 2},
    "style": {"severity": 1},
    "other": {"severity": 1},
}
DEFAULT_RULES = {"max_loss": {"general": 0.15}, "default_loss": 0.05, "max_slice_loss": {"red_flag": 0.0}}


@dataclass(frozen=True, slots=True)
class NewProject:
    """What `errata projects create` asks for."""

    slug: str
    kind: ProjectKind
    base_model: str
    labels: Sequence[str] = ()
    ratings: Sequence[str] = RATINGS
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
    session: Session, project: Project, kind: DocumentKind, content: dict[str, Any], *, actor: str
) -> Document:
    """Add the next version of a document; the same content again returns the newest version."""
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
        facts={"sha256": sha256},
    )
    return added


def set_criteria(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say what success is: a list of criteria; each evaluation names the version that it answers.

    Raises:
        WrongCriteria: the list cannot be read.
        UnknownMetric: a criterion names a metric that does not exist.
    """
    read_criteria(content)
    return add_document(session, project, DocumentKind.CRITERIA, {"criteria": content}, actor=actor)


def set_rules(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say what a challenger may lose; each evaluation names the version that it was judged by.

    Raises:
        WrongCriteria: the rules cannot be read.
    """
    read_rules(content)
    return add_document(session, project, DocumentKind.GATE_RULES, content, actor=actor)


def change(session: Session, project: Project, *, random_share: float | None, actor: str) -> None:
    """Change how a project works; None leaves as it is.

    Raises:
        Invalid: a value cannot be used.
    """
    if random_share is not None:
        _check_share(random_share)
        project.random_share = random_share
    ledger.append(
        session,
        actor=actor,
        action="project_changed",
        subject=project.slug,
        project_id=project.id,
        facts={"random_share": project.random_share},
    )


def document(session: Session, project_id: UUID, kind: DocumentKind) -> Document | None:
    """Return the newest version of a project's document."""
    newest = select(Document).where(Document.project_id == project_id, Document.kind == kind)
    return session.exec(newest.order_by(col(Document.version).desc()).limit(1)).first()


def current(session: Session, project_id: UUID, kind: DocumentKind) -> Document:
    """Return the newest version of a document that every project has."""
    found = document(session, project_id, kind)
    if found is None:
        raise NotFound(f"the project has no {kind}")
    return found


def label_schema(session: Session, project: Project) -> LabelSchema:
    """Return the questions that the project's experts are asked."""
    schema = current(session, project.id, DocumentKind.LABEL_SCHEMA)
    guidelines = current(session, project.id, DocumentKind.GUIDELINES)
    return read_schema(schema, guidelines)


def read_schema(schema: Document, guidelines: Document) -> LabelSchema:
    """Put together the questions that two documents hold."""
    return from_json({**schema.content, "guidelines": guidelines.content["markdown"]})


def add_key(session: Session, project: Project, kind: KeyKind, origins: Iterable[str], *, actor: str) -> str:
    """Make an API key and return it; only its hash is kept, so it cannot be shown again."""
    secret = tokens.new_secret("esk" if kind is KeyKind.SECRET else "epk")
    session.add(ApiKey(project_id=project.id, kind=kind, sha256=tokens.hashed(secret), origins=list(origins)))
    ledger.append(session, actor=actor, action="key_added", subject=kind.value, project_id=project.id)
    return secret


def add_user(session: Session, name: str, role: Role, *, actor: str) -> tuple[User, str]:
    """Add a person and return them with the secret of their one-time sign-in link.

    Raises:
        AlreadyExists: the name is taken.
    """
    if session.exec(select(User).where(User.name == name)).first():
        raise AlreadyExists(f"there is a user {name!r} already")
    user = User(name=name, role=role)
    session.add(user)
    session.flush()
    ledger.append(session, actor=actor, action="user_added", subject=name, facts={"role": role.value})
    return user, _add_link(session, user)


def add_token(session: Session, name: str, *, actor: str) -> str:
    """Make a bearer token for a person and return it; only its hash is kept.

    Raises:
        NotFound: there is no such person.
    """
    user = session.exec(select(User).where(User.name == name)).first()
    if user is None:
        raise NotFound(f"no user {name!r}")
    secret = tokens.new_secret("eut")
    session.add(UserToken(user_id=user.id, sha256=tokens.hashed(secret)))
    ledger.append(session, actor=actor, action="token_added", subject=name)
    return secret


def user_of(session: Session, secret: str, *, is_sign_in_link: bool = False) -> User | None:
    """Return whom a live token or unused sign-in link belongs to."""
    found = session.exec(
        select(User, UserToken)
        .where(UserToken.user_id == User.id, UserToken.sha256 == tokens.hashed(secret))
        .where(UserToken.is_sign_in_link == is_sign_in_link, col(UserToken.revoked_at).is_(None))
        .where(col(UserToken.used_at).is_(None), col(User.disabled_at).is_(None))
    ).first()
    if found is None or (found[1].expires_at and found[1].expires_at < utcnow()):
        return None
    return found[0]


def use_link(session: Session, secret: str) -> User | None:
    """Use up a one-time sign-in link and return whose it was."""
    user = user_of(session, secret, is_sign_in_link=True)
    if user:
        link = session.exec(select(UserToken).where(UserToken.sha256 == tokens.hashed(secret))).one()
        link.used_at = utcnow()
    return user


def _add_link(session: Session, user: User) -> str:
    secret = tokens.new_secret("esl")
    expires = utcnow() + timedelta(hours=LINK_HOURS)
    session.add(
        UserToken(user_id=user.id, sha256=tokens.hashed(secret), is_sign_in_link=True, expires_at=expires)
    )
    return secret


def _check(session: Session, new: NewProject) -> None:
    if not new.slug or not all(
        c.isascii() and (c.isalnum() or c == "-") and c == c.lower() for c in new.slug
    ):
        raise Invalid(f"name: {new.slug!r} may hold lower-case letters, digits and hyphens only")
    if new.connector is ConnectorKind.ARGILLA:
        raise Invalid("connector: argilla is not supported yet; use label-studio or none")
    if not 1 <= new.needed <= new.overlap:
        raise Invalid("overlap: at least as many experts must be asked as have to agree")
    _check_share(new.random_share)
    if session.exec(select(Project).where(Project.slug == new.slug)).first():
        raise AlreadyExists(f"there is a project {new.slug!r} already")
    validate(_schema(new))


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise Invalid(f"random_share: {share} does not lie between 0 and 1")


def _schema(new: NewProject) -> LabelSchema:
    kind = TaskKind(new.kind)
    guidelines = new.guidelines or default_guidelines(kind)
    return LabelSchema(kind, tuple(new.labels), tuple(new.ratings), guidelines)


def _first_documents(new: NewProject) -> dict[DocumentKind, dict[str, Any]]:
    schema = to_json(_schema(new))
    return {
        DocumentKind.GUIDELINES: {"markdown": schema.pop("guidelines")},
        DocumentKind.LABEL_SCHEMA: schema,
        DocumentKind.REASONS: DEFAULT_REASONS,
        DocumentKind.GATE_RULES: DEFAULT_RULES,
        DocumentKind.SUITE: {"general": general_questions()},
    }
