"""The nodes of a lineage graph: what each kind of row is called, and on which page it is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import null
from sqlalchemy import select as select_columns
from sqlmodel import Session, col

from service import tables as t


@dataclass(frozen=True, slots=True)
class Node:
    """A row told by facts, never by a user's words; `page` and `page_id` say where it is shown.

    `similarity`, from 0 to 1, is how like the question an example's prompt is; `influence` how much learning it helped
    with what the model is tested on, where that was estimated: below 0 it harmed.
    """

    id: UUID
    kind: str
    title: str
    at: datetime
    page: str
    page_id: UUID | None
    similarity: float | None = None
    influence: float | None = None

    def to_json(self) -> dict[str, Any]:
        told = {"id": str(self.id), "kind": self.kind, "title": self.title, "at": self.at.isoformat()}
        scores = {"similarity": self.similarity, "influence": self.influence}
        return told | {name: float(f"{score:.4g}") for name, score in scores.items() if score is not None}


@dataclass(frozen=True, slots=True)
class Kind:
    """A table, the columns from which a row is told, its page, and the column that holds the id of the page's row."""

    table: type[t.Row]
    columns: tuple[Any, ...]
    told: Callable[[Any], str]
    page: str
    page_of: Any = None


def _name(of: Any, name: Any, key: Any) -> Any:
    return select_columns(col(name)).where(col(of) == key).scalar_subquery().label("who")


def _joined(*parts: object) -> str:
    return ", ".join(str(part).replace("_", " ") for part in parts if part)


def _ended(row: Any) -> str:
    return "withdrawn" if row.withdrawn_at else ""


def _feedback(row: Any) -> str:
    said = "a flag" if row.rating is t.Rating.DOWN else "a thumb up"
    # Every sender's request has a hash; an erasure takes it away with the words.
    return _joined(said if row.body_sha256 else "erased", _ended(row))


def _annotation(row: Any) -> str:
    said = _joined(row.verdict or row.abstention or "no answer", row.label)
    return _joined(f"{said} by {row.who}", _ended(row))


_ACCOUNT = _name(t.Annotator.id, t.Annotator.account, t.Annotation.annotator_id)
_APPROVER, _PROMOTER = (_name(t.User.id, t.User.name, table.user_id) for table in (t.Approval, t.Promotion))
# In the order in which one leads to the next, which is that of a picture's columns.
# fmt: off
_TOLD = (
    Kind(t.Response, (t.Response.erased_at, t.Response.model_version),
         lambda row: "erased" if row.erased_at else f"of {row.model_version or 'an unnamed model'}", "why"),
    Kind(t.Feedback, (t.Feedback.rating, t.Feedback.body_sha256, t.Feedback.withdrawn_at), _feedback, "story_of"),
    Kind(t.AnnotationTask, (t.AnnotationTask.purpose, t.AnnotationTask.state),
         lambda row: _joined(row.purpose, row.state), "task"),
    Kind(t.Annotator, (t.Annotator.account,), lambda row: str(row.account), "annotator"),
    Kind(t.Annotation,
         (t.Annotation.verdict, t.Annotation.abstention, t.Annotation.label, t.Annotation.withdrawn_at, _ACCOUNT),
         _annotation, "task", t.Annotation.task_id),
    Kind(t.Admission, (t.Admission.right, t.Admission.asked),
         lambda row: f"{row.right} of {row.asked} right", "corpora", null()),
    Kind(t.Settlement, (t.Settlement.verdict, t.Settlement.label, t.Settlement.withdrawn_at),
         lambda row: _joined(row.verdict, row.label, _ended(row)), "task", t.Settlement.task_id),
    Kind(t.TrainingSetExample, (t.TrainingSetExample.split, t.TrainingSetExample.erased_at),
         lambda row: _joined(f"{row.split} part", row.erased_at and "erased"),
         "training_set", t.TrainingSetExample.training_set_id),
    Kind(t.TrainingSet, (t.TrainingSet.version,), lambda row: f"v{row.version}", "training_set"),
    Kind(t.TrainingRun, (t.TrainingRun.state,), lambda row: _joined(row.state), "run"),
    Kind(t.ModelVersion, (t.ModelVersion.number, t.ModelVersion.state),
         lambda row: _joined(f"v{row.number}", row.state), "models", null()),
    Kind(t.Evaluation, (t.Evaluation.state,), lambda row: _joined(row.state), "evaluation"),
    Kind(t.Approval, (t.Approval.decision, _APPROVER),
         lambda row: f"{row.decision} by {row.who}", "evaluation", t.Approval.evaluation_id),
    Kind(t.Promotion, (t.Promotion.kind, t.Promotion.seq, _PROMOTER),
         lambda row: f"no. {row.seq}, {row.kind}" + (f" by {row.who}" if row.who else ""), "models", null()),
)
# fmt: on
KINDS: dict[str, Kind] = {str(kind.table.__tablename__): kind for kind in _TOLD}


def nodes_of(
    session: Session, found: Mapping[str, Mapping[UUID, None]], scores: Mapping[UUID, float], ranked_by: str
) -> list[Node]:
    """Return the nodes of what was found, by kind in the order of finding; `scores` are what they were ranked by."""
    nodes = []
    for name, ids in found.items():
        kind = KINDS[name]
        own: Any = col(kind.table.id)
        page_of, at = own if kind.page_of is None else kind.page_of, col(kind.table.created_at)
        named: Any = own.label("id"), at.label("at"), page_of.label("page_id")
        rows = session.execute(select_columns(*named, *kind.columns).where(own.in_(ids))).all() if ids else ()
        row_of = {row.id: row for row in rows}
        for row in map(row_of.__getitem__, ids):
            score = {ranked_by: scores[row.id]} if row.id in scores else {}
            nodes.append(Node(row.id, name, kind.told(row), row.at, kind.page, row.page_id, **score))
    return nodes


def words_of(session: Session, nodes: Sequence[Node]) -> dict[UUID, str]:
    """Return what was asked, for nodes of responses and examples: for those alone who may read users' words."""
    ids = [node.id for node in nodes]
    said = select_columns(col(t.Response.id), col(t.Response.messages)).where(col(t.Response.id).in_(ids))
    learned = (
        select_columns(col(t.TrainingSetExample.id), col(t.Response.messages))
        .join(t.Settlement, col(t.TrainingSetExample.settlement_id) == t.Settlement.id)
        .join(t.AnnotationTask, col(t.Settlement.task_id) == t.AnnotationTask.id)
        .join(t.Response, col(t.AnnotationTask.response_id) == t.Response.id)
        .where(col(t.TrainingSetExample.id).in_(ids))
    )
    asked = [*session.execute(said), *session.execute(learned)]
    return {row_id: messages[-1]["content"] for row_id, messages in asked}
