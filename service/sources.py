"""Where corpora come from: each source under its name and licence, and what an import of one is told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, select

from retrain.corpus import check_columns
from service.answers.corpora import why_no_import
from service.errors import Invalid, WrongState
from service.tables import Project, Source


@dataclass(frozen=True, slots=True)
class NewSource:
    """Where a corpus comes from, under which licence, and on which days it holds; None leaves as it is."""

    name: str
    licence: str
    author: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


def ensure_source(session: Session, project: Project, new: NewSource) -> Source:
    """Return the project's corpus of this name, added if there is none.

    Raises:
        Invalid: it has no name or licence, or its days are the wrong way round.
        WrongState: the name is that of what users were answered, or is known under another licence.
    """
    if not new.name.strip() or not new.licence.strip():
        raise Invalid("source and licence: name both; what nobody may use must not train anything")
    named = select(Source).where(Source.project_id == project.id, Source.name == new.name)
    found = session.exec(named).first()
    if found and not found.is_corpus:
        raise WrongState(f"source: {new.name!r} holds what users were answered; choose another name")
    if found and found.licence != new.licence:
        raise WrongState(f"licence: {new.name!r} is known under {found.licence!r}; choose another name")
    source = found or Source(project_id=project.id, name=new.name, licence=new.licence, is_corpus=True)
    given = {"author": new.author, "valid_from": new.valid_from, "valid_to": new.valid_to}
    source.sqlmodel_update({name: value for name, value in given.items() if value is not None})
    if source.valid_from and source.valid_to and source.valid_to < source.valid_from:
        raise Invalid("valid_to: before valid_from")
    session.add(source)
    session.flush()
    return source


def import_options(session: Session, place: str, columns: Mapping[str, str], *, actor: str) -> dict[str, Any]:
    """Return what a job is told that imports what stands in a place.

    Raises:
        Invalid: a tool is named, and no project in it.
        UnreadableCorpus: `columns` names what rows do not have.
        WrongState: a project of ours asks its experts there, so that their answers come by themselves.
    """
    check_columns(columns)
    if why := why_no_import(session, place):
        raise WrongState(f"{place}: {why}")
    return {"path": place, "columns": dict(columns), "actor": actor}


def columns_of(pairs: Iterable[str]) -> dict[str, str]:
    """Read pairs such as answer=Reply: which column of a record has which role.

    Raises:
        Invalid: one of them is no pair.
    """
    columns = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals:
            raise Invalid(f"column {pair}: write ROLE=NAME")
        columns[role] = name
    return columns
