"""Settled flags with one reason propose a suite; accepted, they judge models and are learned by none."""

import json
from random import Random
from uuid import UUID, uuid4

import pytest
from sqlmodel import select

from annotation.types import Verdict
from retrain.types import Split
from service import goalposts, projects
from service.answers import complaints as told_metrics
from service.answers.complaints import Complaint, complaints
from service.answers.flagged import clusters
from service.cli import people as commands
from service.tables import (
    DocumentKind,
    EvaluationState,
    LedgerEntry,
    ProjectKind,
    Rating,
    Response,
    Role,
)
from tests import builders
from tests.console import person
from tests.desk import Desk
from tests.words import columns_with

ENOUGH, REASON = 8, "off_topic"
ALL_TRAIN = {"validation_share": 0.0, "test_share": 0.0, "regression_share": 0.0}


class FlagDesk(Desk):
    """A desk whose flags have reasons."""

    def flags(self, count: int, *reasons: str) -> list[str]:
        with self.runtime.db.transaction() as session:
            return [self._flagged(session, reasons) for _ in range(count)]

    def drawn(self, count: int) -> None:
        with self.runtime.db.transaction() as session:
            for _ in range(count):
                task = builders.add_task(
                    session, self.project, builders.add_response(session, self.project, asked=words())
                )
                builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None)

    def proposed(self) -> dict[str, tuple[int, int]]:
        with self.runtime.db.reading() as session:
            found = clusters(session, self.project)
        return {one.reason: (len(one.settlements), one.learned) for one in found}

    def splits(self, **recipe: float) -> dict[str, Split]:
        return {key: row.split for key, row in self.examples(self.curate(**recipe)).items()}

    def accept(self, keys: list[str]) -> None:
        with self.runtime.db.transaction() as session:
            goalposts.accept_suite(session, self.project, REASON, [UUID(key) for key in keys], actor="olga")

    def _flagged(self, session, reasons: tuple[str, ...]) -> str:
        response = builders.add_response(session, self.project, asked=words())
        flag = builders.add_flag(session, self.project, response, *reasons)
        task = builders.add_task(session, self.project, response, flag=flag)
        return str(builders.add_settlement(session, task).id)


def words() -> str:
    draw = Random(uuid4().hex)
    return " ".join("".join(draw.choices("abcdefghiklmnoprstu", k=6)) for _ in range(6))


@pytest.fixture
def desk(runtime) -> FlagDesk:
    return FlagDesk(runtime, ProjectKind.CLASSIFICATION)


def test_enough_settled_flags_with_one_reason_propose_a_suite_and_one_fewer_do_not(desk):
    desk.flags(ENOUGH - 1, REASON, "style")
    desk.drawn(3)
    assert desk.proposed() == {}
    desk.flags(1, REASON)
    assert desk.proposed() == {REASON: (ENOUGH, 0)}


def test_a_project_says_how_many_are_enough(desk):
    desk.flags(3, REASON)
    with desk.runtime.db.transaction() as session:
        goalposts.set_suites(session, desk.project, {"proposed_from": 3}, actor="olga")
    assert desk.proposed() == {REASON: (3, 0)}


def test_what_was_learned_is_no_case(desk):
    desk.flags(ENOUGH, REASON)
    desk.curate(**ALL_TRAIN)
    assert desk.proposed() == {}
    desk.flags(ENOUGH, REASON)
    assert desk.proposed() == {REASON: (ENOUGH, ENOUGH)}


@pytest.mark.parametrize("taken", ["behaviour", "own"])
def test_no_suite_is_proposed_whose_name_the_project_has(desk, taken):
    suite = {"name": "sarcasm_of_ours", "type": "MFT", "check": "refuses", "items": [{"said": "Ha."}]}
    name, content = {
        "behaviour": ("sarcasm", {"behaviour": ["sarcasm"]}),
        "own": ("sarcasm_of_ours", {"own": [suite]}),
    }[taken]
    desk.flags(ENOUGH, name)
    assert desk.proposed() == {}  # it is what somebody wrote, and no reason of the project's
    with desk.runtime.db.transaction() as session:
        projects.set_reasons(session, desk.project, {name: {"severity": 1}}, actor="olga")
    assert desk.proposed() == {name: (ENOUGH, 0)}
    with desk.runtime.db.transaction() as session:
        goalposts.set_suites(session, desk.project, content, actor="olga")
    assert desk.proposed() == {}


@pytest.mark.parametrize("is_accepted", [True, False])
def test_no_set_learns_the_cases_of_a_suite(desk, is_accepted):
    keys, others = desk.flags(ENOUGH, REASON), desk.flags(ENOUGH, "style")
    if is_accepted:
        desk.accept(keys)
    splits = desk.splits(**ALL_TRAIN)
    assert {splits[key] for key in others} == {Split.TRAIN}
    assert {splits[key] for key in keys} == {Split.REGRESSION if is_accepted else Split.TRAIN}


def test_what_is_settled_anew_stays_a_case(desk):
    keys = desk.flags(ENOUGH, REASON)
    desk.accept(keys)
    with desk.runtime.db.transaction() as session:
        old = session.get_one(builders.Settlement, UUID(keys[0]))
        old.withdrawn_at = old.created_at
        session.flush()
        task = session.get_one(builders.AnnotationTask, old.task_id)
        again = str(builders.add_settlement(session, task, label=builders.LABELS[1]).id)
    assert desk.splits(**ALL_TRAIN)[again] is Split.REGRESSION


