"""The console shows what a bisection found, and leads to what can be done about it."""

import re
from html import unescape

import pytest
from sqlmodel import col, select

from service import bisections
from service.tables import (
    AnnotationTask,
    Bisection,
    ModelState,
    ModelVersion,
    Role,
    RunState,
    TrainingRun,
)
from tests.console import path_of, person
from tests.lab import SPEC, archived


def test_the_page_asks_shows_the_answer_and_leads_to_what_can_be_done(spoiled):
    otto, eve = (
        person(spoiled.runtime, role, name=role, password="") for role in (Role.OPERATOR, Role.AUDITOR)
    )
    spoiled.answered_by("ann", spoiled.wrong)
    ask = f"/p/clinic/models/{spoiled.bad.id}/bisect"
    assert ask in otto.get("/p/clinic/models").text and ask not in eve.get("/p/clinic/models").text
    assert eve.post(ask, good="1", metric="accuracy").status_code == 403
    assert "no single case" in otto.post(ask, good="1", metric="macro_f1").text
    told = otto.get(f"{ask}?good=1&metric=accuracy&budget=").text
    assert re.search(r"About \d+ trainings, .+; at most \d+", told) and "source mail, by ann" in told
    there = path_of(otto.post(ask, good="1", metric="accuracy"))
    assert "every 1s" in otto.get(there).text and "Cancel the search" in otto.get(f"{there}/part").text
    with spoiled.runtime.db.reading() as session:
        spoiled.perform(session.exec(select(Bisection)).one())
    page = otto.get(there).text
    assert "source mail, by ann made the model worse" in page and "every 1s" not in page
    assert page.count("/tasks/") == len(spoiled.wrong)
    assert "It learned" in page and "All that differs between v1 and" in page
    assert "What can be done" not in eve.get(there).text
    assert "Put source mail into quarantine" in page
    assert "v2 is live: roll it back" not in page
    with spoiled.runtime.db.transaction() as session:
        session.get_one(ModelVersion, spoiled.bad.id).state = ModelState.CHAMPION
    assert "v2 is live: roll it back" in otto.get(there).text
    assert otto.post(f"{there}/ask-again").status_code == 303
    otto.post(f"{there}/ask-again")
    with spoiled.runtime.db.reading() as session:
        again = select(AnnotationTask).where(col(AnnotationTask.rechecks_id).is_not(None))
        assert len(session.exec(again).all()) == len(spoiled.wrong)
    listed = eve.get("/p/clinic/bisections").text
    assert "why is v2 worse than v1?" in listed and "by ann made" in listed


def test_a_search_that_could_not_tell_leads_to_another_with_a_larger_budget(lab):
    lab.rows("pulse", "Billing", 12, source="mail")
    found = lab.request(lab.good, lab.model(lab.curated(), learning_rate=0.5, rank=4), budget=4)
    assert lab.perform(found)["verdict"] == "cannot_tell"
    otto, eve = (person(lab.runtime, role, name=role, password="") for role in (Role.OPERATOR, Role.AUDITOR))
    there, again = f"/p/clinic/bisections/{found.id}", "Ask again with another budget"
    page = otto.get(there).text
    assert again in page and again not in eve.get(there).text
    (link,) = re.findall(rf'href="([^"]+)">{again}', page)
    told = otto.get(unescape(link)).text
    assert "What it takes" in told and "source mail" in told


def test_the_page_shows_how_the_code_differs_while_that_is_kept(lab):
    good = lab.model(lab.curated(), code=archived("sound"))
    lab.rows("pulse", "Cardiology", 4, source="chat")
    bad = lab.model(lab.curated(), code=archived("bug"))
    lab.bisect(good, bad)
    with lab.runtime.db.reading() as session:
        found = session.exec(select(Bisection)).one()
        archive_of_bad = session.get_one(TrainingRun, bad.training_run_id).code_archive
    otto = person(lab.runtime, Role.OPERATOR, name="otto", password="")
    page = otto.get(f"/p/clinic/bisections/{found.id}").text
    assert "+bug" in page and "-sound" in page
    lab.runtime.artifacts.remove(archive_of_bad)
    page = otto.get(f"/p/clinic/bisections/{found.id}")
    assert page.status_code == 200 and "one of both is gone or damaged" in page.text
    assert "made the model worse" in page.text


def test_a_setting_is_to_be_trained_again_by_the_good_model_s_value_and_no_source_is_given_up(lab):
    good = lab.model(lab.curated())
    lab.rows("pulse", "Cardiology", 4, source="fax")
    bad = lab.model(lab.curated(), learning_rate=1.0, rank=4, targets=("q_proj", "v_proj"))
    found = lab.request(good, bad)
    lab.perform(found)
    with lab.runtime.db.reading() as session:
        told = bisections.describe(session, session.get_one(Bisection, found.id))
    (again,) = told["proposals"]
    assert again["action"] == "train_again" and again["better"] == {"learning_rate": SPEC.learning_rate}
    page = person(lab.runtime, Role.OPERATOR, name="otto", password="")
    before = page.get(f"/p/clinic/bisections/{found.id}").text.partition("<button>Train on the same set")[0]
    sent = dict(re.findall(r'name="(\w+)" value="([^"]*)"', before.rpartition("<form")[2]))
    page.post(f"/p/clinic/sets/{again['set']}/train", **{k: v for k, v in sent.items() if k != "csrf"})
    with lab.runtime.db.reading() as session:
        asked = session.exec(select(TrainingRun).where(TrainingRun.state == RunState.REQUESTED)).one()
    bad_spec = lab.spec(bad)
    assert asked.spec == {name: bad_spec[name] for name in asked.spec} | again["better"]
    assert bad_spec.keys() - asked.spec.keys() == bisections.NOT_CHOSEN


@pytest.mark.parametrize(("unlike", "actions"), [({}, ["train_again"]), ({"mode": "continue"}, [])])
def test_the_method_stays_and_what_went_on_from_another_model_is_not_repeated(lab, unlike, actions):
    good = lab.model(lab.curated())
    bad = lab.model(lab.curated(), learning_rate=1.0)
    found = lab.request(good, bad)
    lab.perform(found)
    with lab.runtime.db.transaction() as session:
        run = session.get_one(TrainingRun, bad.training_run_id)
        run.spec = {name: value for name, value in run.spec.items() if name != "method"} | unlike
        told = bisections.describe(session, session.get_one(Bisection, found.id))
    assert [each["action"] for each in told["proposals"]] == actions
    assert [each["options"]["method"] for each in told["proposals"]] == ["sft" for _ in actions]


def test_a_source_most_of_whose_rows_are_sound_is_not_given_up(lab):
    good = lab.model(lab.curated())
    lab.rows("heart", "Billing", 20)
    bad = lab.model(lab.curated())
    found = lab.request(good, bad)
    assert lab.perform(found)["verdict"] == "data"
    with lab.runtime.db.reading() as session:
        told = bisections.describe(session, session.get_one(Bisection, found.id))
    assert [one["action"] for one in told["proposals"]] == ["ask_again", "build"]
