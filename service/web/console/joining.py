"""Joining a project's experts by an invitation, where they work from then on, what they ask, and cases of theirs."""

from uuid import UUID

from flask import Response, abort, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import Field
from sqlmodel import select

from service import experts, guideline_questions, people, projects, tool_state, tools
from service.answers.annotators import digests
from service.clock import utcnow
from service.errors import AlreadyExists, Forbidden, Invalid
from service.held_tasks import MAX_CHARS
from service.tables import Annotator, ConnectorKind, DocumentKind, JobKind, ProjectKind
from service.web.auth import Access
from service.web.console.page import Desk, Form, bp, let_in, page, read_form, shown_again
from service.web.endpoint import declared
from service.web.limits import guesses_of_all
from service.web.state import runtime


class QuestionForm(Form):
    """What an expert asks of the guidelines, and about which task if about one."""

    text: str = Field(max_length=guideline_questions.MAX_CHARS)
    task: UUID | None = None


class CaseForm(Form):
    """A case that an expert brings: what was asked, what was answered, and by what."""

    prompt: str = Field(max_length=MAX_CHARS)
    response: str = Field(max_length=MAX_CHARS)
    context: str = Field(default="", max_length=MAX_CHARS)


@bp.get("/join/<secret>")
@declared(Access.ANYONE)
def invitation(secret: str) -> str:
    """Show what an expert is invited to: only the form's button uses the link up."""
    with runtime().db.reading() as session:
        user, project = experts.invitation(session, secret) or abort(404)
        guidelines = projects.current(session, project.id, DocumentKind.GUIDELINES)
        is_expert = bool(experts.projects_joined(session, user))
    return render_template(
        "join.html",
        is_expert=is_expert,
        name=user.name,
        project=project.slug,
        guidelines=guidelines.content["markdown"],
        name_rule=experts.NAME_RULE,
        name_pattern=experts.NAME.pattern,
        password_rule=people.PASSWORD_RULE,
    )


@bp.post("/join/<secret>")
@guesses_of_all
@declared(Access.ANYONE)
def join(secret: str) -> ResponseReturnValue:
    """Take consent, name and password, ask for accounts in the project's tools, and let the expert in."""
    sent = read_form()
    try:
        with runtime().db.transaction() as session:
            user, project = experts.join(
                session,
                runtime().settings,
                secret,
                name=sent.get("name", "").strip(),
                password=sent.get("new_password", ""),
                consents=sent.get("consent") == "yes",
            ) or abort(404)
            for kind in tool_state.tools_of(session, project.id):
                tool_state.ask(runtime().queue, session, JobKind.SYNC, project.id, kind)
            return let_in(user, session, url_for("console.work", slug=project.slug))
    except (Invalid, AlreadyExists) as error:
        return shown_again(str(error), 422, sent, action=request.path)


@bp.get("/p/<slug>/work")
@page(Access.PERSON)
def work(desk: Desk) -> str:
    """Show an expert where they are asked, what waits there for them, and by what."""
    guidelines = projects.current(desk.session, desk.project.id, DocumentKind.GUIDELINES)
    return desk.show(
        "work.html",
        **_places(desk),
        guidelines=guidelines,
        questions=guideline_questions.told(desk.session, desk.project, only=desk.user),
        tasks=experts.shown_to(desk.session, desk.project, desk.user),
        may_add=desk.project.kind is not ProjectKind.COMPARISON,
    )


@bp.post("/p/<slug>/work/questions")
@page(Access.PERSON, form=QuestionForm)
def ask_about_guidelines(desk: Desk, form: QuestionForm) -> Response:
    """Ask whoever owns the guidelines."""
    guideline_questions.ask(desk.session, desk.project, desk.user, form.text, task_id=form.task)
    return desk.done("Your question is asked; the answer will stand here.", "console.work", _anchor="ask")


@bp.post("/p/<slug>/work/cases")
@page(Access.PERSON, form=CaseForm)
def add_case(desk: Desk, form: CaseForm) -> Response:
    """Have experts asked about a case that one of them brings."""
    said = {"prompt": form.prompt, "answer": form.response, "context": form.context}
    experts.add_case(desk.session, desk.project, desk.user, **said)
    return desk.done("Your case is added: experts are asked about it like about any other.", "console.work")


@bp.get("/p/<slug>/work/places")
@page(Access.PERSON)
def places_part(desk: Desk) -> str:
    """Show where they are asked alone, as the page refreshes it until all is ready."""
    return desk.show("_work.html", **_places(desk))


def _places(desk: Desk) -> dict[str, object]:
    """Return each tool of the project, with the account that this person, and nobody else, is shown.

    Raises:
        Forbidden: they neither joined the project's experts nor may read it.
    """
    chosen = runtime().settings
    has_joined = desk.project in experts.projects_joined(desk.session, desk.user)
    if not has_joined and not desk.may(Access.READER):
        raise Forbidden(f"project {desk.project.slug}: only who joined its experts works here")
    mine = select(Annotator).where(Annotator.user_id == desk.user.id)
    annotators = {each.connector: each for each in desk.session.exec(mine)}
    waits, places = digests(desk.session, desk.project, list(annotators.values()), now=utcnow()), []
    for kind in tool_state.tools_of(desk.session, desk.project.id) or [ConnectorKind.NONE]:
        own, found = annotators.get(kind), tool_state.find(desk.session, desk.project.id, kind)
        is_bundled = kind is not ConnectorKind.NONE and tools.own(chosen, kind) is None
        places.append(
            {
                "tool": kind,
                "url": found.url if found else None,
                "is_bundled": is_bundled,
                "account": tools.account(chosen, kind, desk.user.name) if has_joined and is_bundled else None,
                "digest": waits[own.id] if own else None,
                "annotator": own,
            }
        )
    is_coming = has_joined and any(each["is_bundled"] and not each["account"] for each in places)
    return {"places": places, "has_joined": has_joined, "is_coming": is_coming}
