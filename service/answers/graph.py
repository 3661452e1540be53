"""Why a model answered as it did, and where a flag led: one table of edges, walked towards causes or effects."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import case, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col

from retrain import near_duplicates
from retrain.types import Message, Split
from service import tables as t
from service.answers.nodes import Node, nodes_of

EXAMPLES, MOST = 50, 200  # of a set; along any other edge
RANKED = 20_000  # of a set's rows, the newest that taught; reading more would take longer than anybody waits
TEACHES = (Split.TRAIN, Split.VALIDATION)

Rank = Callable[[Mapping[UUID, str], str], list[tuple[UUID, float]]]
Pairs = Sequence[tuple[UUID, UUID]]


@dataclass(frozen=True, slots=True)
class Edge:
    """One way in which rows follow from others: two columns of one table, each an id of its own or a foreign key."""

    kind: str
    cause: Any
    effect: Any


class Step(NamedTuple):
    """An edge as it is walked, from the rows at hand to those looked for."""

    edge: Edge
    near: Any
    far: Any


class Link(NamedTuple):
    """A cause, its effect, and how the one led to the other."""

    cause: UUID
    effect: UUID
    kind: str


# Once around the loop: each edge stands after all that lead to its cause, so that one pass walks them all.
EDGES = (
    Edge("flagged", col(t.Feedback.response_id), col(t.Feedback.id)),
    Edge("asked about", col(t.AnnotationTask.response_id), col(t.AnnotationTask.id)),
    Edge("chosen", col(t.TaskFlag.feedback_id), col(t.TaskFlag.task_id)),
    Edge("asked again", col(t.AnnotationTask.rechecks_id), col(t.AnnotationTask.id)),
    Edge("said", col(t.Annotation.annotator_id), col(t.Annotation.id)),
    Edge("answered", col(t.Annotation.task_id), col(t.Annotation.id)),
    Edge("counted", col(t.SettlementAnnotation.annotation_id), col(t.SettlementAnnotation.settlement_id)),
    Edge("settled", col(t.Settlement.task_id), col(t.Settlement.id)),
    Edge("admitted", col(t.Settlement.admission_id), col(t.Settlement.id)),
    Edge("became", col(t.TrainingSetExample.settlement_id), col(t.TrainingSetExample.id)),
    Edge("held", col(t.TrainingSetExample.id), col(t.TrainingSetExample.training_set_id)),
    Edge("trained", col(t.TrainingRun.training_set_id), col(t.TrainingRun.id)),
    Edge("made", col(t.ModelVersion.training_run_id), col(t.ModelVersion.id)),
    Edge("continued", col(t.ModelVersion.parent_id), col(t.ModelVersion.id)),
    Edge("judged", col(t.Evaluation.model_version_id), col(t.Evaluation.id)),
    Edge("decided", col(t.Approval.evaluation_id), col(t.Approval.id)),
    Edge("allowed", col(t.Promotion.approval_id), col(t.Promotion.id)),
    Edge("went live", col(t.Promotion.model_version_id), col(t.Promotion.id)),
)
# Closes the loop, and is walked from a response alone: any other walk would go round for ever.
GAVE = Edge("gave", col(t.Response.model_version_id), col(t.Response.id))
TO_EFFECTS = tuple(Step(edge, edge.cause, edge.effect) for edge in EDGES)
TO_CAUSES = tuple(Step(edge, edge.effect, edge.cause) for edge in reversed(EDGES))
TO_MODEL = Step(GAVE, GAVE.effect, GAVE.cause)


@dataclass(frozen=True, slots=True)
class Graph:
    """What a walk found, the row that it began at first; `more` counts, by kind, what its bounds left out.

    Where there are examples, `ranked_by` says by what they stand in their order: `INFLUENCE` or `SIMILARITY`.
    """

    nodes: Sequence[Node]
    links: Sequence[Link]
    more: Mapping[str, int]
    ranked_by: str | None = None

    def next_to(self, row_id: UUID) -> list[UUID]:
        """Return the rows one step further from where the walk began, in the order of finding."""
        is_forward = all(link.effect != self.nodes[0].id for link in self.links)
        further = {
            link.effect if is_forward else link.cause
            for link in self.links
            if row_id == (link.cause if is_forward else link.effect)
        }
        return [node.id for node in self.nodes if node.id in further]

    def to_json(self) -> dict[str, Any]:
        """Return the graph by ids and facts, without a user's words."""
        links = [{"from": str(one.cause), "to": str(one.effect), "kind": one.kind} for one in self.links]
        nodes = [node.to_json() for node in self.nodes]
        return {"nodes": nodes, "edges": links, "more": dict(self.more), "ranked_by": self.ranked_by}


@dataclass(slots=True)
class Walk:
    """What was found so far, by kind in the order of finding."""

    found: dict[str, dict[UUID, None]]
    links: dict[Link, None] = field(default_factory=dict)
    more: Counter[str] = field(default_factory=Counter)
    scores: dict[UUID, float] = field(default_factory=dict)
    ranked_by: str = "similarity"

    def keep(self, step: Step, pairs: Pairs, left_out: int) -> None:
        reached = self.found.setdefault(kind_of(step.far), {})
        is_forward = step.near is step.edge.cause
        for near, far in pairs:
            reached.setdefault(far)
            cause, effect = (near, far) if is_forward else (far, near)
            self.links.setdefault(Link(cause, effect, step.edge.kind))
        self.more[kind_of(step.far)] += left_out

    def graph(self, session: Session) -> Graph:
        nodes = nodes_of(session, self.found, self.scores, self.ranked_by)
        more = {kind: count for kind, count in self.more.items() if count}
        return Graph(nodes, sorted(self.links), more, self.ranked_by if self.scores else None)


