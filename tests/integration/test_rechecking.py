"""Whoever flagged hears that it is fixed only once the new champion, asked again, answers right."""

from functools import partial
from uuid import UUID

import pytest
from sqlmodel import col, select

from annotation.types import Verdict
from service.answers.states import states_of
from service.clock import utcnow
from service.stages import asking, rechecking
from service.tables import (
    AnnotationTask,
    Feedback,
    JobKind,
    ModelState,
    ModelVersion,
    Notice,
    NoticeKind,
    NoticeTarget,
    Recheck,
    Response,
    Settlement,
    TaskState,
    TrainingRun,
)
from tests import builders
from tests.desk import Parrot

RIGHT, WRONG = "The accounts office sends bills.", "The ward sends bills."


class Champions:
    """The versions that a project's corrections taught."""

    def __init__(self, desk, tmp_path) -> None:
        self.desk, self.runtime, self.number = desk, desk.runtime, 0
        (tmp_path / "adapter").mkdir()
        (tmp_path / "adapter" / "weights").write_text("none")
        self.adapter = self.runtime.artifacts.put_directory(tmp_path / "adapter")
        with self.runtime.db.transaction() as session:
            target = NoticeTarget(
                project_id=desk.project.id, url="https://host.example.org", kinds=["flag_answered"]
            )
            session.add(target)

    def flagged(self, asked: str = "who sends bills?") -> UUID:
        return UUID(self.desk.settle(asked, WRONG, Verdict.INCORRECT, correction=RIGHT))

    def next(self) -> ModelVersion:
        """Put a version live that learned everything."""
        made = self.desk.curate(test_share=0.0, validation_share=0.0)
        self.number += 1
        with self.runtime.db.transaction() as session:
            for one in session.exec(select(ModelVersion).where(ModelVersion.state == ModelState.CHAMPION)):
                one.state = ModelState.RETIRED
            model = builders.add_challenger(session, self.desk.project, number=100 * self.number)
            session.get_one(TrainingRun, model.training_run_id).training_set_id = made.id
            model.adapter_sha256, model.state = self.adapter, ModelState.CHAMPION
        return model

    def recheck(self, model: ModelVersion, said: str | Parrot) -> dict:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(session, JobKind.RECHECK, model.id, project_id=self.desk.project.id)
        examiner = said if isinstance(said, Parrot) else Parrot(said)
        again = partial(asking.ask_about, actor="recheck")
        lease = self.runtime.queue.lease(job)
        told = rechecking.perform(self.runtime, lease, model.id, examiner, again)
        lease.finish(told)
        return told

    def states(self) -> set[str]:
        with self.runtime.db.reading() as session:
            return set(states_of(session, session.exec(select(Feedback.id)).all()).values())

    def told(self) -> list[str]:
        with self.runtime.db.reading() as session:
            of_kind = select(Notice).where(Notice.kind == NoticeKind.FLAG_ANSWERED).order_by(col(Notice.id))
            return [notice.facts["state"] for notice in session.exec(of_kind)]

    def asked_again(self) -> list[AnnotationTask]:
        again = select(AnnotationTask).where(col(AnnotationTask.rechecks_id).is_not(None))
        with self.runtime.db.reading() as session:
            return list(session.exec(again))

    def outcomes(self) -> list[tuple[bool, str]]:
        with self.runtime.db.reading() as session:
            return [
                (one.passed, one.reason) for one in session.exec(select(Recheck).order_by(col(Recheck.id)))
            ]


@pytest.fixture
def champions(desk, tmp_path) -> Champions:
    return Champions(desk, tmp_path)


@pytest.fixture
def any_champions(any_desk, tmp_path) -> Champions:
    return Champions(any_desk, tmp_path)


def test_what_the_new_champion_answers_right_is_live_once_it_was_asked(any_champions):
    any_champions.flagged()
    model = any_champions.next()
    assert any_champions.states() == {"trained"}
    told = any_champions.recheck(model, RIGHT)
    assert told["corrected"] == 1
    assert (any_champions.states(), any_champions.told()) == ({"live"}, ["live"])
    assert any_champions.asked_again() == []


