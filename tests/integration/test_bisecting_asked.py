"""What a bisection would take is told, and what cannot be answered is refused, before anything trains."""

from uuid import UUID

import pytest
from sqlmodel import select

from retrain import metrics
from retrain.bisect.changes import BrokenHistory
from retrain.bisect.rules import BudgetTooSmall
from retrain.errors import EmptySplit, UnknownMetric
from service import bisections
from service.answers.histories import between
from service.clock import utcnow
from service.errors import DifferentProjects, Invalid, NoCommonAncestor, RowsGone, WrongState
from service.stages import bisecting
from service.tables import (
    AnnotationTask,
    Bisection,
    ModelState,
    ModelVersion,
    Response,
    Role,
    Settlement,
    TrainingSet,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders


def test_it_says_what_it_will_cost_before(spoiled):
    with spoiled.runtime.db.reading() as session:
        told = bisections.plan(
            spoiled.runtime, session, spoiled.good, spoiled.bad, metric="accuracy", budget=8
        )
    assert told["at_most"] == {"configurations": 8, "trainings": 24, "seconds": 48.0}
    assert told["expected"]["trainings"] < 24 and told["cases"] == 48


def test_the_metrics_to_choose_from_are_those_that_call_cases_right_or_wrong():
    assert list(bisections.SHARES) == sorted(name for name, one in metrics.METRICS.items() if one.is_share)


class TestRefusals:
    """What cannot be answered is refused before anything trains."""

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"metric": "macro_f1"}, UnknownMetric),
            ({"metric": "beauty"}, UnknownMetric),
            ({"budget": 3}, BudgetTooSmall),
        ],
    )
    def test_a_metric_or_a_budget_that_answers_nothing(self, spoiled, options, error):
        with spoiled.refuses(error):
            spoiled.request(spoiled.good, spoiled.bad, **options)

    def test_a_metric_that_judges_no_case_here(self, spoiled):
        with pytest.raises(EmptySplit, match="refusal judges 0 cases"):
            spoiled.bisect(spoiled.good, spoiled.bad, metric="refusal")
        assert spoiled.bench.trained == 0

    def test_models_between_which_nothing_changed(self, lab):
        training_set = lab.curated()
        with lab.refuses(BrokenHistory, match="nothing changed"):
            lab.request(lab.model(training_set), lab.model(training_set))

    def test_a_model_that_was_not_trained_here(self, lab):
        bad = lab.model(lab.curated())
        with lab.runtime.db.reading() as session:
            base = session.exec(select(ModelVersion).where(ModelVersion.number == 0)).one()
        with lab.refuses(Invalid, match="v0 was not trained here"):
            lab.request(base, bad)

    def test_models_with_no_common_ancestor(self, lab):
        training_set = lab.curated()
        good, other = lab.model(training_set), lab.model(training_set, base_sha256="sha256:other")
        with lab.refuses(NoCommonAncestor, match="different base models"):
            lab.request(good, other)
        lab.rows("pulse", "Cardiology", 1)
        later = lab.curated()
        with lab.runtime.db.transaction() as session:
            session.get_one(TrainingSet, later.id).parent_id = None
        with lab.refuses(NoCommonAncestor, match="in common"):
            lab.request(good, lab.model(later))

    @pytest.mark.parametrize("is_erased", [True, False])
    def test_a_set_whose_rows_are_gone(self, spoiled, is_erased):
        with spoiled.runtime.db.transaction() as session:
            of_row = TrainingSetExample.settlement_id == UUID(spoiled.wrong[0])
            if is_erased:
                for row in session.exec(select(TrainingSetExample).where(of_row)):
                    row.content_sha256, row.erased_at = "", utcnow()
            else:
                task = session.get_one(
                    AnnotationTask, session.get_one(Settlement, UUID(spoiled.wrong[0])).task_id
                )
                session.get_one(Response, task.response_id).may_train = False
        with spoiled.refuses(RowsGone, match="1 row is erased or not to be learned from any more"):
            spoiled.request(spoiled.good, spoiled.bad)

    def test_a_row_that_is_gone_from_a_set_between_leaves_the_ends_to_be_compared(self, lab):
        good = lab.model(lab.curated())
        lab.rows("heart", "Cardiology", 4, source="fax")
        between = lab.curated()
        lab.rows("pulse", "Cardiology", 4, source="chat")
        bad = lab.model(lab.curated(), learning_rate=1.0)
        with lab.runtime.db.transaction() as session:
            of_set = TrainingSetExample.training_set_id == between.id
            row = session.exec(select(TrainingSetExample).where(of_set)).first()
            row.content_sha256, row.erased_at = "", utcnow()
        found = lab.request(good, bad)
        assert found.progress["expected"]["configurations"] > 0

    def test_models_of_different_projects(self, spoiled):
        with spoiled.runtime.db.transaction() as session:
            other = builders.add_project(session, "other")
            with spoiled.refuses(DifferentProjects, match="clinic/v1 is none of project other"):
                bisections.find_versions(session, other, f"clinic/v{spoiled.good.number}")


