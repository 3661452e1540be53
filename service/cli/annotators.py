"""Who is asked: inviting experts, their pools, what they ask themselves, and letting them go."""

from typing import Annotated
from uuid import UUID

import typer

from service import capacity, experts, guideline_questions, people, projects, standing
from service.answers.annotators import describe_experts, is_here, report_of
from service.cli.console import ACTOR, AsJson, NoWait, connect, do, find_project, show
from service.clock import utcnow
from service.errors import NotFound
from service.tables import GuidelineQuestion, JobKind

app = typer.Typer()
annotators_app = typer.Typer(no_args_is_help=True)
app.add_typer(annotators_app, name="annotators", help="Who is asked, and whose answers count.")


@annotators_app.command("list")
def list_annotators(project: str, as_json: AsJson = False) -> None:
    """List a project's experts, and how many tasks wait for each."""
    with connect().db.reading() as session:
        found = projects.find(session, project)
        items = describe_experts(session, found, experts.experts(session, found), now=utcnow())
    show({"items": items, "next_cursor": None}, as_json=as_json)


@annotators_app.command()
def invite(project: str, name: str, as_json: AsJson = False) -> None:
    """Invite an expert; prints the one link by which they join, for a week."""
    runtime = connect()
    with runtime.db.transaction() as session:
        secret = experts.invite(session, projects.find(session, project), name, actor=ACTOR)
    show({"join_url": f"{runtime.settings.own_url}/join/{secret}"}, as_json=as_json)


@annotators_app.command()
def pool(
    project: str,
    name: str,
    add: Annotated[list[str] | None, typer.Option(help="An account, or the name of who joined.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="One that is not asked by it any more.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say who is in a pool, which rules name: of its tasks, others' answers count for nobody."""
    with connect().db.transaction() as session:
        row = projects.find(session, project)
        accounts = standing.change_pool(session, row, name, add=add or [], remove=remove or [], actor=ACTOR)
    show({"pool": name, "accounts": accounts}, as_json=as_json)


@annotators_app.command("capacity")
def set_capacity(
    account: str,
    answers: Annotated[int | None, typer.Option(help="A day, in each project that has a limit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how much a person has room for; without a number, as much as the project asks of everybody."""
    with connect().db.transaction() as session:
        capacity.set_own(session, standing.accounts_of(session, account), answers, actor=ACTOR)
    show({"account": account, "daily_capacity": answers}, as_json=as_json)


@annotators_app.command()
def questions(project: str, as_json: AsJson = False) -> None:
    """List what experts ask about the guidelines, those that wait for an answer first."""
    with connect().db.reading() as session:
        found = projects.find(session, project)
        waiting, items = guideline_questions.waiting(session, found), guideline_questions.told(session, found)
    show({"waiting": waiting, "items": items, "next_cursor": None}, as_json=as_json)


@annotators_app.command()
def answer(question: UUID, text: str, as_json: AsJson = False) -> None:
    """Answer what an expert asked about the guidelines; they see it beside their work."""
    with connect().db.transaction() as session:
        found = session.get(GuidelineQuestion, question)
        if found is None:
            raise NotFound(f"no question {question}")
        guideline_questions.answer(session, found, text, user=None, actor=ACTOR)
    show({"answered": question}, as_json=as_json)


@annotators_app.command()
def person(project: str, account: str, name: str, as_json: AsJson = False) -> None:
    """Say whose an account in a tool is, so that they see their own page and decide nothing that they answered."""
    with connect().db.transaction() as session:
        row = projects.find(session, project)
        found = [each for each in standing.accounts_of(session, account) if is_here(session, row, each)]
        if not found:
            raise NotFound(f"project {project} asked no annotator {account!r}")
        user = people.find(session, name)
        for each in found:
            experts.name_person(session, each, user, actor=ACTOR)
    show({"account": account, "person": name}, as_json=as_json)


@annotators_app.command()
def report(project: str, as_json: AsJson = False, no_wait: NoWait = False) -> None:
    """Compute anew how far annotators agree and how often each is right, and print it."""
    runtime, row = find_project(project)
    done = do(runtime, JobKind.QUALITY, row.id, project_id=row.id, no_wait=no_wait)
    if not no_wait:
        with runtime.db.reading() as session:
            found = report_of(session, row)
            done = found.content if found else done
    show(done, as_json=as_json)


@annotators_app.command()
def off_board(account: str, as_json: AsJson = False) -> None:
    """Let a person go: their name becomes a pseudonym, what they did stays; says what is left to do in the tools."""
    runtime = connect()
    with runtime.db.transaction() as session:
        found = standing.accounts_of(session, account)
        document = experts.off_board(session, runtime.secrets, found, actor=ACTOR)
    show(document, as_json=as_json)
