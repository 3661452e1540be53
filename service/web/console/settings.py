"""What a project is run by: success criteria, gate rules, reasons, its switches and its keys."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Response
from pydantic import Field
from sqlmodel import col, select

from annotation.suggestions import SuggestionSource
from retrain.criteria import METRIC_NAMES
from retrain.suites.document import bundled_suites
from retrain.triggers import CONDITIONS
from service import api_keys, goalposts, projects, tool_state, tools
from service.answers.complaints import complaints
from service.answers.flagged import cluster_of, clusters
from service.answers.outdated import doubtful
from service.errors import AlreadyDecided, Invalid
from service.glossary import set_glossary
from service.rates import set_rates
from service.retention import DEFAULT as FIRST_RETENTION
from service.retention import KINDS as KEPT
from service.retention import set_retention
from service.routing import set_routing
from service.stages import asking
from service.tables import ApiKey, Document, DocumentKind, KeyKind
from service.triggers import set_triggers
from service.web.auth import Access
from service.web.body import parse_json
from service.web.console.page import Desk, Form, bp, page
from service.web.problems import Malformed
from service.web.state import runtime

EDITED: dict[str, tuple[DocumentKind, Callable[..., Document]]] = {
    "criteria": (DocumentKind.CRITERIA, goalposts.set_criteria),
    "rules": (DocumentKind.GATE_RULES, goalposts.set_rules),
    "suites": (DocumentKind.SUITE, goalposts.set_suites),
    "reasons": (DocumentKind.REASONS, projects.set_reasons),
    "glossary": (DocumentKind.GLOSSARY, set_glossary),
    "routing": (DocumentKind.ROUTING, set_routing),
    "triggers": (DocumentKind.TRIGGERS, set_triggers),
    "rates": (DocumentKind.RATES, set_rates),
    "retention": (DocumentKind.RETENTION, set_retention),
    "questions": (DocumentKind.LABEL_SCHEMA, projects.set_schema),
    "guidelines": (DocumentKind.GUIDELINES, projects.set_guidelines),
}
GOALPOSTS = ("criteria", "rules", "suites")
DOUBTS_SHOWN = 20
FIRST_CRITERIA = {
    "classification": [{"metric": "accuracy", "suite": "test", "margin": 0.1}],
    "extraction": [{"metric": "rouge_l", "suite": "test", "margin": 0.05}],
    "generation": [{"metric": "rouge_l", "suite": "test", "margin": 0.05}],
    "conversation": [{"metric": "rouge_l", "suite": "test", "margin": 0.05}],
}
FIRST_RATES = {"currency": "EUR", "expert_hour": 0, "compute_hour": 0, "outcomes": {}}
FIRST_ROUTING: dict[str, Any] = {"rules": []}
FIRST_TRIGGERS: dict[str, Any] = {"rules": []}
FIRST_GLOSSARY: dict[str, Any] = {"description": "", "terms": {}, "validity": [], "groups": []}


class DocumentForm(Form):
    """A document's next version, as JSON, and the version that the page showed."""

    document: str = Field(min_length=1, max_length=100_000)
    version: int
    reason: str = Field(default="", max_length=2000)
    second_token: str = Field(default="", max_length=200)


class SwitchesForm(Form):
    """How the project works; a box that is not ticked is not sent."""

    random_share: float = Field(ge=0, le=1)
    suggestion: SuggestionSource = SuggestionSource.NONE
    blind_share: float = Field(default=0.3, ge=0, le=1)
    persons_needed: int | None = Field(default=None, ge=1, le=projects.MAX_PERSONS)
    needs_blindness: bool = False
    admission_bar: float = Field(default=0.9, gt=0, lt=1)
    settlement_bar: float | None = None
    gold_share: float | None = Field(default=None, ge=0, le=1)
    repeat_weeks: int | None = Field(default=None, ge=1, le=projects.MAX_REPEAT_WEEKS)
    daily_capacity: int | None = None
    qualifying_answers: int | None = None
    wave_voices: int | None = None
    qualifying_accuracy: float | None = None
    needs_token: bool = False
    masks_personal: bool = False
    presumes_consent: bool = False


class SuiteForm(Form):
    """The reason whose flags are to be a suite, or not; a second person where a scored challenger waits."""

    code: str = Field(min_length=1, max_length=64)
    reason: str = Field(default="", max_length=2000)
    second_token: str = Field(default="", max_length=200)


class KeyForm(Form):
    """A key to be made; `origins` are the pages that may use a public one, one a line."""

    kind: KeyKind
    name: str = Field(default="", max_length=100)
    origins: str = Field(default="", max_length=4000)


@bp.get("/p/<slug>/settings")
@page(Access.READER)
def settings(desk: Desk) -> str:
    """Show everything that the project is run by."""
    documents = {
        name: projects.document(desk.session, desk.project.id, kind) for name, (kind, _) in EDITED.items()
    }
    shown = {name: _content(name, found) for name, found in documents.items()}
    shown["criteria"] = shown["criteria"] or FIRST_CRITERIA[desk.project.kind]
    shown["glossary"] = shown["glossary"] or FIRST_GLOSSARY
    shown["routing"] = shown["routing"] or FIRST_ROUTING
    shown["triggers"] = shown["triggers"] or FIRST_TRIGGERS
    shown["rates"] = shown["rates"] or FIRST_RATES
    shown["retention"] = shown["retention"] or FIRST_RETENTION
    keys = select(ApiKey).where(ApiKey.project_id == desk.project.id).order_by(col(ApiKey.id).desc())
    return desk.show(
        "settings.html",
        documents=documents,
        written={name: _written(content) for name, content in shown.items()},
        scored=goalposts.waiting_challenger(desk.session, desk.project),
        goalposts=GOALPOSTS,
        complaints=complaints(desk.session, desk.project),
        clusters=clusters(desk.session, desk.project),
        doubts=doubtful(desk.session, desk.project),
        doubts_shown=DOUBTS_SHOWN,
        suggestions=list(SuggestionSource),
        keys=desk.session.exec(keys).all(),
        kinds=list(KeyKind),
        metrics=sorted(METRIC_NAMES),
        suites=bundled_suites().values(),
        kept="; ".join(f"{name} ({means})" for name, means in KEPT.items()),
        conditions=", ".join(f"{name} ({means})" for name, means in CONDITIONS.items()),
    )


