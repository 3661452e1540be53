"""Where things come from and lead to: why a model answered so, where a flag went, the evidence for a version."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree
from sqlmodel import Session

from service import answers
from service.answers import graph
from service.answers.evidence import pack
from service.answers.nodes import Node, words_of
from service.cli.console import AsJson, connect, show, write_whole
from service.errors import NotFound
from service.tables import Feedback, Response

app = typer.Typer()
MAX_WORDS = 80


@app.command()
def why(response_id: Annotated[UUID, typer.Argument(metavar="RESPONSE_ID")], as_json: AsJson = False) -> None:
    """Show what an answer goes back to: model version, run, set, the most related examples, and whose they are."""
    with connect().db.reading() as session:
        response = session.get(Response, response_id)
        if response is None:
            raise NotFound(f"no response {response_id}")
        _show(session, graph.why(session, response), as_json=as_json)


@app.command()
def where(
    feedback_id: Annotated[UUID, typer.Argument(metavar="FEEDBACK_ID")], as_json: AsJson = False
) -> None:
    """Show what a flag led to: tasks, settlements, sets, runs, model versions, promotions."""
    with connect().db.reading() as session:
        feedback = session.get(Feedback, feedback_id)
        if feedback is None:
            raise NotFound(f"no feedback {feedback_id}")
        _show(session, graph.where(session, feedback), as_json=as_json)


@app.command()
def evidence(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="PROJECT/vN, or a version's id.")],
    to: Annotated[Path, typer.Option(dir_okay=False, help="The file; one that is there is replaced.")],
    as_json: AsJson = False,
) -> None:
    """Pack what the decision on a model version rests on into one archive that anybody can check."""
    runtime = connect()
    with runtime.db.reading() as session:
        found = answers.find_version(session, model)
        archive = pack(runtime, session, found)
    write_whole(to, lambda path: path.write_bytes(archive))
    show({"model_version": str(found.id), "file": str(to), "bytes": len(archive)}, as_json=as_json)


def _show(session: Session, found: graph.Graph, *, as_json: bool) -> None:
    if as_json:
        show(found.to_json(), as_json=True)
        return
    out = Console(highlight=False, markup=False, emoji=False, width=1000)
    out.print(_tree(found, words_of(session, found.nodes)), soft_wrap=True)
    for kind, count in found.more.items():
        out.print(f"and {count} more: {kind.replace('_', ' ')}")


def _tree(found: graph.Graph, words: dict[UUID, str]) -> Tree:
    """Draw a graph from where its walk began, each row once: below the nearest of those that it is next to."""
    node_of = {node.id: node for node in found.nodes}
    root = found.nodes[0]
    tree = Tree(_told(root, words))
    branches, waiting = {root.id: tree}, [root.id]
    for row_id in waiting:
        for other in found.next_to(row_id):
            if other not in branches:
                branches[other] = branches[row_id].add(_told(node_of[other], words))
                waiting.append(other)
    return tree


def _told(node: Node, words: dict[UUID, str]) -> Text:
    said = " ".join(words.get(node.id, "").split())
    like = "" if node.similarity is None else f" {node.similarity:.2f} alike"
    like = like if node.influence is None else f" {node.influence:+.3g} of influence"
    line = f"{node.kind.replace('_', ' ')} {node.title}{like} {node.id}"
    line += f": {said[:MAX_WORDS]}" if said else ""
    # A terminal obeys what it is shown, and these are users' words.
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line))
