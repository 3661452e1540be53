"""What a project is run by besides its goalposts: reasons, guidelines, glossary, rates, retention, in versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from service import projects
from service.cli.console import ACTOR, AsJson, connect, show
from service.cli.people import read_json, read_text
from service.glossary import set_glossary
from service.rates import set_rates
from service.retention import DEFAULT, set_retention
from service.tables import Document, DocumentKind

app = typer.Typer()


def _offer(
    noun: str,
    about: str,
    kind: DocumentKind,
    put: Callable[..., Document],
    read: Callable[[Path], Any],
    *,
    first: dict[str, Any] | None = None,
) -> None:
    """Add `errata NOUN set PROJECT FILE` and `errata NOUN show PROJECT`."""
    of_noun = typer.Typer(no_args_is_help=True)
    app.add_typer(of_noun, name=noun, help=about)

    @of_noun.command(
        "set", help=f"Set them from a file: {about[0].lower()}{about[1:]} An earlier version is kept."
    )
    def put_one(project: str, file: Path, as_json: AsJson = False) -> None:
        content = read(file)
        with connect().db.transaction() as session:
            document = put(session, projects.find(session, project), content, actor=ACTOR)
        show({"version": document.version, "sha256": document.sha256}, as_json=as_json)

    @of_noun.command("show", help="Show the newest version.")
    def show_one(project: str, as_json: AsJson = False) -> None:
        with connect().db.reading() as session:
            found = projects.document(session, projects.find(session, project).id, kind)
        document = (
            {"version": found.version, "author": found.author, "content": found.content} if found else {}
        )
        show(document or {"version": 0, "author": None, "content": first or {}}, as_json=as_json)


_offer("reasons", "What users may say is wrong.", DocumentKind.REASONS, projects.set_reasons, read_json)
_offer("guidelines", "How experts are to judge.", DocumentKind.GUIDELINES, projects.set_guidelines, read_text)
_offer("glossary", "What the project calls things.", DocumentKind.GLOSSARY, set_glossary, read_json)
_offer("rates", "What an hour costs and an outcome is worth.", DocumentKind.RATES, set_rates, read_json)
_offer(
    "retention",
    "How many days each kind of text is kept.",
    DocumentKind.RETENTION,
    set_retention,
    read_json,
    first=DEFAULT,
)
