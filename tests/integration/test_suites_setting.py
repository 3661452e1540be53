"""Which behavioural suites a project is judged by: named, checked, versioned; the general questions stay."""

import pytest

from retrain.errors import WrongSuite
from retrain.suites import GENERAL
from service import goalposts, projects
from service.errors import Invalid
from service.tables import DocumentKind, Role
from service.web.app import create_app
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


def test_the_api_tells_and_sets_them_and_takes_back_what_it_told(runtime):
    with runtime.db.transaction() as session:
        builders.add_project(session)
        _, token = builders.add_person(session, Role.OPERATOR)
        _, reader = builders.add_person(session, Role.AUDITOR)
    client = create_app(runtime).test_client()

    def post(suites, by=token):
        headers = {"Authorization": f"Bearer {by}"}
        return client.post("/v1/suites", json={"project": "clinic", "suites": suites}, headers=headers)

    assert post({"behaviour": ["typos", "ours"], "own": [OWN]}).status_code == 201
    told = client.get("/v1/suites?project=clinic", headers={"Authorization": f"Bearer {reader}"}).json
    assert (told["version"], told["suites"]) == (2, {"behaviour": ["ours", "typos"], "own": [OWN]})
    assert "sarcasm" in {one["name"] for one in told["bundled"]}
    assert post(told["suites"]).json["sha256"] == told["sha256"]
    wrong = post({"behaviour": ["typoes"]})
    assert (wrong.status_code, wrong.json["code"]) == (409, "wrong_suite")
    assert post({}, by=reader).status_code == 403
