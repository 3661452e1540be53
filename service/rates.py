"""What a project's experts, machines and outcomes cost or are worth."""

from typing import Any

from sqlmodel import Session

from retrain.errors import InvalidRates
from retrain.worth import Rates, read_rates
from service import projects
from service.errors import Invalid
from service.tables import Document, DocumentKind, Project


def set_rates(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Say what an hour costs and an outcome is worth.

    Raises:
        Invalid: the rates cannot be read.
    """
    try:
        read_rates(content)
    except InvalidRates as error:
        raise Invalid(str(error)) from error
    return projects.add_document(session, project, DocumentKind.RATES, content, actor=actor)


def rates_of(session: Session, project: Project) -> Rates | None:
    """Return the newest rates, if there are any."""
    found = projects.document(session, project.id, DocumentKind.RATES)
    return read_rates(found.content) if found else None
