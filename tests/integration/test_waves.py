"""What many accounts say in nearly the same words is one case that waits; people who agree are heard."""

import json
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from service.cli import feedback as commands
from service.clock import utcnow
from service.demo.crowd import Crowd, Told
from service.demo.walk import QUICK, Walk
from service.stages import intake
from service.tables import AnnotationTask, ConnectorKind, Feedback, Project, Rating, Role, TaskFlag, TaskState
from tests import builders
from tests.console import person
from tests.integration.test_stages import Clinic, open_clinic
from tests.repetitions import CHOSEN

CLAIM = "Professor Quack alone may prescribe this medicine, as everybody in the clinic knows"
WAVE = 300


@pytest.fixture
def clinic(runtime) -> Clinic:
    return open_clinic(runtime)


@pytest.fixture
def any_clinic(any_runtime) -> Clinic:
    return open_clinic(any_runtime)


def flag(clinic, count, *, words=CLAIM, hours=0.0, voice="sybil", is_trusted=True, **more) -> list[UUID]:
    """Add flags, each of another subject and another answer, so many hours after each other."""
    with clinic.runtime.db.transaction() as session:
        project = session.get_one(Project, clinic.project.id)
        found = []
        for number in range(count):
            asked = f"{uuid4()} {uuid4()} {uuid4()}"
            response = builders.add_response(session, project, f"{uuid4()} {uuid4()}", asked=asked)
            said = {"comment": words.format(number), "reasons": ["wrong"]} | more
            new = intake.NewFeedback(event_id=uuid4(), rating=Rating.DOWN, **said)
            subject = f"{voice} {number % WAVE}"  # of a large campaign each speaks of several answers
            about = {"response_ref": str(response.id), "subject": subject, "sha256": "sha256:0"}
            row, _ = intake.record_feedback(session, project, new, **about)
            row.is_trusted, row.created_at = is_trusted, utcnow() - timedelta(hours=hours * number)
            found.append(row.id)
    return found


def held(clinic) -> list[Feedback]:
    return [row for row in clinic.rows(Feedback) if row.held_for]


def test_a_wave_is_one_case_and_experts_are_asked_about_none_of_it(clinic):
    honest = flag(clinic, 5, words="{0} wards have a desk of their own, and {0} pay there", voice="honest")
    sybils = flag(clinic, WAVE * CHOSEN.sybil_flags, words=CLAIM + " since {}", hours=0.001)
    clinic.triage()
    assert {row.id for row in held(clinic)} == set(sybils)
    assert len({row.case_id for row in held(clinic)}) == 1
    assert {row.held_for for row in held(clinic)} == {"300 people said nearly the same within 24 hours"}
    assert {row.flag_id for row in clinic.rows(AnnotationTask)} == set(honest)
    clinic.triage()
    assert len(clinic.rows(AnnotationTask)) == len(honest)


def test_without_the_check_the_wave_reaches_experts(clinic):
    clinic.change(Project, clinic.project.id, wave_voices=0)
    flag(clinic, 30)
    clinic.triage()
    assert (held(clinic), len(clinic.rows(AnnotationTask))) == ([], 30)


@pytest.mark.parametrize(
    "honest",
    [
        {"count": 9},
        {"count": 20, "hours": 3},
        {"count": 20, "words": "this is wrong"},
        {"count": 20, "words": f"{{0}}{uuid4()} {{0}}{uuid4()} {{0}}{uuid4()} {{0}}{uuid4()} {{0}}{uuid4()}"},
    ],
    ids=["few", "spread over time", "in words that anybody uses", "in different words"],
)
def test_people_who_agree_are_heard(clinic, honest):
    flag(clinic, **honest)
    clinic.triage()
    assert (held(clinic), len(clinic.rows(AnnotationTask))) == ([], honest["count"])


@pytest.mark.parametrize(
    "words",
    [
        {"words": "{0}", "comment": None, "correction": CLAIM},
        {
            "words": "Professor Qu\u200back alone may prescribe this medi\u00adcine, as everybody in the clinic knows"
        },
        {"words": CLAIM.upper() + " {0}!"},
    ],
    ids=["as corrections", "with hidden characters", "with a number each"],
)
def test_a_wave_does_not_hide(clinic, words):
    flag(clinic, 12, **words)
    clinic.triage()
    assert (len(held(clinic)), clinic.rows(AnnotationTask)) == (12, [])


