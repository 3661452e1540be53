"""What challengers are judged by: nobody moves it alone while one that it scored waits for a decision."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.criteria import read_criteria, read_rules
from retrain.errors import WrongSuite
from retrain.suites import GENERAL
from retrain.suites.document import bundled_suites, read_known, with_own
from retrain.types import sha256_of
from service import people, projects
from service.errors import CriteriaMissing, Invalid, SamePerson
from service.tables import Document, DocumentKind, Evaluation, ModelState, ModelVersion, Project, User

FLAGGED, PROPOSED_FROM = "flagged", "proposed_from"  # fields of a suites document
SUITE_FIELDS = {"behaviour", "own", "known", PROPOSED_FROM}  # what people write in it


def set_criteria(
    session: Session, project: Project, content: Any, *, actor: str, reason: str = "", second_token: str = ""
) -> Document:
    """Say what success is: a list of criteria; each evaluation names the version that it answers.

    Raises:
        WrongCriteria: the list cannot be read.
        UnknownMetric: a criterion names a metric that does not exist.
        SamePerson: a scored challenger waits for a decision, and no second person gave a token and a reason.
    """
    read_criteria(content)
    return _set(session, project, DocumentKind.CRITERIA, {"criteria": content}, (actor, reason, second_token))


def set_rules(
    session: Session, project: Project, content: Any, *, actor: str, reason: str = "", second_token: str = ""
) -> Document:
    """Say what a challenger may lose; each evaluation names the version that it was judged by.

    Raises:
        WrongCriteria: the rules cannot be read.
        SamePerson: a scored challenger waits for a decision, and no second person gave a token and a reason.
    """
    read_rules(content)
    return _set(session, project, DocumentKind.GATE_RULES, content, (actor, reason, second_token))


def set_suites(
    session: Session, project: Project, content: Any, *, actor: str, reason: str = "", second_token: str = ""
) -> Document:
    """Say by which behavioural suites models are judged besides: `{"behaviour": [NAME, …], "own": [suite, …]}`.

    `"known"` is what the project knows, for metrics that ask: see `KnownDocument`. `"proposed_from"` is how many
    settled flags with one reason propose a suite; those that were accepted stay.

    Raises:
        WrongSuite: one, or what is known, cannot be read, or a name is not known.
        Invalid: it is no such object.
        SamePerson: a scored challenger waits for a decision, and no second person gave a token and a reason.
    """
    wanted = content.get("behaviour", []) if isinstance(content, dict) else None
    own = content.get("own", []) if isinstance(content, dict) else None
    if not isinstance(wanted, list) or not isinstance(own, list) or content.keys() - SUITE_FIELDS:
        raise Invalid(
            'suites: an object with "behaviour", a list of names, "own", a list of suites, "known" and "proposed_from"'
        )
    least = content.get(PROPOSED_FROM, proposed_from({}))
    if type(least) is not int or not 1 <= least <= projects.MAX_AMOUNT:
        raise Invalid(f"proposed_from: {least!r} is no number from 1 to {projects.MAX_AMOUNT}")
    read_known(content.get("known", {}))
    known = with_own(bundled_suites(), own)
    if unknown := [name for name in wanted if name not in known]:
        raise WrongSuite(f"no suite is called {unknown[0]!r}; there are {', '.join(sorted(known))}")
    newest = projects.current(session, project.id, DocumentKind.SUITE).content
    whole = {GENERAL: newest[GENERAL], "behaviour": sorted(set(wanted)), "own": own}
    whole |= {name: content[name] for name in ("known", PROPOSED_FROM) if content.get(name)}
    whole |= {FLAGGED: newest[FLAGGED]} if FLAGGED in newest else {}
    return _set(session, project, DocumentKind.SUITE, whole, (actor, reason, second_token))


def accept_suite(
    session: Session,
    project: Project,
    code: str,
    settlements: Sequence[UUID],
    *,
    actor: str,
    reason: str = "",
    second_token: str = "",
) -> Document:
    """Judge models from now on by what was settled about flags with a reason's `code`; no later set learns that.

    Raises:
        SamePerson: a scored challenger waits for a decision, and no second person gave a token and a reason.
    """
    newest = projects.current(session, project.id, DocumentKind.SUITE).content
    cases = sorted(str(key) for key in settlements)
    whole = newest | {FLAGGED: newest.get(FLAGGED, {}) | {code: cases}}
    facts = {"accepted_suite": code, "cases": str(len(cases))}
    return _set(session, project, DocumentKind.SUITE, whole, (actor, reason, second_token), facts=facts)


def decline_suite(session: Session, project: Project, code: str, *, actor: str) -> Document:
    """Let no suite be proposed any more for flags with a reason's `code`; it moves nothing that is judged by."""
    newest = projects.document(session, project.id, DocumentKind.DECLINED_SUITES)
    reasons = sorted({code, *(newest.content["reasons"] if newest else [])})
    return projects.add_document(
        session, project, DocumentKind.DECLINED_SUITES, {"reasons": reasons}, actor=actor
    )


def proposed_from(suites: Mapping[str, Any]) -> int:
    """Return how many settled flags with one reason propose a suite."""
    return int(suites.get(PROPOSED_FROM, 8))


def criteria_of(session: Session, project: Project) -> Document:
    """Return the newest success criteria.

    Raises:
        CriteriaMissing: nobody has said what success is.
    """
    newest = projects.document(session, project.id, DocumentKind.CRITERIA)
    if newest is None:
        raise CriteriaMissing(
            f"project {project.slug}: say what success is first: errata criteria set {project.slug} FILE"
        )
    return newest


def waiting_challenger(session: Session, project: Project) -> ModelVersion | None:
    """Return the newest version that was scored and that nobody has decided on."""
    scored = (
        select(ModelVersion)
        .join(Evaluation, col(Evaluation.model_version_id) == ModelVersion.id)
        .where(Evaluation.project_id == project.id, col(Evaluation.report).is_not(None))
        .where(ModelVersion.state == ModelState.CHALLENGER)
    )
    return session.exec(scored.order_by(col(ModelVersion.number).desc()).limit(1)).first()


def _set(
    session: Session,
    project: Project,
    kind: DocumentKind,
    content: Mapping[str, Any],
    who: tuple[str, str, str],
    *,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> Document:
    newest = projects.document(session, project.id, kind)
    waiting = waiting_challenger(session, project)
    if waiting and (newest is None or newest.sha256 != sha256_of(content)):
        facts = {**facts, **_seconded(session, project, waiting, who)}
    return projects.add_document(session, project, kind, dict(content), actor=who[0], facts=facts)


def _seconded(
    session: Session, project: Project, waiting: ModelVersion, who: tuple[str, str, str]
) -> dict[str, str]:
    actor, reason, token = who
    first = session.exec(select(User).where(User.name == actor)).first()
    second = people.second_approver(session, project.id, first, token)
    if not reason.strip() or second is None:
        raise SamePerson(
            f"version {waiting.number} was scored by what is in force: decide on it first, or say who you are "
            "(ERRATA_TOKEN) and why, with the token of a second person who may approve"
        )
    return {"reason": reason, "second": second.name, "while_waiting": f"v{waiting.number}"}
