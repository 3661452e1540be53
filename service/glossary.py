"""What a project's audits know besides its rows: the task, its terms, what holds from when until when, and groups."""

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlmodel import Session

from retrain.types import canonical_json
from service import projects
from service.errors import Invalid
from service.tables import Document, DocumentKind, Project

Term = Annotated[str, Field(min_length=1, max_length=200)]


class Validity(BaseModel):
    """A product, a statute or a price, and from when until when it holds; an open end is left out."""

    model_config = ConfigDict(extra="forbid")

    name: Term
    valid_from: date | None = None
    valid_to: date | None = None


class Glossary(BaseModel):
    """The document: `terms` maps a preferred term to its other names, `groups` are attributes to compare by."""

    model_config = ConfigDict(extra="forbid")

    description: str = Field(default="", max_length=10_000)
    terms: dict[Term, list[Term]] = Field(default={}, max_length=5000)
    validity: list[Validity] = Field(default=[], max_length=5000)
    groups: list[Term] = Field(default=[], max_length=50)

    @model_validator(mode="after")
    def _one_concept_each(self) -> "Glossary":
        names = [name.casefold() for preferred, others in self.terms.items() for name in (preferred, *others)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: stands for two concepts")
        return self


def set_glossary(session: Session, project: Project, content: Any, *, actor: str) -> Document:
    """Add the next version; audits of later sets use it.

    Raises:
        Invalid: a part is unknown, of another shape, or a term stands for two concepts.
    """
    try:
        glossary = Glossary.model_validate_json(canonical_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"glossary {'.'.join(map(str, first['loc']))}: {first['msg']}".strip()) from error
    document = glossary.model_dump(mode="json")
    return projects.add_document(session, project, DocumentKind.GLOSSARY, document, actor=actor)


def add_name(session: Session, project: Project, term: str, name: str, *, actor: str) -> Document:
    """Let the next version hold another name of a term.

    Raises:
        Invalid: one of them stands for another concept.
    """
    content = _content(session, project)
    names = content["terms"].setdefault(term, [])
    names += [name] if name not in names else []
    return set_glossary(session, project, content, actor=actor)


def remove_name(session: Session, project: Project, term: str, name: str, *, actor: str) -> Document:
    """Let the next version hold a term without one of its names; a term without any leaves."""
    content = _content(session, project)
    names = [each for each in content["terms"].pop(term, []) if each != name]
    content["terms"] |= {term: names} if names else {}
    return set_glossary(session, project, content, actor=actor)


def _content(session: Session, project: Project) -> dict[str, Any]:
    newest = projects.document(session, project.id, DocumentKind.GLOSSARY)
    return Glossary.model_validate(newest.content if newest else {}).model_dump(mode="json")
