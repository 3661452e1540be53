"""What is in quarantine is kept, waits at intake and stays out of sets, until somebody lets it go."""

import pytest
from sqlmodel import col, select

from annotation.types import Verdict
from retrain.types import Split
from service import schedule
from service.answers import states
from service.answers.quarantines import describe_quarantine
from service.errors import AlreadyDecided, Invalid, NotFound
from service.stages import quarantine, triage
from service.tables import (
    AnnotationTask,
    Feedback,
    Job,
    JobKind,
    LedgerEntry,
    ProjectKind,
    Quarantine,
    Role,
    TrainingRun,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders
from tests.console import person
from tests.desk import Desk

TROLL = "troll@example.org"


class Guard(Desk):
    """A desk that may put a source or a person into quarantine."""

    def impose(self, **named: str) -> Quarantine:
        with self.runtime.db.transaction() as session:
            return quarantine.impose(
                session, self.project, self.runtime.secrets, user=self.olga, reason="odd links", **named
            )

    def lift(self, row: Quarantine) -> None:
        with self.runtime.db.transaction() as session:
            quarantine.lift(session, self.project, self.runtime.secrets, row.id, user=self.olga)

    def told(self, row: Quarantine) -> dict:
        with self.runtime.db.reading() as session:
            return describe_quarantine(session, session.get_one(Quarantine, row.id))

    def flag(self, asked: str, *, by: str | None = None, **response) -> Feedback:
        with self.runtime.db.transaction() as session:
            answered = builders.add_response(session, self.project, asked=asked, **response)
            flag = builders.add_flag(session, self.project, answered, "wrong")
            flag.subject = by
            return flag

    def triage(self) -> int:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.TRIAGE, self.project.id, project_id=self.project.id)
        lease = self.runtime.queue.lease(job)
        done = triage.run(lease, self.project.id)
        lease.finish(done)
        return done["tasks_from_flags"]

    def state(self, flag: Feedback) -> str:
        with self.runtime.db.reading() as session:
            return states.state_of(session, flag)


@pytest.fixture
def guard(any_runtime) -> Guard:
    return Guard(any_runtime, ProjectKind.GENERATION)


@pytest.mark.parametrize(
    ("named", "flagged"),
    [
        ({"source": "mail"}, {"source": "mail"}),
        ({"subject": TROLL}, {"subject": TROLL}),
        ({"subject": TROLL}, {"by": TROLL}),
    ],
)
def test_flags_of_it_wait_at_intake_and_go_on_once_it_is_lifted(guard, named, flagged):
    held = guard.flag("which pills shall i buy?", **flagged)
    row = guard.impose(**named)
    free = guard.flag("what does the ward cost?")
    assert guard.triage() == 1
    assert (guard.state(held), guard.state(free)) == ("received", "grouped")
    schedule.ask_for_triage(guard.runtime)
    with guard.runtime.db.reading() as session:
        assert not session.exec(select(Job).where(Job.kind == JobKind.TRIAGE, Job.state == "pending")).all()
    guard.lift(row)
    assert guard.triage() == 1 and guard.state(held) == "grouped"


def test_its_responses_are_drawn_for_nobody_until_it_is_lifted(guard):
    with guard.runtime.db.transaction() as session:
        guard.project.random_share = 1.0
        session.add(guard.project)
        builders.add_response(session, guard.project, asked="buy pills?", source="mail")
    row = guard.impose(source="mail")
    guard.triage()
    with guard.runtime.db.reading() as session:
        assert not session.exec(select(AnnotationTask)).all()
    guard.lift(row)
    guard.triage()
    with guard.runtime.db.reading() as session:
        assert len(session.exec(select(AnnotationTask)).all()) == 1


@pytest.mark.parametrize("way", ["schema", "repair"])
def test_its_rows_stay_out_when_experts_are_asked_again(guard, way):
    kept = guard.settle("who?", "Ann")
    first = guard.settle("which pills?", "buy ours", Verdict.INCORRECT, correction="none")
    with guard.runtime.db.transaction() as session:
        session.exec(select(Feedback).order_by(col(Feedback.id).desc())).first().subject = TROLL
    again = guard.settle_again(first, way, "none at all")
    assert guard.examples(guard.curate())[again].person == TROLL
    guard.impose(subject=TROLL)
    assert guard.examples(guard.curate()).keys() == {kept}


def test_its_rows_stay_out_of_the_next_set_and_come_back(guard):
    kept = guard.settle("who?", "Ann")
    gone = guard.settle("which pills?", "buy ours", subject=TROLL)
    first = guard.curate()
    row = guard.impose(subject=TROLL)
    second = guard.curate()
    assert guard.examples(second).keys() == {kept}
    assert second.dropped == {gone: f"quarantined: {row.id}"} and TROLL not in str(second.dropped)
    [removed] = guard.compare(first, second)["removed"]
    assert removed["cause"] == {"kind": "quarantine", "id": str(row.id)}
    assert guard.rebuild(first)["equal"]
    guard.lift(row)
    assert guard.curate().id == first.id


