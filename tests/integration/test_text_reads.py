"""Who reads what end users said is noted, on whichever page or endpoint that shows it."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlmodel import select

from service import text_reads
from service.clock import utcnow
from service.tables import (
    AuditFinding,
    Bisection,
    Erasure,
    Evaluation,
    Feedback,
    Job,
    ModelVersion,
    Response,
    Role,
    TextRead,
    TrainingRun,
    Tuning,
)
from service.web.auth import PEOPLE
from service.web.endpoint import Endpoint
from tests import builders
from tests.browser.clinic import Clinic, open_clinic
from tests.console import Person, person

MARKER = "xylophone-of-a-patient"
PATIENT = "pat"
ROW_OF = {
    "response_id": Response,
    "feedback_id": Feedback,
    "run_id": TrainingRun,
    "evaluation_id": Evaluation,
    "bisection_id": Bisection,
    "tuning_id": Tuning,
    "job_id": Job,
    "model_id": ModelVersion,
    "erasure_id": Erasure,
}


@pytest.fixture
def clinic(runtime, client) -> Clinic:
    """A project in which end users alone said the marker."""
    made = open_clinic(runtime, client)
    with runtime.db.transaction() as session:
        session.add(Erasure(project_id=made.project.id, salted="", actor="test"))
        for row in session.exec(select(Response)):
            row.messages = [{"role": "user", "content": MARKER}]
            row.text, row.subject = f"a {MARKER}", PATIENT
        for flag in session.exec(select(Feedback)):
            flag.comment, flag.correction = f"no {MARKER}", f"the {MARKER}"
        for finding in session.exec(select(AuditFinding)):
            finding.evidence = f"two rows say {MARKER}"
    return made


@pytest.fixture
def operator(clinic) -> Person:
    return person(clinic.runtime, Role.OPERATOR, name="ada", password="")


def noted(clinic: Clinic) -> set[str]:
    return {one.page for one in clinic.rows(TextRead)}


def showing(clinic: Clinic, operator: Person) -> set[str]:
    """Visit every page of the project; return the views that showed the marker."""
    found = set()
    app = operator.client.application
    for _, path in clinic.pages("clinic"):
        if path.startswith("/p/") and MARKER in operator.get(path).text:
            found.add(app.url_map.bind("").match(path.partition("?")[0])[0].removeprefix("console."))
    return found


def test_every_page_that_shows_what_users_said_notes_who_read_it(clinic, operator, monkeypatch):
    shown = showing(clinic, operator)
    assert {"feedback", "task", "story_of", "why"} <= shown
    assert shown - noted(clinic) == set()
    reads = clinic.rows(TextRead)
    showing(clinic, operator)
    assert clinic.rows(TextRead) == reads  # once a day

    with clinic.runtime.db.transaction() as session:
        for read in session.exec(select(TextRead)):
            read.day -= timedelta(days=1)
    view = operator.client.application.view_functions["console.task"]
    monkeypatch.setattr(view, "shows_text", False)
    shown = showing(clinic, operator)
    today = {read.page for read in clinic.rows(TextRead) if read.day == utcnow().date()}
    assert shown - today == {"task"}


def test_every_endpoint_that_shows_a_person_what_users_said_notes_it(clinic, runtime, client):
    with runtime.db.transaction() as session:
        _, token = builders.add_person(session, Role.ADMIN, "olga")
    headers, shown = {"Authorization": f"Bearer {token}"}, set()
    for rule in client.application.url_map.iter_rules():
        view = client.application.view_functions[rule.endpoint]
        if not isinstance(view, Endpoint) or view.access not in PEOPLE or "GET" not in rule.methods:
            continue
        path = rule.build({name: row_of(clinic, name) for name in rule.arguments})[1]
        answer = client.get(f"{path}?project=clinic" if view.query else path, headers=headers)
        if answer.status_code == 200 and MARKER.encode() in answer.data:
            shown.add(rule.endpoint)
    assert shown and shown <= noted(clinic)


def row_of(clinic: Clinic, name: str) -> UUID:
    return clinic.row(ROW_OF[name]).id


def test_the_reads_of_one_person_are_those_of_pages_about_them(clinic, operator, errata, runtime):
    flag = clinic.row(Feedback)
    with runtime.db.transaction() as session:
        other = builders.add_response(session, clinic.project, "Ben's", subject="Ben")
    operator.get(f"/p/clinic/feedback/{flag.id}")
    operator.get(f"/p/clinic/lineage/why/{other.id}")
    operator.get("/p/clinic/feedback")
    with runtime.db.reading() as session:
        told = text_reads.of_person(session, PATIENT, None)
        assert [(one["who"], one["page"], one["row"]) for one in told] == [("ada", "story_of", str(flag.id))]
        assert [one["page"] for one in text_reads.of_person(session, "Ben", None)] == ["why"]
        assert "feedback" in {one["page"] for one in text_reads.newest(session, clinic.project)}
    assert errata("subject", "reads", PATIENT)[1]["reads"][0]["who"] == "ada"
    approver = person(runtime, Role.APPROVER, name="olga", password="")
    assert "story of" in approver.get("/p/clinic/erasures").text
    assert "story of" not in operator.get("/p/clinic/erasures").text