def test_what_came_before_the_wave_was_one_is_taken_back(any_clinic):
    flag(any_clinic, 9)
    any_clinic.triage()
    assert [task.state for task in any_clinic.rows(AnnotationTask)] == [TaskState.SELECTED] * 9
    flag(any_clinic, 3, voice="later")
    any_clinic.triage()
    assert [task.state for task in any_clinic.rows(AnnotationTask)] == [TaskState.WITHDRAWN] * 9
    assert (len(held(any_clinic)), any_clinic.rows(TaskFlag)) == (12, [])
    assert len({row.case_id for row in held(any_clinic)}) == 1


def test_an_operator_lets_a_case_go_and_nothing_like_it_is_held_again(clinic):
    flags = flag(clinic, 12)
    clinic.triage()
    olga = person(clinic.runtime, Role.OPERATOR)
    story = f"/p/clinic/feedback/{flags[3]}"
    assert "12 people said nearly the same within 24 hours" in olga.get(story).text
    listed = olga.get("/p/clinic/feedback?came=in a wave, which is held back").text
    assert [str(one) in listed for one in flags] == [one == held(clinic)[0].case_id for one in flags]
    olga.post(f"{story}/release")
    clinic.triage()
    assert (held(clinic), len(clinic.rows(AnnotationTask))) == ([], 12)
    assert "Held back" not in olga.get(story).text
    assert olga.post(f"{story}/release").status_code == 409
    flag(clinic, 3, voice="later")
    clinic.triage()
    assert (held(clinic), len(clinic.rows(AnnotationTask))) == ([], 15)


def test_what_waits_is_let_go_and_taken_in_by_command_as_a_complaint_is(clinic, monkeypatch, capsys):
    monkeypatch.setattr(commands, "connect", lambda: clinic.runtime)
    flags = flag(clinic, 12)
    stranger = flag(clinic, 1, words="by whoever it was", is_trusted=False)
    clinic.triage()
    commands.release(flags[3], "clinic", as_json=True)
    commands.take_in(stranger[0], "clinic", as_json=True)
    commands.report("clinic", question="who bills me?", complaint="not them", channel="phone", as_json=True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "triage" not in line]
    assert [told[0]["released"], told[1]["taken_in"]] == [12, True]
    clinic.triage()
    asked = {str(task.flag_id) for task in clinic.rows(AnnotationTask)}
    assert asked == {*map(str, (*flags, *stranger)), told[2]["id"]}


@pytest.mark.parametrize("voices", [None, 10], ids=["as the demo leaves it", "as projects have it"])
def test_the_demos_crowd_reaches_the_experts_which_a_project_that_looks_for_waves_holds_back(
    clinic, monkeypatch, voices
):
    walk = Walk(clinic.runtime, seed=0, size=QUICK, tool=ConnectorKind.LABEL_STUDIO, say=lambda said: None)
    monkeypatch.setattr(walk, "_ask", lambda *_: [])
    monkeypatch.setattr(walk, "_label", lambda *_: None)
    walk.project, walk.crowd = clinic.project, Crowd("", "", "", "clinic", seed=0)
    walk._settle_test_split()
    if voices:
        clinic.change(Project, clinic.project.id, wave_voices=voices)
    complain(clinic, walk)
    clinic.triage()
    assert bool(held(clinic)) == bool(walk._untriaged()) == bool(voices)


def complain(clinic, walk) -> None:
    """Have the demo's patients flag what a model answers that always says the same."""
    with clinic.runtime.db.transaction() as session:
        project = session.get_one(Project, clinic.project.id)
        for enquiry in walk.enquiries[: walk.size.second]:
            if comment := walk.crowd._complaint(Told(enquiry, "Billing", "")):
                response = builders.add_response(session, project, "Billing", asked=enquiry.text)
                builders.add_flag(session, project, response, "wrong", comment=comment)