def why(session: Session, response: t.Response) -> Graph:
    """Return what a response goes back to: its model version, the run, the set, the examples most related to it.

    First come those that mattered most to the version, if that was estimated, else those whose question is most like.
    From each example on, what it was made of: settlement, annotations, annotators, flags and what was flagged.
    """
    asked = _text(response.messages)
    walk = Walk({t.Response.__tablename__: {response.id: None}})
    rank: Rank = near_duplicates.rank
    estimated = select_columns(col(t.Influence.rows)).where(
        col(t.Influence.model_version_id) == response.model_version_id
    )
    if influence := session.scalar(estimated):
        walk.ranked_by, rank = "influence", partial(_by_influence, influence)
    _take(session, walk, TO_MODEL)
    for step in TO_CAUSES:
        if step.edge.kind == "held":
            _take_related(session, walk, step, rank, asked)
        else:
            _take(session, walk, step)
    return walk.graph(session)


def where(session: Session, feedback: t.Feedback) -> Graph:
    """Return all that a feedback led to: tasks, settlements, sets, runs, model versions, promotions."""
    return effects_of(session, t.Feedback.__tablename__, feedback.id)


def effects_of(session: Session, kind: str, row_id: UUID) -> Graph:
    """Return all that followed from a row, up to promotions; `kind` is its table's name."""
    walk = Walk({kind: {row_id: None}})
    for step in TO_EFFECTS:
        _take(session, walk, step)
    return walk.graph(session)


def kind_of(column: Any) -> str:
    """Return the name of the table whose ids a column holds."""
    [own] = column.property.columns
    return str(next((key.column.table.name for key in own.foreign_keys), own.table.name))


def _take(session: Session, walk: Walk, step: Step) -> None:
    """Follow one edge from everything found that it begins at."""
    if ids := list(walk.found.get(kind_of(step.near), ())):
        pairs, left_out = _pairs(session, step, ids)
        walk.keep(step, pairs, left_out)


def _pairs(session: Session, step: Step, ids: Sequence[UUID]) -> tuple[Pairs, int]:
    """Return the newest pairs along an edge, and how many rows that leaves out."""
    near, far = step.near, step.far
    pairs = select_columns(near.label("near"), far.label("far")).where(near.in_(ids), far.is_not(None))
    if kind_of(near) == kind_of(far):  # such rows follow each other in a chain
        chain = pairs.cte(recursive=True)
        further = select_columns(near, far).where(near == chain.c.far, far.is_not(None))
        chain = chain.union(further)
        pairs = select_columns(chain.c.near, chain.c.far)
        far = chain.c.far
    newest = session.execute(pairs.order_by(far.desc()).limit(MOST)).all()
    if len(newest) < MOST:
        return newest, 0
    every = session.scalar(select_columns(func.count(pairs.subquery().c.far.distinct()))) or 0
    return newest, every - len({far for _, far in newest})


def _take_related(session: Session, walk: Walk, step: Step, rank: Rank, asked: str) -> None:
    """Follow the edge from sets to their examples, those first that taught, the most related first of these."""
    if not (sets := list(walk.found.get(kind_of(step.near), ()))):
        return
    prompts, teaches, every = _prompts(session, sets)
    best = sorted(rank(prompts, asked), key=lambda one: one[0] not in teaches)[:EXAMPLES]
    score = dict(best)
    key = col(t.TrainingSetExample.settlement_id)
    held = select_columns(step.near, step.far, key).where(step.near.in_(sets), key.in_(score))
    place = {settlement: at for at, settlement in enumerate(score)}
    rows = sorted(session.execute(held.order_by(step.far.desc()).limit(MOST)), key=lambda row: place[row[2]])
    walk.scores |= {example: score[settlement] for _, example, settlement in rows}
    walk.keep(step, [(near, far) for near, far, _ in rows], every - len(best))


def _by_influence(
    influence: Mapping[str, float], prompts: Mapping[UUID, str], _asked: str
) -> list[tuple[UUID, float]]:
    """Return each row with its influence, good or bad, the greatest first; what was not kept had next to none."""
    return sorted(((key, influence.get(str(key), 0.0)) for key in prompts), key=lambda one: -abs(one[1]))


def _prompts(session: Session, sets: Sequence[UUID]) -> tuple[dict[UUID, str], set[UUID], int]:
    """Return the prompts of sets' rows by settlement, which of them taught, and how many there are in all."""
    key, of_sets = (
        col(t.TrainingSetExample.settlement_id),
        col(t.TrainingSetExample.training_set_id).in_(sets),
    )
    teaching = col(t.TrainingSetExample.split).in_(TEACHES)
    rows = session.execute(
        select_columns(key, teaching, col(t.Response.messages))
        .join(t.Settlement, key == t.Settlement.id)
        .join(t.AnnotationTask, col(t.Settlement.task_id) == t.AnnotationTask.id)
        .join(t.Response, col(t.AnnotationTask.response_id) == t.Response.id)
        .where(of_sets)
        .order_by(case((teaching, 0), else_=1), key.desc())
        .limit(RANKED)
    ).all()
    every = session.scalar(select_columns(func.count(key.distinct())).where(of_sets)) or 0
    prompts = {settlement: _text(messages) for settlement, _, messages in rows}
    return prompts, {settlement for settlement, taught, _ in rows if taught}, every


def _text(messages: Sequence[Mapping[str, str]]) -> str:
    return near_duplicates.text_of([Message(**turn) for turn in messages])
