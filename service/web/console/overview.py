"""The first page: how the loop is, and the one thing to decide now; and the first steps of a fresh installation."""

from collections.abc import Sequence

from flask import Response, url_for
from pydantic import Field
from sqlmodel import select

from service import experts, people, projects
from service.answers.annotators import of_person
from service.answers.monitors import alarms_of, live_spans
from service.answers.next_step import next_step
from service.answers.overview import COUNTED, effort, flag_rates, loop
from service.answers.tools import in_tools
from service.clock import utcnow
from service.projects import NewProject
from service.tables import ConnectorKind, Project, ProjectKind
from service.web.auth import PEOPLE, Access
from service.web.console.page import Desk, Form, bp, page, see_other
from service.web.state import runtime


class ProjectForm(Form):
    """What a project needs to begin."""

    name: str = Field(min_length=1, max_length=64)
    kind: ProjectKind
    base_model: str = Field(min_length=1, max_length=500)
    labels: str = Field(default="", max_length=10_000)
    system_prompt: str = Field(default="", max_length=20_000)
    connector: ConnectorKind = ConnectorKind.LABEL_STUDIO
    overlap: int = Field(default=2, ge=1, le=20)


@bp.get("/")
@page(Access.PERSON)
def home(desk: Desk) -> str | Response:
    """Go to the only project, show a choice of several, or how to make the first."""
    mine = _visible(desk)
    if len(mine) == 1:
        return see_other(url_for("console.overview", slug=mine[0].slug))
    joined = experts.projects_joined(desk.session, desk.user)
    return desk.show(
        "home.html", projects=mine, joined=joined, own=of_person(desk.session, desk.user, runtime().settings)
    )


@bp.get("/projects/new")
@page(Access.ADMIN)
def new_project(desk: Desk) -> str:
    """Ask what a project needs to begin."""
    return desk.show("new_project.html", kinds=list(ProjectKind))


@bp.post("/projects/new")
@page(Access.ADMIN, form=ProjectForm)
def create_project(desk: Desk, form: ProjectForm) -> Response:
    """Create a project; its overview says what comes next."""
    labels = [label.strip() for label in form.labels.replace("\n", ",").split(",") if label.strip()]
    new = NewProject(
        slug=form.name,
        kind=form.kind,
        base_model=form.base_model,
        labels=labels,
        system_prompt=form.system_prompt,
        connector=form.connector,
        overlap=form.overlap,
        needed=form.overlap,
        random_share=0.05,
    )
    project = projects.create(desk.session, new, actor=desk.user.name)
    return desk.done(f"The project {project.slug} is there.", "console.overview", slug=project.slug)


@bp.get("/p/<slug>/")
@page(Access.READER)
def overview(desk: Desk) -> str:
    """Show the loop, what is live, how often it is wrong, and what to decide."""
    now = utcnow()
    rates = flag_rates(desk.session, desk.project)
    [span, *_] = live_spans(desk.session, desk.project)
    return desk.show(
        "overview.html",
        stops=loop(desk.session, desk.project, now=now),
        counted=COUNTED,
        live=(span.promotion, span.model),
        alarms={each.action: each for each in alarms_of(desk.session, desk.project, span)},
        rates=rates,
        highest=max((each.rate.high for each in rates if each.rate), default=1.0),
        effort=effort(desk.session, desk.project, now=now),
        tools=in_tools(desk.session, desk.project, now=now),
        step=next_step(desk.session, desk.project),
        own_url=runtime().settings.own_url,
    )


@bp.get("/p/<slug>/loop")
@page(Access.READER)
def loop_part(desk: Desk) -> str:
    """Show the loop alone, as the overview refreshes it."""
    return desk.show(
        "_loop.html",
        stops=loop(desk.session, desk.project, now=utcnow()),
        counted=COUNTED,
        step=next_step(desk.session, desk.project),
    )


def _visible(desk: Desk) -> Sequence[Project]:
    everything = desk.session.exec(select(Project).order_by(Project.slug)).all()
    may_read = PEOPLE[Access.READER]
    return [p for p in everything if people.role_in(desk.session, desk.user, p.id) in may_read]
