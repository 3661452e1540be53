"""An alarm is raised once about a champion that is flagged, or asked, otherwise than before, and about no other."""

import pytest
from sqlmodel import select

from service.answers.monitors import DRIFTED, ROSE
from service.schedule import ask_for_monitoring
from service.stages import monitoring
from service.tables import (
    Job,
    JobKind,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Notice,
    NoticeTarget,
    Role,
)
from tests import builders
from tests.console import person
from tests.history import History

WARD = "on which floor of the house is ward number {0} and who works there at night?"
BILL = "who sends the bill number {0} to patients and when is it paid back?"


class Watch:
    """A project with two versions that users asked and flagged."""

    def __init__(self, runtime) -> None:
        self.runtime = runtime
        with runtime.db.transaction() as session:
            history = History(session)
            self.project = history.project
            learned = [history.settle(WARD.format(number), flags=0) for number in range(60)]
            self.before, self.model = history.train(learned[:1]), None
            history.promote(self.before)
            self.model = history.train(learned)
            history.promote(self.model)
            for version in session.exec(select(ModelVersion)):
                is_live = version.id == self.model.id
                version.state = ModelState.CHAMPION if is_live else ModelState.RETIRED
            target = NoticeTarget(project_id=self.project.id, url="https://a.example", kinds=["alarm"])
            session.add(target)

    def answers(self, version: ModelVersion, count: int, *, asked: str, flag_every: int) -> None:
        with self.runtime.db.transaction() as session:
            for number in range(count):
                response = builders.add_response(
                    session, self.project, f"{version.number}/{number}", asked=asked.format(number),
                    model_version_id=version.id,
                )  # fmt: skip
                if number % flag_every == 0:
                    builders.add_flag(session, self.project, response, "wrong")

    def look(self) -> dict:
        with self.runtime.db.transaction() as session:
            job = self.runtime.queue.ask(
                session, JobKind.MONITOR, self.project.id, project_id=self.project.id
            )
        lease = self.runtime.queue.lease(job)
        told = monitoring.perform(lease, self.project.id)
        lease.finish(told)
        return told

    def alarms(self) -> list[str]:
        with self.runtime.db.reading() as session:
            raised = select(LedgerEntry.action).where(LedgerEntry.actor == "monitoring")
            told = [notice.facts["event"] for notice in session.exec(select(Notice))]
            assert told == list(session.exec(raised))
            return told


@pytest.fixture
def watch(runtime) -> Watch:
    return Watch(runtime)


def test_a_rise_of_flags_alarms_once(watch):
    watch.answers(watch.before, 200, asked=WARD, flag_every=40)
    watch.answers(watch.model, 100, asked=WARD, flag_every=2)
    watch.look()
    watch.look()
    assert watch.alarms() == [ROSE]


def test_what_is_flagged_and_asked_as_before_raises_no_alarm(watch):
    watch.answers(watch.before, 200, asked=WARD, flag_every=10)
    watch.answers(watch.model, 200, asked=WARD, flag_every=10)
    assert set(watch.look()) == {"model_version"}
    assert watch.alarms() == []


def test_prompts_that_the_set_says_nothing_of_alarm_once(watch):
    watch.answers(watch.model, 60, asked=BILL, flag_every=30)
    watch.look()
    watch.look()
    assert watch.alarms() == [DRIFTED]


def test_the_overview_says_so(watch):
    watch.answers(watch.before, 200, asked=WARD, flag_every=40)
    watch.answers(watch.model, 100, asked=WARD, flag_every=2)
    olga = person(watch.runtime, Role.OPERATOR, password="")
    assert "flagged more often" not in olga.get(f"/p/{watch.project.slug}/").text
    watch.look()
    assert "flagged more often" in olga.get(f"/p/{watch.project.slug}/").text


def test_only_a_champion_that_answered_lately_is_watched(watch):
    def asked_for() -> int:
        ask_for_monitoring(watch.runtime)
        with watch.runtime.db.reading() as session:
            return len(session.exec(select(Job).where(Job.kind == JobKind.MONITOR)).all())

    watch.answers(watch.before, 1, asked=WARD, flag_every=2)
    assert asked_for() == 0
    watch.answers(watch.model, 1, asked=WARD, flag_every=2)
    assert asked_for() == 1
