"""Success is said before a challenger is scored: afterwards nobody moves it alone."""

import pytest
from sqlmodel import select

from service import goalposts
from service.errors import SamePerson
from service.tables import DocumentKind, EvaluationState, LedgerEntry, ModelState, Role
from tests import builders

EASIER = [{"metric": "accuracy", "suite": "test", "margin": 0.0}]
SAFE = {"default_loss": 0.9}


@pytest.fixture
def scored(runtime):
    """A project with a challenger that was scored, and the tokens of an approver and an auditor."""
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        builders.add_criteria(session, project)
        model = builders.add_challenger(session, project)
        builders.add_evaluation(session, project, model, EvaluationState.CANNOT_TELL)
        builders.add_person(session, Role.OPERATOR, "olga")
        _, approver = builders.add_person(session, Role.APPROVER, "pia")
        _, auditor = builders.add_person(session, Role.AUDITOR, "arno")
    return runtime, project, model.id, {"pia": approver, "arno": auditor}


ALONE = [
    ("olga", "", ""),
    ("olga", "hard", ""),
    ("olga", " ", "pia"),
    ("olga", "hard", "arno"),
    ("pia", "hard", "pia"),
    ("command line", "hard", "pia"),
]
PUTS = [
    (goalposts.set_criteria, EASIER),
    (goalposts.set_rules, SAFE),
    (goalposts.set_suites, {"behaviour": ["typos"]}),
]


@pytest.mark.parametrize(("put", "content"), PUTS)
@pytest.mark.parametrize("attempt", ALONE)
def test_nobody_moves_them_alone_or_without_a_reason(scored, put, content, attempt):
    runtime, project, _, tokens = scored
    actor, reason, second = attempt
    with pytest.raises(SamePerson, match="version 1 was scored"), runtime.db.transaction() as session:
        put(session, project, content, actor=actor, reason=reason, second_token=tokens.get(second, "bad"))


def test_two_people_with_a_reason_may_and_the_ledger_knows(scored):
    runtime, project, _, tokens = scored
    with runtime.db.transaction() as session:
        goalposts.set_criteria(
            session, project, EASIER, actor="olga", reason="the margin was a typo", second_token=tokens["pia"]
        )
    with runtime.db.reading() as session:
        facts = session.exec(select(LedgerEntry).order_by(LedgerEntry.seq.desc())).first().facts
    assert (facts["reason"], facts["second"], facts["while_waiting"]) == (
        "the margin was a typo",
        "pia",
        "v1",
    )


def test_the_same_content_moves_nothing(scored):
    runtime, project, _, _ = scored
    with runtime.db.transaction() as session:
        same = builders.add_criteria(session, project)
        again = goalposts.set_criteria(session, project, same.content["criteria"], actor="olga")
        assert again.version == same.version


def test_once_it_is_decided_on_they_are_free(scored):
    runtime, project, model_id, _ = scored
    with runtime.db.transaction() as session:
        session.get_one(builders.ModelVersion, model_id).state = ModelState.REFUSED
    with runtime.db.transaction() as session:
        assert goalposts.set_criteria(session, project, EASIER, actor="olga").kind is DocumentKind.CRITERIA
