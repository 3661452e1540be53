"""A small project whose flags were settled, learned from, judged and promoted, as a test wants it."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlmodel import Session, col, select

from retrain.types import Split
from service.runtime import Runtime
from service.tables import (
    AnnotationTask,
    Annotator,
    Approval,
    ConnectorKind,
    Decision,
    Feedback,
    ModelState,
    ModelVersion,
    Project,
    Promotion,
    PromotionKind,
    Response,
    Role,
    Settlement,
    SettlementAnnotation,
    TaskFlag,
    TrainingRun,
    TrainingSetExample,
)
from tests import builders

MARKER = "Zanzibar-marmalade"  # stands in everything that users and experts write


class History:
    """A project in which some answers were flagged, some flags settled, and some settlements learned from."""

    def __init__(self, session: Session) -> None:
        self.session, self.project = session, builders.add_project(session, f"p{uuid4().hex[:8]}")
        builders.add_criteria(session, self.project)
        self.experts = [self._expert(name) for name in ("ann", "ben")]
        self.settled: list[Settlement] = []
        self.models: list[ModelVersion] = []
        self.number = 0

    def _expert(self, name: str) -> Annotator:
        account = f"{name}-{uuid4().hex[:8]}"
        expert = Annotator(connector=ConnectorKind.NONE, account=account)
        self.session.add(expert)
        self.session.flush()
        return expert

    def settle(
        self, asked: str = "who bills me?", *, flags: int = 1, by: ModelVersion | None = None
    ) -> Settlement:
        """Let flags on one answer be settled by both experts."""
        facts = {"model_version_id": by.id} if by else {}
        response = builders.add_response(self.session, self.project, f"a {uuid4()}", asked=asked, **facts)
        given = [
            builders.add_flag(self.session, self.project, response, comment=MARKER, correction=MARKER)
            for _ in range(flags)
        ]
        task = builders.add_task(self.session, self.project, response, flag=given[0] if given else None)
        self.session.add_all(TaskFlag(task_id=task.id, feedback_id=flag.id) for flag in given[1:])
        answers = [
            builders.add_annotation(self.session, task, one, correction=MARKER) for one in self.experts
        ]
        settlement = builders.add_settlement(self.session, task, correction=MARKER)
        self.session.add_all(
            SettlementAnnotation(settlement_id=settlement.id, annotation_id=one.id) for one in answers
        )
        self.session.flush()
        self.settled.append(settlement)
        return settlement

    def train(
        self, settled, *, parent: ModelVersion | None = None, split: Split = Split.TRAIN
    ) -> ModelVersion:
        """Let a set of these settlements become a version, which goes on from another or from the base."""
        self.number += 1
        model = builders.add_challenger(self.session, self.project, number=self.number)
        model.parent_id = parent.id if parent else None
        set_id = self.session.get_one(TrainingRun, model.training_run_id).training_set_id
        self.session.add_all(self.example(set_id, one, split) for one in settled)
        self.session.flush()
        self.models.append(model)
        return model

    def example(self, set_id: UUID, settlement: Settlement, split: Split) -> TrainingSetExample:
        return TrainingSetExample(
            training_set_id=set_id,
            settlement_id=settlement.id,
            content_sha256=f"sha256:{settlement.id.hex}",
            split=split,
            group_name=settlement.id.hex,
        )

    def promote(self, model: ModelVersion) -> None:
        evaluation = builders.add_evaluation(self.session, self.project, model)
        user, _ = builders.add_person(self.session, Role.APPROVER, uuid4().hex)
        of = {"project_id": self.project.id, "model_version_id": model.id, "user_id": user.id}
        approval = Approval(
            evaluation_id=evaluation.id, decision=Decision.APPROVED, reason="better", hashes={}, **of
        )
        self.session.add(approval)
        self.session.flush()
        self.session.add(
            Promotion(seq=self.number + 1, kind=PromotionKind.PROMOTION, approval_id=approval.id, **of)
        )
        self.session.flush()

    def answer(self, asked: str, model: ModelVersion) -> Response:
        return builders.add_response(
            self.session, self.project, f"an {uuid4()}", asked=asked, model_version_id=model.id
        )

    def flags_of(self, settlement: Settlement) -> list[Feedback]:
        of_task = select(TaskFlag.feedback_id).where(TaskFlag.task_id == settlement.task_id)
        return list(self.session.exec(select(Feedback).where(col(Feedback.id).in_(of_task))))


@dataclass(frozen=True, slots=True)
class Told:
    """A version that went live, an answer that it gave, the flag behind that, and the answer that was flagged."""

    project: Project
    model: ModelVersion
    answer: Response
    flag: Feedback
    flagged: UUID
    settlement: UUID
    key: str

    @property
    def slug(self) -> str:
        return self.project.slug


def open_told(runtime: Runtime) -> Told:
    """Make a project in which one flag came all the way."""
    with runtime.db.transaction() as session:
        history = History(session)
        settlement = history.settle(f"who is {MARKER}?")
        model = history.train([settlement])
        history.promote(model)
        answer = history.answer(f"who is {MARKER}, then?", model)
        [flag] = history.flags_of(settlement)
        flagged = session.get_one(AnnotationTask, settlement.task_id).response_id
        key = builders.add_key(session, history.project)
        model.state = ModelState.CHAMPION
    return Told(history.project, model, answer, flag, flagged, settlement.id, key)
