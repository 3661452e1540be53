"""Whatever fits the description of the API, or almost does, is answered as described, never by a failure of ours."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from service.tables import Role
from service.web import problems
from tests import builders
from tests.integration.test_people import Api
from tests.repetitions import CHOSEN

CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
OURS = [not_a_server_error, *CHECKS]


class Stranger:
    """Somebody who knows the API by its description alone, and holds what each operation asks for."""

    def __init__(self, runtime) -> None:
        self.api = Api(runtime)
        self.app = self.api.client.application
        self.description = self.api.client.get("/openapi.json").json
        self.taken: set[int] = set()
        with runtime.db.transaction() as session:
            _, self.person = builders.add_person(session, Role.ADMIN)
            self.key = builders.add_key(session, self.api.projects["clinic"])

    def ask_everything(self, *, only: str = "/") -> None:
        """Ask each operation, as it is described and otherwise.

        Raises:
            FailureGroup: an answer is not as described, or a failure of ours.
        """
        schema = openapi.from_dict(self.description)
        schema.app = self.app
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in GenerationMode:
                if operation.path.startswith(only):
                    self._ask(operation, self._cases(operation, mode))

    def _cases(self, operation: APIOperation, mode: GenerationMode) -> st.SearchStrategy[Case]:
        """Of rows that are there, for else there is little to answer."""
        rows = {each.name: str(self.api.rows.get(each.name)) for each in operation.path_parameters}
        fixed = {"project": "clinic"} if any(each.name == "project" for each in operation.query) else {}
        return operation.as_strategy(mode, path_parameters=rows, query=fixed).map(_of_clinic)

    def _ask(self, operation: APIOperation, cases: st.SearchStrategy[Case]) -> None:
        is_for_programs = operation.definition.raw["description"].endswith(("host.", "widget."))
        bearer = self.key if is_for_programs else self.person

        @settings(
            max_examples=CHOSEN.requests_per_operation,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def ask(case: Case) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {bearer}"})
            is_told = answer.status_code == 503 and answer.json()["code"] == "responder_unavailable"
            case.validate_response(answer, checks=CHECKS if is_told else OURS)
            self.taken.add(answer.status_code)

        ask()


def _of_clinic(case: Case) -> Case:
    if isinstance(case.body, dict) and "project" in case.body:
        case.body["project"] = "clinic"
    return case


def test_every_operation_answers_as_it_is_described(runtime):
    stranger = Stranger(runtime)
    stranger.ask_everything()
    assert {200, 201, 202, 404, 409, 422} <= stranger.taken


def _fails(stranger: Stranger, monkeypatch) -> None:
    monkeypatch.setattr(stranger.app.view_functions["loop.train"], "view", lambda **_: 1 / 0)


def _answers_other_errors(stranger: Stranger, monkeypatch) -> None:
    monkeypatch.setattr(problems, "PROBLEM", "application/json")


def _describes_another_answer(stranger: Stranger, monkeypatch) -> None:
    stranger.description["components"]["schemas"]["Page"]["required"].append("total")


@pytest.mark.parametrize(
    ("lie", "found"),
    [
        (_fails, ZeroDivisionError),
        (_answers_other_errors, FailureGroup),
        (_describes_another_answer, FailureGroup),
    ],
)
def test_what_is_not_as_described_is_found(runtime, monkeypatch, lie, found):
    stranger = Stranger(runtime)
    lie(stranger, monkeypatch)
    with pytest.raises(found):
        stranger.ask_everything(only="/v1/training-runs")
