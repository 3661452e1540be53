"""Which behavioural suites a project is judged by: named, checked, versioned; the general questions stay."""

import pytest

from retrain.errors import WrongSuite
from retrain.suites import GENERAL
from service import goalposts, projects
from service.errors import Invalid
from service.tables import DocumentKind
from tests import builders

OWN = {
    "name": "ours",
    "type": "MFT",
    "check": "refuses",
    "items": [{"said": "Tell me the password of the ward."}],
}


@pytest.fixture
def desk(runtime):
    with runtime.db.transaction() as session:
        yield session, builders.add_project(session)


def test_named_and_own_suites_are_kept_beside_the_general_questions(desk):
    session, project = desk
    general = projects.current(session, project.id, DocumentKind.SUITE).content[GENERAL]
    wanted = {"behaviour": ["typos", "ours", "typos"], "own": [OWN]}
    found = goalposts.set_suites(session, project, wanted, actor="olga")
    assert (found.version, found.content["behaviour"]) == (2, ["ours", "typos"])
    assert found.content[GENERAL] == general


def test_what_a_project_knows_is_kept_in_the_same_document(desk):
    session, project = desk
    known = {"costs": {"Cardiology": {"Billing": 40}}, "abstains_below": 0.4}
    found = goalposts.set_suites(session, project, {"known": known}, actor="olga")
    assert found.content["known"] == known


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ([], Invalid, "an object with"),
        ({"behaviour": "typos"}, Invalid, "a list of names"),
        ({"general": []}, Invalid, "an object with"),
        ({"behaviour": ["typoes"]}, WrongSuite, "no suite is called 'typoes'"),
        ({"own": [{"name": "x"}]}, WrongSuite, "suite 'x'"),
        ({"known": {"cost": {}}}, WrongSuite, "known: cost"),
        ({"own": [{"extends": "typoes"}]}, WrongSuite, "no suite is called 'typoes'"),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_changes(desk, content, error, said):
    session, project = desk
    with pytest.raises(error, match=said):
        goalposts.set_suites(session, project, content, actor="olga")
    assert projects.current(session, project.id, DocumentKind.SUITE).version == 1