@bp.get("/p/<slug>/settings/tools")
@page(Access.READER)
def tool_health_part(desk: Desk) -> str:
    """Ask each annotation tool of the project how it is; the settings load this part, and wait for no tool."""
    used = tool_state.tools_of(desk.session, desk.project.id)
    return desk.show("_health.html", found={kind: tools.health(runtime().settings, kind) for kind in used})


@bp.post(f"/p/<slug>/settings/<any({', '.join(EDITED)}):name>")
@page(Access.OPERATOR, form=DocumentForm)
def set_document(desk: Desk, form: DocumentForm, name: str) -> Response:
    """Add a document's next version; earlier ones stay, and decisions go on naming the one they used."""
    try:
        content = form.document if name == "guidelines" else parse_json(form.document)
    except Malformed as error:
        raise Invalid(f"document: {error}") from error
    kind, put = EDITED[name]
    newest = projects.document(desk.session, desk.project.id, kind)
    if newest and newest.version != form.version:
        raise AlreadyDecided(f"{name}: {newest.author} set version {newest.version} while you looked")
    why = {"reason": form.reason, "second_token": form.second_token} if name in GOALPOSTS else {}
    added = put(desk.session, desk.project, content, actor=desk.user.name, **why)
    return desk.done(
        f"Version {added.version} of the {name} holds from now on.", "console.settings", _anchor=name
    )


@bp.post("/p/<slug>/settings/proposed-suites/accept")
@page(Access.OPERATOR, form=SuiteForm)
def accept_suite(desk: Desk, form: SuiteForm) -> Response:
    """Make a suite of what was settled about flags with one reason."""
    cases = cluster_of(desk.session, desk.project, form.code).settlements
    why = {"reason": form.reason, "second_token": form.second_token}
    goalposts.accept_suite(desk.session, desk.project, form.code, cases, actor=desk.user.name, **why)
    said = f"{len(cases)} settled answers are the suite {goalposts.FLAGGED}/{form.code}; no later set learns them."
    return desk.done(said, "console.settings", _anchor="suites")


@bp.post("/p/<slug>/settings/proposed-suites/decline")
@page(Access.OPERATOR, form=SuiteForm)
def decline_suite(desk: Desk, form: SuiteForm) -> Response:
    """Propose no suite for a reason any more."""
    cluster_of(desk.session, desk.project, form.code)
    goalposts.decline_suite(desk.session, desk.project, form.code, actor=desk.user.name)
    return desk.done(f"No suite is proposed for {form.code} any more.", "console.settings", _anchor="suites")


@bp.post("/p/<slug>/settings/ask-again")
@page(Access.OPERATOR)
def ask_again(desk: Desk) -> Response:
    """Ask again for the settled answers that a change of the questions puts in doubt."""
    asked = asking.ask_again(desk.session, desk.project, actor=desk.user.name)
    return desk.done(f"{asked} answers are asked for again.", "console.settings", _anchor="questions")


@bp.post("/p/<slug>/settings/switches")
@page(Access.ADMIN, form=SwitchesForm)
def set_switches(desk: Desk, form: SwitchesForm) -> Response:
    """Change how the project works."""
    projects.change(
        desk.session,
        desk.project,
        **{name: getattr(form, name) for name in projects.SWITCHES},
        actor=desk.user.name,
    )
    return desk.done("The project works that way from now on.", "console.settings", _anchor="switches")


@bp.post("/p/<slug>/settings/keys")
@page(Access.ADMIN, form=KeyForm)
def add_key(desk: Desk, form: KeyForm) -> Response:
    """Make a key and show it, once."""
    origins = [line for line in form.origins.splitlines() if line.strip()]
    secret = api_keys.add(
        desk.session, desk.project, form.kind, origins, actor=desk.user.name, name=form.name
    )
    title = f"A {form.kind} key for {desk.project.slug}"
    return Response(
        desk.show("secret.html", title=title, secret=secret, back="console.settings", kind=form.kind)
    )


@bp.post("/p/<slug>/settings/keys/<uuid:row_id>/revoke")
@page(Access.ADMIN)
def revoke_key(desk: Desk, row_id: UUID) -> Response:
    """Let a key open nothing from now on."""
    api_keys.revoke(desk.session, desk.row(ApiKey, row_id), actor=desk.user.name)
    return desk.done("The key opens nothing any more.", "console.settings", _anchor="keys")


def _content(name: str, found: Document | None) -> Any:
    if found is None:
        return None
    if name == "suites":  # the general questions are ours, and many
        nothing: dict[str, Any] = {"behaviour": [], "own": [], "known": {}}
        shown = {part: found.content.get(part, empty) for part, empty in nothing.items()}
        return shown | {"proposed_from": goalposts.proposed_from(found.content)}
    inner = {"criteria": "criteria", "guidelines": "markdown"}.get(name)
    return found.content[inner] if inner else found.content


def _written(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