def test_a_set_of_nothing_but_what_is_in_quarantine_is_refused(guard):
    guard.settle("which pills?", "buy ours", subject=TROLL)
    guard.impose(subject=TROLL)
    with pytest.raises(Invalid, match="leave none of 1"):
        guard.curate()


def test_it_says_which_sets_and_models_hold_rows_of_it(guard):
    guard.settle("which pills?", "buy ours", subject=TROLL)
    first = guard.curate()
    guard.settle("who?", "Ann")
    guard.curate()
    other = guard.impose(source="production")
    row = guard.impose(subject=TROLL)
    assert (guard.told(row)["sets"], guard.told(row)["models"]) == (["clinic/v1", "clinic/v2"], [])
    with guard.runtime.db.transaction() as session:
        for example in session.exec(select(TrainingSetExample)):
            example.split = Split.TRAIN
        model = builders.add_challenger(session, guard.project, number=7)
        run = session.get_one(TrainingRun, model.training_run_id)
        run.training_set_id = first.id
    assert guard.told(row)["models"] == [7]
    assert guard.told(other)["sets"] == ["clinic/v1", "clinic/v2"]


def test_who_why_and_when_are_kept_and_the_ledger_names_no_person(guard):
    row = guard.impose(subject=TROLL)
    with pytest.raises(AlreadyDecided, match="olga has put it"):
        guard.impose(subject=TROLL)
    guard.lift(row)
    with pytest.raises(AlreadyDecided, match="was lifted"):
        guard.lift(row)
    told = guard.told(row)
    assert (told["by"], told["reason"], told["lifted_by"]) == ("olga", "odd links", "olga")
    assert told["at"] < told["lifted_at"]
    assert guard.actions()[-2:] == ["quarantined", "quarantine_lifted"]
    with guard.runtime.db.reading() as session:
        entries = session.exec(select(LedgerEntry).order_by(col(LedgerEntry.seq).desc()).limit(2)).all()
    assert entries[0].subject == entries[1].subject == guard.runtime.secrets.salted(TROLL)


@pytest.mark.parametrize(
    ("named", "error"),
    [({}, Invalid), ({"source": "a", "subject": "b"}, Invalid), ({"source": "nowhere"}, NotFound)],
)
def test_what_cannot_be_put_into_quarantine_is_refused(desk, named, error):
    with desk.runtime.db.transaction() as session, pytest.raises(error):
        quarantine.impose(session, desk.project, desk.runtime.secrets, user=desk.olga, reason="odd", **named)


def test_the_command_line_and_the_api_do_the_same(errata, desk, monkeypatch):
    with desk.runtime.db.transaction() as session:
        _, token = builders.add_person(session, Role.OPERATOR, "otto")
        builders.add_response(session, desk.project, source="mail")
    client, bearer = create_app(desk.runtime).test_client(), {"Authorization": f"Bearer {token}"}
    monkeypatch.setenv("ERRATA_TOKEN", token)
    status, told = errata("quarantine", "clinic", "--source", "mail", "--reason", "odd links")
    assert (status, told["source"], told["by"], told["sets"]) == (0, "mail", "otto", [])
    body = {"project": "clinic", "source": "mail", "reason": "odd"}
    assert client.post("/v1/quarantines", json=body, headers=bearer).status_code == 409
    listed = client.get("/v1/quarantines?project=clinic", headers=bearer).json["items"]
    assert [each["id"] for each in listed] == [told["id"]]
    status, lifted = errata("quarantine", "clinic", "--source", "mail", "--lift")
    assert (status, lifted["lifted_by"]) == (0, "otto")
    made = client.post("/v1/quarantines", json=body | {"source": None, "subject": TROLL}, headers=bearer)
    assert (made.status_code, made.json["subject"]) == (201, TROLL)
    assert client.delete(f"/v1/quarantines/{made.json['id']}", headers=bearer).json["lifted_by"] == "otto"
    status, problem = errata("quarantine", "clinic", "--subject", TROLL, "--lift")
    assert (status, problem["code"]) == (1, "not_found")


def test_the_page_of_sources_has_a_button_for_operators(desk):
    desk.settle("who?", "Ann")
    otto, eve = (person(desk.runtime, role, name=role, password="") for role in (Role.OPERATOR, Role.AUDITOR))
    assert "Quarantine…" in otto.get("/p/clinic/corpora").text
    sent = {"source": "production", "subject": "", "reason": "<b>odd</b> links"}
    assert eve.post("/p/clinic/quarantines", **sent).status_code == 403
    assert otto.post("/p/clinic/quarantines", **sent | {"source": ""}).status_code == 422
    assert otto.post("/p/clinic/quarantines", **sent).status_code == 303
    page = eve.get("/p/clinic/corpora").text
    assert "&lt;b&gt;odd&lt;/b&gt; links" in page and "Lift it" not in page
    with desk.runtime.db.reading() as session:
        row = session.exec(select(Quarantine)).one()
    assert otto.post(f"/p/clinic/quarantines/{row.id}/lift").status_code == 303
    assert "odd" not in eve.get("/p/clinic/corpora").text
