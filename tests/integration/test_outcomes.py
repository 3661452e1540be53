"""What answers came to later: reported once, told by version with intervals, gone with the person."""

from uuid import uuid4

import pytest
from sqlmodel import select

from service import forgetting, rights
from service.answers.outcomes import FEWEST
from service.tables import Outcome, Role
from tests import builders
from tests.console import person
from tests.integration.test_bulk import Host


class Business(Host):
    """A backend that reports what came of answers of version 1."""

    def __init__(self, runtime, client) -> None:
        super().__init__(runtime, client)
        with runtime.db.transaction() as session:
            builders.add_criteria(session, self.project)
            self.model = builders.add_challenger(session, self.project)

    def answer(self, **more) -> str:
        facts = {"model_version": "v1", "conversation_id": "c1"} | more
        with self.runtime.db.transaction() as session:
            return str(builders.add_response(session, self.project, f"a {uuid4()}", **facts).id)

    def report(self, *, key: str = "", **more):
        body = {"event_id": str(uuid4()), "name": "handling_minutes", "value": 7.5, "unit": "min"} | more
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return self.client.post("/v1/outcomes", json=body, headers=headers)

    def figures(self) -> list[dict]:
        return self.client.get("/v1/outcomes", headers={"Authorization": f"Bearer {self.key}"}).json["items"]


@pytest.fixture
def business(runtime, client) -> Business:
    return Business(runtime, client)


def test_an_outcome_is_kept_once_and_with_its_answer(business):
    event, answer = str(uuid4()), business.answer()
    first, again = (business.report(event_id=event, response_id=answer) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json and first.json["response_id"] == answer
    other = business.report(event_id=event, response_id=answer, value=8)
    assert (other.status_code, other.json["code"]) == (409, "event_conflict")
    assert business.count(Outcome) == 1


def test_of_a_conversation_the_last_answer_has_it(business):
    _, last = business.answer(), business.answer()
    business.answer(conversation_id="c2")
    assert business.report(conversation_id="c1").json["response_id"] == last


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"response_id": "nobody's"}, 404),
        ({"conversation_id": "nobody's"}, 404),
        ({}, 422),
        ({"response_id": "a", "conversation_id": "b"}, 422),
        ({"response_id": "a", "name": "Handling minutes"}, 422),
        ({"response_id": "a", "value": "7"}, 422),
        ({"response_id": "a", "value": 1e300}, 422),
        ({"response_id": "a", "unit": "<b>"}, 422),
    ],
)
def test_what_cannot_be_kept_is_refused(business, changes, status):
    assert business.report(**changes).status_code == status
    assert business.count(Outcome) == 0


def test_a_public_key_reports_nothing(business):
    assert business.report(key=business.public, response_id=business.answer()).status_code == 403


def test_versions_are_told_with_intervals_once_there_are_enough(business, runtime):
    answer = business.answer()
    for at in range(FEWEST - 1):
        business.report(response_id=answer, value=at)
        business.report(response_id=answer, value=at % 2, name="rerouted", unit="")
    assert business.figures() == []
    business.report(response_id=answer, value=10)
    business.report(response_id=answer, value=0, name="rerouted", unit="")
    business.report(response_id=business.response, value=100)  # of no version of ours
    minutes, rerouted = business.figures()
    assert (minutes["model_version"], minutes["name"], minutes["unit"]) == (1, "handling_minutes", "min")
    assert (minutes["value"], minutes["n"]) == (3.2, 5)
    assert 0 <= minutes["low"] < 3.2 < minutes["high"] <= 10
    assert rerouted["value"] == 0.4 and 0 < rerouted["low"] < 0.4 < rerouted["high"] < 1
    page = person(runtime, Role.AUDITOR, password="").get("/p/clinic/models").text
    assert "handling minutes" in page and "3.20 min" in page


def test_an_outcome_is_handed_out_and_erased_with_its_person(business, runtime):
    mine, other = business.answer(subject="pat"), business.answer(conversation_id="c2")
    for answer in (mine, other):
        business.report(response_id=answer)
    with runtime.db.transaction() as session:
        told = rights.export(session, runtime.secrets, "pat", business.project, actor="olga")
    assert [each["value"] for each in told["outcomes"]] == [7.5]
    with runtime.db.transaction() as session:
        forgetting.erase_words(session, builders.add_erasure(session, "pat"))
    with runtime.db.reading() as session:
        assert [str(row.response_id) for row in session.exec(select(Outcome))] == [other]
    assert business.report(response_id=mine).status_code == 404
