"""Lineage as a picture and a table: why a model answered so, where a flag led; and the evidence as a file."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from flask import Response as WebResponse

from service.answers import graph
from service.answers.evidence import pack
from service.answers.nodes import KINDS, Node, words_of
from service.tables import Feedback, ModelVersion, Response
from service.web.auth import Access
from service.web.console.page import Desk, bp, page
from service.web.state import runtime

COLUMN, WIDTH, LINE, HEIGHT, TOP = 152, 124, 34, 26, 26  # pixels: a box is narrower than its column
RESPONSE = str(Response.__tablename__)


class Picture(NamedTuple):
    """A graph as it is drawn: heads over columns, boxes by their upper left corners, curves from causes to effects."""

    heads: Sequence[tuple[int, str]]
    places: Mapping[UUID, tuple[int, int]]
    curves: Sequence[str]
    width: int
    height: int


@bp.get("/p/<slug>/lineage/why/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def why(desk: Desk, row_id: UUID) -> str:
    """Show what a response goes back to."""
    found = graph.why(desk.session, desk.row(Response, row_id))
    return _shown(desk, found, "Why this answer?")


@bp.get("/p/<slug>/lineage/where/<uuid:row_id>")
@page(Access.READER, shows_text=True)
def where(desk: Desk, row_id: UUID) -> str:
    """Show what a feedback led to."""
    found = graph.where(desk.session, desk.row(Feedback, row_id))
    return _shown(desk, found, "What it led to")


@bp.get("/p/<slug>/models/<uuid:row_id>/evidence")
@page(Access.READER, shows_text=True)
def evidence_part(desk: Desk, row_id: UUID) -> WebResponse:
    """Send the archive of what the decision on a version rests on."""
    model = desk.row(ModelVersion, row_id)
    file = WebResponse(pack(runtime(), desk.session, model), content_type="application/zip")
    file.headers.set("Content-Disposition", "attachment", filename=f"{desk.project.slug}-v{model.number}.zip")
    return file


def draw(found: graph.Graph) -> Picture:
    """Place a graph's nodes: kinds from left to right as one leads to the next, nodes in the order of finding.

    The response that was asked about stands last, for all the others led to it.
    """
    root = found.nodes[0]
    columns: dict[str, list[Node]] = {kind: [] for kind in (*KINDS, "")}
    for node in found.nodes:
        columns["" if node is root and node.kind == RESPONSE else node.kind].append(node)
    filled = {kind: nodes for kind, nodes in columns.items() if nodes}
    places = {
        node.id: (column * COLUMN, TOP + line * LINE)
        for column, nodes in enumerate(filled.values())
        for line, node in enumerate(nodes)
    }
    return Picture(
        heads=[(column * COLUMN, kind or RESPONSE) for column, kind in enumerate(filled)],
        places=places,
        curves=[_curve(*places[link.cause], *places[link.effect]) for link in found.links],
        width=len(filled) * COLUMN,
        height=TOP + max(map(len, filled.values())) * LINE,
    )


def _curve(x: int, y: int, to_x: int, to_y: int) -> str:
    """Return an SVG path from a box's right to another's left; rows of one kind are joined on the left of both."""
    y, to_y = y + HEIGHT // 2, to_y + HEIGHT // 2
    start, bend = (x, x - 30) if x == to_x else (x + WIDTH, (x + WIDTH + to_x) // 2)
    return f"M{start} {y}C{bend} {y} {bend} {to_y} {to_x} {to_y}"


def _shown(desk: Desk, found: graph.Graph, title: str) -> str:
    return desk.show(
        "lineage.html",
        title=title,
        root=found.nodes[0],
        graph=found,
        picture=draw(found),
        words=words_of(desk.session, found.nodes),
        box=(WIDTH, HEIGHT),
    )
