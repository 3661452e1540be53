"""What made a model version worse is found from what is stored, by trainings that are remembered."""

import re
import shutil
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import select

from retrain import archive
from retrain.bisect.changes import BrokenHistory
from retrain.errors import TrainingBroke
from retrain.types import Split
from service.errors import LeaseLost
from service.jobs.torch_tools import TorchTools
from service.tables import (
    AnnotationTask,
    Bisection,
    ModelVersion,
    Response,
    RunState,
    Settlement,
    TrainingSetExample,
)
from tests.lab import TOPICS, CountingBench, WorkerLostError, archived
from tests.words import columns_with


def test_the_poisoned_batch_is_named_with_its_rows(spoiled):
    done = spoiled.bisect(spoiled.good, spoiled.bad)
    assert done["verdict"] == "data", done["sentence"]
    [change] = done["changes"]
    assert (change["kind"], "source mail" in change["title"], change["added"]) == ("batch", True, 12)
    assert {row["row"] for row in done["rows"]} == set(spoiled.wrong)
    assert done["confidence"] > 0.9 and done["trainings"] == spoiled.bench.trained
    assert {"action": "quarantine", "source": "mail"} in done["proposals"]
    with spoiled.runtime.db.reading() as session:
        task = session.get_one(Settlement, UUID(spoiled.wrong[0])).task_id
        asked = session.get_one(Response, session.get_one(AnnotationTask, task).response_id).messages
    places = columns_with(spoiled.runtime.db, asked[0]["content"])
    assert "response.messages" in places
    assert not {place for place in places if place.startswith(("bisection.", "job."))}  # nor any to erase


def test_with_the_guilty_batch_taken_out_nothing_is_blamed(lab):
    for topic in ("invoice", "pulse"):
        lab.rows(topic, TOPICS[topic], 3, source=f"desk of {topic}")
    done = lab.bisect(lab.good, lab.model(lab.curated()))
    assert (done["verdict"], done["changes"], done["rows"]) == ("none", [], [])


def test_an_annotator_who_spoiled_rows_of_every_set_is_named_as_one(lab):
    wrong = []
    for step in range(4):
        lab.answered_by("ben", lab.rows("invoice", "Billing", 2, source=f"desk {step}"))
        spoiled = lab.rows("heart", "Billing", 3, source=f"desk {step}")
        lab.answered_by("ann", spoiled)
        wrong += spoiled
        last = lab.curated()
    done = lab.bisect(lab.good, lab.model(last))
    assert re.match(r"annotator [0-9a-f]{6}, in 4 changes, made the model worse", done["sentence"]), done
    assert {row["row"] for row in done["rows"]} == set(wrong) and done["verdict"] == "data"


def test_a_setting_that_was_changed_is_told_from_the_data(lab):
    good = lab.good
    lab.rows("pulse", "Cardiology", 4)
    done = lab.bisect(good, lab.model(lab.curated(), learning_rate=0.5, rank=4))
    assert done["verdict"] == "configuration", done["sentence"]
    assert [change["title"] for change in done["changes"]] == ["learning_rate 0.0005 → 0.5"]
    assert done["rows"] == []


def test_a_change_of_the_code_is_told_from_the_data(lab):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("pulse", "Cardiology", 4)
    done = lab.bisect(good, lab.model(lab.curated(), code=archived("bug")))
    assert (done["verdict"], done["changes"][0]["title"]) == ("code", "retrain/lora.py"), done["sentence"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (archived("broken"), "the archived code does not run here"),
        (archived("sound", "torch==3\n"), "the installed packages differ"),
    ],
)
def test_what_cannot_be_tried_is_not_excluded(lab, code, why):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("pulse", "Cardiology", 4)
    done = lab.bisect(good, lab.model(lab.curated(), code=code))
    assert done["verdict"] == "cannot_tell" and why in done["sentence"]


def test_code_that_cannot_be_tried_leaves_the_data_to_be_blamed(lab):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("heart", "Billing", 12, source="mail")
    done = lab.bisect(good, lab.model(lab.curated(), code=archived("broken")))
    assert done["verdict"] == "data" and done["sentence"].endswith("which was not tried")


def test_code_alone_that_cannot_be_tried_is_refused_before_anything_trains(lab):
    good, bad = (lab.model(lab.curated(), code=archived(source)) for source in ("sound", "broken"))
    with pytest.raises(BrokenHistory, match="does not run here, and nothing else changed"):
        lab.bisect(good, bad)
    assert lab.bench.trained == 0