def test_a_search_that_goes_on_is_not_given_another_budget_and_says_so(spoiled):
    first = spoiled.request(spoiled.good, spoiled.bad, budget=8)
    assert spoiled.request(spoiled.good, spoiled.bad, budget=8).id == first.id
    assert spoiled.request(spoiled.good, spoiled.bad).id == first.id
    with pytest.raises(WrongState, match="at most 8, not 20 configurations; cancel that search first"):
        spoiled.request(spoiled.good, spoiled.bad, budget=20)
    spoiled.perform(first)
    assert spoiled.request(spoiled.good, spoiled.bad, budget=20).budget == 20


def test_others_write_while_it_is_found_out_what_a_search_takes(spoiled, monkeypatch):
    def write_meanwhile(*asked, **more):
        with spoiled.runtime.db.transaction() as session:
            session.get_one(ModelVersion, spoiled.good.id).state = ModelState.CHAMPION
        return between(*asked, **more)

    monkeypatch.setattr(bisections, "between", write_meanwhile)
    monkeypatch.setattr(bisecting, "between", write_meanwhile)
    assert spoiled.bisect(spoiled.good, spoiled.bad)["verdict"] == "data"
    with spoiled.runtime.db.reading() as session:
        assert session.get_one(ModelVersion, spoiled.good.id).state is ModelState.CHAMPION


def test_the_command_line_says_the_same_and_exits_with_a_code(errata, spoiled):
    asked = ("bisect", "--project", "clinic", "--good", "1", "--bad", "clinic/v2", "--metric", "accuracy")
    status, told = errata(*asked, "--dry-run")
    assert (status, told["good"], told["bad"], len(told["changes"])) == (0, 1, 2, 4)
    assert spoiled.jobs() == 0
    status, told = errata(*asked, "--no-wait")
    assert status == 0 and spoiled.jobs() == 1 and told["job"]
    status, told = errata(*asked, "--budget", "2")
    assert (status, told["code"], spoiled.jobs()) == (1, "budget_too_small", 1)
    assert errata("value", "--project", "clinic", "--no-wait")[1].keys() == {"job"}
    assert errata("value", "--project", "clinic", "--version", "9")[1]["code"] == "not_found"


def test_the_api_asks_lists_and_refuses(spoiled):
    with spoiled.runtime.db.transaction() as session:
        _, token = builders.add_person(session, Role.OPERATOR, "otto")
    client, bearer = create_app(spoiled.runtime).test_client(), {"Authorization": f"Bearer {token}"}
    body = {"project": "clinic", "good": "1", "bad": "2", "metric": "accuracy"}
    dry = client.post("/v1/bisections", json=body | {"dry_run": True}, headers=bearer)
    assert (dry.status_code, spoiled.jobs()) == (202, 0) and dry.json["item"]["expected"]
    asked = client.post("/v1/bisections", json=body, headers=bearer).json["item"]
    assert (asked["state"], asked["verdict"], spoiled.jobs()) == ("requested", None, 1)
    with spoiled.runtime.db.reading() as session:
        spoiled.perform(session.get_one(Bisection, UUID(asked["id"])))
    [listed] = client.get("/v1/bisections?project=clinic", headers=bearer).json["items"]
    assert listed == client.get(f"/v1/bisections/{asked['id']}", headers=bearer).json["item"]
    assert listed["verdict"] == "data"
    for wrong, status, code in (
        ({"metric": "macro_f1"}, 409, "unknown_metric"),
        ({"budget": 1}, 409, "budget_too_small"),
        ({"good": "7"}, 404, "not_found"),
        ({"good": "2"}, 409, "broken_history"),
        ({"budget": -1}, 422, "invalid_request"),
    ):
        refused = client.post("/v1/bisections", json=body | wrong, headers=bearer)
        assert (refused.status_code, refused.json["code"], spoiled.jobs()) == (status, code, 1)
