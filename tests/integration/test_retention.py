"""What a project keeps no longer than it says goes by itself, as a person's words do; a legal hold keeps it."""

import json
from datetime import timedelta

import pytest
from sqlmodel import select

from service import ledger, retention, rights, schedule
from service.clock import utcnow
from service.errors import Invalid
from service.tables import (
    AnnotationTask,
    Erasure,
    Feedback,
    Project,
    Response,
    Role,
    TaskState,
    TrainingSetExample,
)
from tests import builders
from tests.console import person
from tests.integration.test_erasure import MARKER, PATIENT, Clinic

LONG_AGO = timedelta(days=1000)


@pytest.fixture
def clinic(runtime, tmp_path) -> Clinic:
    (tmp_path / "remote").mkdir()
    return Clinic(runtime, str(tmp_path / "remote"))


@pytest.fixture
def any_clinic(any_runtime, tmp_path) -> Clinic:
    return Clinic(any_runtime, str(tmp_path / "remote"))


def keep(clinic: Clinic, **days: int | None) -> None:
    with clinic.runtime.db.transaction() as session:
        project = session.get_one(Project, clinic.project.id)
        retention.set_retention(session, project, days, actor="olga")


def age(clinic: Clinic, *texts: str) -> None:
    """Have everything been said long ago, or only these answers."""
    with clinic.runtime.db.transaction() as session:
        for table in (Response, Feedback):
            for row in session.exec(select(table)):
                if not texts or getattr(row, "text", "") in texts:
                    row.created_at = utcnow() - LONG_AGO


def expire(clinic: Clinic) -> int:
    """Do what the schedule asks for; return how many answers went."""
    jobs = retention.ask_due(clinic.runtime.db, clinic.runtime.queue, now=utcnow())
    return sum(clinic.do(job)["counts"]["responses"] for job in jobs)


def left(clinic: Clinic) -> set[str]:
    with clinic.runtime.db.reading() as session:
        return set(session.exec(select(Response.text).where(Response.text != "")))


def said(clinic: Clinic, text: str, **more) -> Response:
    with clinic.runtime.db.transaction() as session:
        return builders.add_response(session, clinic.project, text, asked=f"what of {text}?", **more)


def test_what_nobody_spoke_of_goes_after_two_years_and_nothing_else(clinic):
    said(clinic, "old")
    said(clinic, "young")
    age(clinic, "old", "long", f"which {MARKER}?")
    assert "end_retention" in {tick.__name__ for tick, _ in schedule.ticks(clinic.runtime)}
    assert expire(clinic) == 1
    assert left(clinic) == {"young", "long", f"which {MARKER}?"}
    assert expire(clinic) == 0
    with clinic.runtime.db.reading() as session:
        wish = session.exec(select(Erasure)).one()
        assert (wish.actor, wish.subject, wish.counts) == ("retention", None, {"responses": 1, "feedback": 0})
        assert rights.verify_certificate(session, clinic.runtime.secrets, wish.certificate)["genuine"]
        assert not list(ledger.broken(session))


def test_rows_that_taught_go_only_by_their_own_deadline_and_then_from_sets_and_mirror_too(clinic):
    age(clinic)
    keep(clinic, responses=1, feedback=1, corpus=1)
    assert expire(clinic) == 0
    keep(clinic, taught=1)
    assert clinic.holding() != set()
    assert expire(clinic) == 4
    assert clinic.holding() == set() and left(clinic) == set()
    with clinic.runtime.db.reading() as session:
        assert all(session.exec(select(TrainingSetExample.erased_at)))
    assert clinic.rebuild(clinic.second)["equal"]


def test_a_legal_hold_keeps_what_is_due_and_only_that(any_clinic):
    with any_clinic.runtime.db.transaction() as session:
        about = {"reason": "a court", "until": None, "actor": "olga"}
        rights.hold(session, any_clinic.runtime.secrets, PATIENT, any_clinic.project, **about)
        judged = builders.add_response(session, any_clinic.project, "Ben's", subject="Ben")
        builders.add_flag(session, any_clinic.project, judged).subject = PATIENT
    age(any_clinic)
    keep(any_clinic, feedback=1, taught=1)
    assert expire(any_clinic) == 1
    assert left(any_clinic) == {f"which {MARKER}?", "Ben's"}
    with any_clinic.runtime.db.transaction() as session:
        rights.lift(session, any_clinic.runtime.secrets, PATIENT, any_clinic.project, actor="olga")
        session.exec(select(Erasure)).one().created_at -= retention.EVERY
    assert expire(any_clinic) == 4
    assert left(any_clinic) == set()


def test_what_experts_are_asked_about_waits_and_what_is_flagged_anew_stays(clinic):
    asked, flagged = said(clinic, "asked"), said(clinic, "flagged")
    with clinic.runtime.db.transaction() as session:
        task = builders.add_task(session, clinic.project, asked).id
        builders.add_flag(session, clinic.project, flagged)
    age(clinic, "asked", "flagged")
    keep(clinic, feedback=30)
    assert expire(clinic) == 0
    with clinic.runtime.db.transaction() as session:
        session.get_one(AnnotationTask, task).state = TaskState.WITHDRAWN
    assert expire(clinic) == 1
    assert "flagged" in left(clinic) and "asked" not in left(clinic)


def test_where_more_is_due_than_goes_at_once_the_rest_follows_the_same_day(clinic, monkeypatch):
    monkeypatch.setattr(retention, "MOST", 2)
    for number in range(3):
        said(clinic, f"old {number}")
    age(clinic, "old 0", "old 1", "old 2")
    assert [expire(clinic) for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize("days", [{"people": 1}, {"taught": 0}, {"taught": True}, {"taught": 36_501}, []])
def test_a_deadline_that_means_nothing_is_refused(days):
    with pytest.raises(Invalid, match="retention"):
        retention.set_retention(None, None, days, actor="olga")


def test_the_settings_and_the_command_set_it(runtime, errata, tmp_path):
    file = tmp_path / "retention.json"
    file.write_text(json.dumps({"feedback": 90}))
    with runtime.db.transaction() as session:
        builders.add_project(session)
    operator = person(runtime, Role.OPERATOR, password="")
    assert "730" in operator.get("/p/clinic/settings").text
    sent = {"document": '{"feedback": 60}', "version": "0"}
    assert operator.post("/p/clinic/settings/retention", **sent).status_code == 303
    assert errata("retention", "show", "clinic")[1]["content"]["feedback"] == 60
    assert errata("retention", "set", "clinic", str(file))[1]["version"] == 2
    shown = errata("retention", "show", "clinic")[1]["content"]
    assert shown == {"responses": None, "feedback": 90, "corpus": None, "taught": None}