def test_a_search_that_was_killed_trains_only_what_is_missing(spoiled):
    whole = spoiled.bisect(spoiled.good, spoiled.bad)
    with spoiled.runtime.db.transaction() as session:
        session.delete(session.exec(select(Bisection)).one())
    found, trained = spoiled.request(spoiled.good, spoiled.bad), spoiled.bench.trained
    spoiled.bench.lost_after = trained + 4
    lease = spoiled.lease(found)
    with pytest.raises(WorkerLostError) as lost:
        spoiled.perform(found, lease)
    lease.fail(lost.value, code="worker_lost")
    assert len(spoiled.row(found).trainings) == 4
    spoiled.bench.lost_after = None
    again = spoiled.perform(found)
    assert spoiled.bench.trained == 2 * trained
    told = ("verdict", "changes", "rows", "trainings", "drop")
    assert {name: again[name] for name in told} == {name: whole[name] for name in told}


def test_a_search_that_is_cancelled_ends_and_goes_on_when_it_is_retried(spoiled):
    found = spoiled.request(spoiled.good, spoiled.bad)
    lease = spoiled.lease(found)

    def cancel() -> None:
        if spoiled.bench.trained == 3:
            spoiled.runtime.queue.cancel(lease.job_id, actor="test")

    spoiled.bench.on_train = cancel
    with pytest.raises(LeaseLost):
        spoiled.perform(found, lease)
    assert (spoiled.row(found).state, len(spoiled.row(found).trainings)) == (RunState.CANCELLED, 2)
    spoiled.runtime.queue.retry(lease.job_id, actor="test")
    assert spoiled.row(found).state is RunState.REQUESTED
    done = spoiled.perform(found)
    assert done["verdict"] == "data" and spoiled.bench.trained == done["trainings"] + 1


def test_the_same_question_is_not_asked_twice_and_costs_nothing_once_it_was_answered(spoiled):
    first = spoiled.request(spoiled.good, spoiled.bad)
    assert spoiled.request(spoiled.good, spoiled.bad).id == first.id
    spoiled.perform(first)
    trained = spoiled.bench.trained
    second = spoiled.request(spoiled.good, spoiled.bad)
    assert second.id != first.id
    assert spoiled.perform(second)["verdict"] == "data" and spoiled.bench.trained == trained


def test_a_search_that_ended_while_harm_was_estimated_goes_on(spoiled, monkeypatch):
    def cut_off(*_, **__):
        raise WorkerLostError

    found = spoiled.request(spoiled.good, spoiled.bad)
    lease = spoiled.lease(found)
    with monkeypatch.context() as patch:
        patch.setattr(CountingBench, "harms", cut_off)
        with pytest.raises(WorkerLostError) as lost:
            spoiled.perform(found, lease)
    lease.fail(lost.value, code="worker_lost")
    assert spoiled.perform(found)["verdict"] == "data"


def test_a_case_whose_consent_was_withdrawn_is_left_out_of_a_new_search(spoiled):
    assert spoiled.bisect(spoiled.good, spoiled.bad)["verdict"] == "data"
    with spoiled.runtime.db.transaction() as session:
        tested = select(TrainingSetExample).where(TrainingSetExample.split == Split.TEST)
        key = session.exec(tested).first().settlement_id
        task = session.get_one(AnnotationTask, session.get_one(Settlement, key).task_id)
        session.get_one(Response, task.response_id).may_train = False
    before = spoiled.bench.trained
    done = spoiled.bisect(spoiled.good, spoiled.bad)
    assert done["verdict"] == "data" and done["drop"]["n"] == 12 * len(TOPICS) - 1
    assert spoiled.bench.trained > before


def test_archived_code_trains_the_same_in_a_process_of_its_own_and_code_that_does_not_load_says_so(lab):
    tools = TorchTools(lab.runtime.settings)
    base = tools.locate("bundled:tiny")
    settings = {"epochs": 1, "base_sha256": base.sha256}
    model = lab.model(lab.curated(), **settings)
    code = archive.make(Path(archive.__file__).parents[1])
    made = []
    for trainer in (tools, tools.archived(code)):
        lab.bench = trainer
        lab.learn_for_real(model)
        with lab.runtime.db.reading() as session:
            made.append(session.get_one(ModelVersion, model.id).adapter_sha256)
        shutil.rmtree(lab.runtime.settings.work)
    assert made[0] == made[1] != model.adapter_sha256
    broken = archive.zipped({"retrain/__init__.py": b"", "retrain/again.py": b"import nothing_at_all"})
    assert not tools.archived(broken).can_run()
    lab.bench = tools.archived(broken)
    with pytest.raises(TrainingBroke, match="nothing_at_all"):
        lab.learn_for_real(model)
