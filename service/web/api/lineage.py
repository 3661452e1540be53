"""Lineage: why a model answered so, where a flag led, and the evidence for a model version."""

from typing import Any
from uuid import UUID

from flask import Blueprint
from pydantic import Field
from sqlmodel import Session

from service.answers import graph
from service.answers.evidence import pack
from service.tables import Feedback, ModelVersion, Response
from service.web.auth import Access, Caller
from service.web.endpoint import Schema, endpoint
from service.web.state import runtime

bp = Blueprint("lineage", __name__, url_prefix="/v1")


class NodeOut(Schema):
    """A row, told by facts and no user's words.

    Of an example `influence` says how much learning it helped with what the model is tested on, below 0 how much it
    harmed; where that was not estimated, `similarity` is how like the question its prompt is.
    """

    id: str
    kind: str
    title: str
    at: str
    similarity: float | None = None
    influence: float | None = None


class EdgeOut(Schema):
    """A cause, its effect, and how the one led to the other."""

    cause: str = Field(alias="from")
    effect: str = Field(alias="to")
    kind: str


class GraphOut(Schema):
    """What was found, the row that was asked about first; `more` counts, by kind, what is not shown.

    Examples are `ranked_by` influence or similarity.
    """

    nodes: list[NodeOut]
    edges: list[EdgeOut]
    more: dict[str, int]
    ranked_by: str | None


@bp.get("/lineage/why/<uuid:response_id>")
@endpoint(access=Access.READER, returns=GraphOut)
def why(session: Session, caller: Caller, response_id: UUID) -> dict[str, Any]:
    """Tell what a response goes back to: model version, run, set, its most related examples, annotators, flags."""
    return graph.why(session, caller.row(session, Response, response_id)).to_json()


@bp.get("/lineage/where/<uuid:feedback_id>")
@endpoint(access=Access.READER, returns=GraphOut)
def where(session: Session, caller: Caller, feedback_id: UUID) -> dict[str, Any]:
    """Tell what a feedback led to: tasks, settlements, sets, runs, model versions, promotions."""
    return graph.where(session, caller.row(session, Feedback, feedback_id)).to_json()


@bp.get("/models/<uuid:model_id>/evidence")
@endpoint(access=Access.READER, returns="application/zip", shows_text=True)
def evidence(session: Session, caller: Caller, model_id: UUID) -> bytes:
    """Pack all that the decision on a model version rests on into one archive."""
    return pack(runtime(), session, caller.row(session, ModelVersion, model_id))