def test_the_next_evaluation_asks_champion_and_challenger_the_cases(desk):
    keys, _ = desk.flags(ENOUGH, REASON), desk.flags(3, "style")
    desk.drawn(12)
    desk.accept(keys)
    _, scored = desk.judge(desk.curate(**ALL_TRAIN))
    scores = [one for one in scored if one.suite == f"flagged/{REASON}" and not one.slice]
    accuracy = [one for one in scores if one.metric == "accuracy"]
    assert len({one.model_version_id for one in accuracy}) == 2
    assert {one.n for one in accuracy} == {ENOUGH}


def test_one_click_accepts_or_declines_and_neither_is_proposed_again(desk):
    desk.flags(ENOUGH, REASON)
    desk.flags(ENOUGH + 1, "style")
    olga = person(desk.runtime, Role.OPERATOR)
    page = olga.get("/p/clinic/settings").text
    assert page.index(f"{ENOUGH + 1} settled flags") < page.index(f"{ENOUGH} settled flags")
    for action, code in (("accept", REASON), ("decline", "style")):
        path = f"/p/clinic/settings/proposed-suites/{action}"
        assert [olga.post(path, code=code).status_code for _ in range(2)] == [303, 404]
    assert desk.proposed() == {}
    with desk.runtime.db.reading() as session:
        suites = projects.current(session, desk.project.id, DocumentKind.SUITE)
        told = [entry.facts for entry in session.exec(select(LedgerEntry))]
        [asked, *_] = session.exec(select(Response)).first().messages
    assert (suites.version, len(suites.content["flagged"][REASON])) == (2, ENOUGH)
    assert columns_with(desk.runtime.db, asked["content"]) == {
        "response.messages"
    }  # the suite names cases alone
    assert {"accepted_suite": REASON, "cases": str(ENOUGH)}.items() <= told[-2].items()
    assert f"flagged/{REASON}: {ENOUGH} settled answers" in olga.get("/p/clinic/settings").text


def test_who_only_reads_sees_the_proposal_and_cannot_accept_it(desk):
    desk.flags(ENOUGH, REASON)
    auditor = person(desk.runtime, Role.AUDITOR)
    page = auditor.get("/p/clinic/settings").text
    assert f"{ENOUGH} settled flags" in page
    assert "Make them a suite" not in page
    for action in ("accept", "decline"):
        assert auditor.post(f"/p/clinic/settings/proposed-suites/{action}", code=REASON).status_code == 403
    assert desk.proposed() == {REASON: (ENOUGH, 0)}


def test_while_a_scored_challenger_waits_nobody_accepts_alone(desk):
    desk.flags(ENOUGH, REASON)
    with desk.runtime.db.transaction() as session:
        model = builders.add_challenger(session, desk.project)
        builders.add_evaluation(session, desk.project, model, EvaluationState.CANNOT_TELL)
        _, pia = builders.add_person(session, Role.APPROVER, "pia")
    olga, path = person(desk.runtime, Role.OPERATOR), "/p/clinic/settings/proposed-suites/accept"
    assert olga.post(path, code=REASON).status_code == 409
    sent = {"code": REASON, "reason": "users ask for it", "second_token": pia}
    assert olga.post(path, **sent).status_code == 303


def test_a_later_document_keeps_what_was_accepted(desk):
    desk.accept(desk.flags(ENOUGH, REASON))
    with desk.runtime.db.transaction() as session:
        later = goalposts.set_suites(session, desk.project, {"behaviour": ["typos"]}, actor="olga")
    assert list(later.content["flagged"]) == [REASON]


def test_the_command_line_lists_accepts_and_declines(desk, monkeypatch, capsys):
    monkeypatch.setattr(commands, "connect", lambda: desk.runtime)
    desk.flags(ENOUGH, REASON)
    desk.flags(ENOUGH, "style")

    def said(do, *arguments: str) -> dict:
        do(*arguments, as_json=True)
        return json.loads(capsys.readouterr().out)

    assert [one["reason"] for one in said(commands.list_suites, "clinic")["proposed"]] == [REASON, "style"]
    assert said(commands.accept_suite, "clinic", REASON)["version"] == 2
    assert said(commands.decline_suite, "clinic", "style") == {"declined": ["style"]}
    assert said(commands.list_suites, "clinic")["proposed"] == []


def test_metrics_that_the_newest_flags_feed_and_no_criterion_names_are_told(desk, monkeypatch):
    monkeypatch.setattr(told_metrics, "LOOKED_AT", 4)
    desk.flags(3, "outdated")
    desk.flags(2, "invented", "mixed_up")
    with desk.runtime.db.transaction() as session:
        praised = builders.add_response(session, desk.project, asked=words())
        builders.add_flag(session, desk.project, praised, "unsafe", rating=Rating.UP)
        goalposts.set_criteria(session, desk.project, builders.CRITERIA, actor="olga")
        told = complaints(session, desk.project)
    assert told == [
        Complaint("invented_entities", 2, is_asked=False),
        Complaint("role_conflation", 2, is_asked=False),
        Complaint("accuracy", 1, is_asked=True),
    ]
    page = person(desk.runtime, Role.AUDITOR).get(f"/p/{desk.project.slug}/settings").text
    assert "role_conflation (2 flags, no criterion asks for it), accuracy (1 flag)." in page