def test_what_it_still_answers_wrong_is_not_live_and_experts_look_again(any_champions):
    any_champions.flagged()
    told = any_champions.recheck(any_champions.next(), WRONG)
    assert (told["as_before"], told["reopened"]) == (1, 1)
    assert any_champions.outcomes() == [(False, "as_before")]
    assert (any_champions.states(), any_champions.told()) == ({"checking"}, ["checking"])
    (again,) = any_champions.asked_again()
    assert again.state is TaskState.SELECTED


def test_experts_are_not_asked_a_third_time(champions):
    settled = champions.flagged()
    champions.recheck(champions.next(), WRONG)
    with champions.runtime.db.transaction() as session:
        again = session.exec(select(AnnotationTask).where(col(AnnotationTask.rechecks_id).is_not(None))).one()
        builders.add_settlement(session, again, label=None, correction=RIGHT)
    champions.desk.settle("where is the ward?", "Upstairs.")  # else the same content would be the same set
    told = champions.recheck(champions.next(), WRONG)
    assert (told["as_before"], told["reopened"]) == (1, 0)
    assert len(champions.asked_again()) == 1
    assert champions.outcomes() == [(False, "as_before")] * 2
    with champions.runtime.db.reading() as session:
        assert session.get_one(Settlement, settled).withdrawn_at is None


def test_what_a_later_champion_forgets_is_not_live_any_more_and_a_passing_one_is_told_once(champions):
    champions.flagged()
    champions.recheck(champions.next(), RIGHT)
    champions.recheck(champions.next(), RIGHT)
    assert champions.told() == ["live"]
    champions.recheck(champions.next(), "Nobody does.")
    assert (champions.states(), champions.told()) == ({"checking"}, ["live", "checking"])


def test_until_the_next_champion_was_asked_what_the_last_one_mended_stays_live(champions):
    champions.flagged()
    champions.recheck(champions.next(), RIGHT)
    champions.next()
    assert champions.states() == {"live"}


def test_a_job_that_was_killed_goes_on_where_it_was(champions, monkeypatch):
    monkeypatch.setattr(rechecking, "ASKED_AT_ONCE", 1)
    for place in ("north", "south", "west"):
        champions.flagged(f"who in the {place} clinic sends bills to patients?")
    model = champions.next()

    class Dying(Parrot):
        asked = 0

        def answer(self, conversations, *, max_new_tokens):
            self.asked += len(conversations)
            if self.asked == 2:
                raise InterruptedError
            return super().answer(conversations, max_new_tokens=max_new_tokens)

    with pytest.raises(InterruptedError):
        champions.recheck(model, Dying(RIGHT))
    assert len(champions.outcomes()) == 1
    spared = Dying(RIGHT)
    spared.asked = 10
    champions.recheck(model, spared)
    assert spared.asked == 12
    assert champions.outcomes() == [(True, "corrected")] * 3
    assert champions.told() == ["live"] * 3


def test_a_version_that_was_rolled_back_meanwhile_is_told_of_nobody(champions):
    champions.flagged()
    model = champions.next()
    with champions.runtime.db.transaction() as session:
        session.get_one(ModelVersion, model.id).state = ModelState.RETIRED
    champions.recheck(model, RIGHT)
    assert (champions.outcomes(), champions.told()) == ([], [])


def test_who_confirms_what_passed_has_nobody_told_again(champions):
    settled = champions.flagged()
    champions.recheck(champions.next(), RIGHT)
    told = champions.told()
    with champions.runtime.db.transaction() as session:
        first = session.get_one(AnnotationTask, session.get_one(Settlement, settled).task_id)
        response = session.get_one(Response, first.response_id)
        again = builders.add_task(session, champions.desk.project, response, rechecks_id=first.id)
        builders.add_settlement(session, again, label=None, correction=RIGHT)
    assert champions.states() == {"live"}
    champions.recheck(champions.next(), RIGHT)
    assert (champions.states(), champions.told()) == ({"live"}, told)


def test_a_withdrawn_flag_is_not_asked_about(champions):
    champions.flagged()
    model = champions.next()
    with champions.runtime.db.transaction() as session:
        session.exec(select(Feedback)).one().withdrawn_at = utcnow()
    champions.recheck(model, WRONG)
    assert (champions.outcomes(), champions.states()) == ([], {"withdrawn"})
