"""After the loop: what is live here is what is served elsewhere, and only what was heard there counts as live."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import orjson
import structlog
from sqlmodel import Session, col, or_, select

from retrain.errors import BrokenArtifact, MissingArtifact
from retrain.handoff import Attested, attest, name_champion, publish, served_name
from retrain.suites import GENERAL, ask_generally
from service import champions
from service.answers import describe_promotion
from service.clock import utcnow
from service.errors import ServiceError
from service.queue import Lease
from service.runtime import Runtime
from service.serving import targets_of
from service.tables import Evaluation, ModelVersion, Project, ServingKind, ServingState, ServingTarget

ASKED, LOOKED_AT = 40, 20  # questions a probe asks, reports that know answers
REST, LONGEST_REST = timedelta(seconds=10), timedelta(minutes=10)
LOOKED_AT_AGAIN = timedelta(minutes=15)  # a server that was restarted may have forgotten
TOLD, NAMED = 500, 200
BY_ANSWER = {True: ServingState.LIVE, False: ServingState.FAILING, None: ServingState.CANNOT_TELL}

Questions = Mapping[str, list[dict[str, str]]]
"""Conversations by what is asked."""

log = structlog.get_logger()


class Server(Protocol):
    """What is spoken to: serving engines and webhooks."""

    def load(self, url: str, name: str, path: str) -> None: ...
    def answer(
        self, url: str, model: str, questions: Mapping[str, list[dict[str, str]]]
    ) -> dict[str, str]: ...
    def announce(self, target_id: UUID, url: str, document: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be live, as of the newest promotion, and by whom and through what it is brought there."""

    runtime: Runtime
    lease: Lease
    server: Server
    project: Project
    model: ModelVersion
    document: Mapping[str, Any]

    @property
    def seq(self) -> int:
        """The promotion's number."""
        return int(self.document["seq"])


def perform(runtime: Runtime, lease: Lease, project_id: UUID, server: Server) -> dict[str, int]:
    """Bring each target of a project to what the newest promotion says, and ask it whether it is there.

    One that fails rests, longer each time, and hinders no other. What was promoted meanwhile is the next job's.
    """
    with lease.transaction() as session:
        project = session.get_one(Project, project_id)
        promotion, model = champions.live_at(session, project, None)
        document = describe_promotion(promotion, model)
        errand = Errand(runtime, lease, server, project, model, document)
        targets = [each for each in targets_of(session, project_id) if _is_due(each, errand.seq)]
    counts: dict[str, int] = {}
    for target in targets:
        changes = _serve(errand, target)
        with lease.transaction() as session:
            _record(session, target.id, changes)
        state = changes["state"].value
        counts[state] = counts.get(state, 0) + 1
    return counts


def _is_due(target: ServingTarget, seq: int) -> bool:
    return target.seq != seq or target.not_before <= utcnow()


def _serve(errand: Errand, target: ServingTarget) -> dict[str, Any]:
    """Serve one target, and return how far it is, under which name, and what is to be said of that."""
    model = errand.model
    name = target.base_name or model.base_model
    try:
        if model.adapter_sha256:
            name = served_name(errand.project.slug, model.number, model.adapter_sha256)
        _hand_over(errand, target, name)
        if target.url:
            attested = _ask(errand, target, name)
            state, said = BY_ANSWER[attested.is_meant], attested.sentence
        else:
            state, said = ServingState.PUBLISHED, "no server is named that could be asked"
    except (ServiceError, MissingArtifact, BrokenArtifact, OSError, ValueError) as error:
        log.warning("serving_failed", target_id=str(target.id), error=type(error).__name__)
        state, said = ServingState.FAILING, str(error)
    return {"seq": errand.seq, "state": state, "served": name[:NAMED], "told": said[:TOLD]}


def _hand_over(errand: Errand, target: ServingTarget, name: str) -> None:
    document = {**errand.document, "name": name}
    if target.kind is ServingKind.WEBHOOK:
        errand.server.announce(target.id, target.place, document)
        return
    if adapter := errand.model.adapter_sha256:
        publish(errand.runtime.artifacts, adapter, target.place, name)
        if target.kind is ServingKind.VLLM:
            errand.server.load(target.url, name, f"{target.seen_as or target.place}/{name}")
    name_champion(target.place, document)


def _ask(errand: Errand, target: ServingTarget, name: str) -> Attested:
    """Ask a server general questions, no user's, that versions answered when they were judged."""
    known, number = _known(errand), errand.model.number
    own = known.get(number, {})
    others = [said for other, said in known.items() if other != number]
    telling = sorted(own, key=lambda key: (-sum(said.get(key) != own[key] for said in others), key))[:ASKED]
    questions = {
        key: [{"role": turn.role, "content": turn.content} for turn in ask_generally(key)] for key in telling
    }
    heard = errand.server.answer(target.url, name, questions)
    return attest({key: text.strip() for key, text in heard.items()}, known, number)


def _known(errand: Errand) -> dict[int, Mapping[str, str]]:
    """Return what this version, and those it was judged beside, answered to the general questions, by version."""
    model = errand.model
    of_it = or_(Evaluation.model_version_id == model.id, Evaluation.champion_id == model.id)
    with errand.lease.transaction() as session:
        judged = session.exec(
            select(Evaluation)
            .where(Evaluation.project_id == model.project_id, of_it, col(Evaluation.report).is_not(None))
            .order_by(col(Evaluation.id).desc())
            .limit(LOOKED_AT)
        ).all()
        versions = select(ModelVersion.id, ModelVersion.number).where(
            ModelVersion.project_id == model.project_id
        )
        numbers = dict(session.exec(versions).all())
    known: dict[int, Mapping[str, str]] = {}
    for one in judged:
        try:
            answers = orjson.loads(errand.runtime.artifacts.get_bytes(str(one.report)))["answers"]
        except (MissingArtifact, BrokenArtifact):
            continue
        of_whom = {
            "base": 0,
            "champion": numbers[one.champion_id],
            "challenger": numbers[one.model_version_id],
        }
        for who, number in of_whom.items():
            if number not in known and who in answers:
                known[number] = _general(answers[who])
    return known


def _general(answers: Mapping[str, str]) -> dict[str, str]:
    begins = f"{GENERAL}:"
    return {key.removeprefix(begins): text.strip() for key, text in answers.items() if key.startswith(begins)}


def _record(session: Session, target_id: UUID, changes: Mapping[str, Any]) -> None:
    target = session.get_one(ServingTarget, target_id, with_for_update=True)
    if target.state is not changes["state"]:
        log.info("serving", target_id=str(target_id), state=changes["state"].value)
    target.sqlmodel_update(dict(changes))
    target.attempts = target.attempts + 1 if target.state is ServingState.FAILING else 0
    rest = min(LONGEST_REST, REST * 2 ** min(target.attempts - 1, 10)) if target.attempts else LOOKED_AT_AGAIN
    target.checked_at = utcnow()
    target.not_before = target.checked_at + rest
