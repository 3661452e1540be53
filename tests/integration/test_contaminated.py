"""Test rows that a model learned, before their group met the test, judge nobody."""

from contextlib import contextmanager

import pytest
from sqlmodel import select

from retrain import parquet
from retrain.examination import Model
from retrain.types import Split
from service.stages import evaluation
from service.tables import JobKind, ModelState, ModelVersion, Role, TrainingRun, TrainingSet
from tests import builders
from tests.console import person
from tests.desk import Desk

WORDS = (
    *("where may visitors leave a bicycle overnight", "which forms does an allergy passport need"),
    *("how long is my blood kept in storage", "who translates letters into portuguese"),
    *("can breakfast be served before surgery", "does the chapel open at weekends"),
    *("why was physiotherapy cancelled on friday", "when do twins leave intensive care"),
)
HALF = {"test_share": 0.5, "validation_share": 0.0, "regression_share": 0.0, "near_threshold": 0.3}


class Silent:
    """A model that says the same to everything."""

    def add_adapter(self, name, directory) -> None:
        """Learn nothing."""

    @contextmanager
    def using(self, name):
        yield

    def answer(self, conversations, *, max_new_tokens):
        return ["no" for _ in conversations]


class Examiner:
    read = staticmethod(parquet.read)

    def open(self, base_model, system_prompt) -> Model:
        return Silent()


def version(desk: Desk, training_set: TrainingSet, number: int, state: ModelState) -> ModelVersion:
    """A model that was trained on a set."""
    adapter = desk.runtime.settings.data_dir / f"adapter-{number}"
    adapter.mkdir()
    (adapter / "weights").write_text(str(number))
    with desk.runtime.db.transaction() as session:
        model = builders.add_challenger(session, desk.project, number=number)
        session.get_one(TrainingRun, model.training_run_id).training_set_id = training_set.id
        model.adapter_sha256, model.state = desk.runtime.artifacts.put_directory(adapter), state
    return model


@pytest.fixture
def judged(desk) -> tuple[TrainingSet, TrainingSet]:
    """A set, and the next one, in which a row that joins two groups brought one of them from training to the test."""
    for asked in WORDS:
        desk.settle(asked, f"{asked}: yes")
    first = desk.curate(**HALF)
    rows = desk.examples(first).values()
    taught, tested = (next(row for row in rows if row.split is split) for split in (Split.TRAIN, Split.TEST))
    desk.settle(f"{taught.prompt} {tested.prompt}", "both")
    return first, desk.curate(**HALF)


@pytest.mark.parametrize(("learned", "left_out"), [(0, 3), (1, 0)])
def test_what_the_champion_learned_is_left_out_and_counted(desk, judged, learned, left_out):
    with desk.runtime.db.transaction() as session:
        session.exec(select(ModelVersion)).one().state = ModelState.RETIRED
    version(desk, judged[learned], 70, ModelState.CHAMPION)
    challenger = version(desk, judged[1], 71, ModelState.CHALLENGER)
    with desk.runtime.db.transaction() as session:
        job = desk.runtime.queue.ask(session, JobKind.EVALUATE, challenger.id, project_id=desk.project.id)
    told = evaluation.perform(desk.runtime, desk.runtime.queue.lease(job), challenger.id, Examiner())
    assert told["contaminated"] == left_out
    [cases] = {score["n"] for score in told["scores"] if score["suite"] == "test"}
    assert cases == judged[1].counts["test"] - left_out
    page = person(desk.runtime, Role.AUDITOR, password="").get(f"/p/clinic/evaluations/{told['id']}").text
    assert ("3 rows of the test split judged nobody" in page) is bool(left_out)
