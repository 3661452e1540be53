"""Races for what is live, and the emergency override: two persons, a reason, and everybody hears it."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from unittest.mock import patch

import pytest
from sqlmodel import Session, col, select

from service import champions, people
from service.errors import ServiceError, code_of
from service.stages import promotion
from service.tables import (
    Decision,
    ModelState,
    ModelVersion,
    Notice,
    NoticeKind,
    NoticeTarget,
    Promotion,
    PromotionKind,
    Role,
    TrainingSet,
    User,
)
from tests import builders
from tests.repetitions import CHOSEN


class Race:
    """A project with a challenger, and a person for every thread."""

    def __init__(self, runtime) -> None:
        self.runtime = runtime
        runtime.db.busy_seconds = 120  # who wins is counted, not how long a busy machine lets the others wait
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)
            builders.add_criteria(session, self.project)
            self.first = builders.add_challenger(session, self.project)
            self.persons = [
                builders.add_person(session, Role.APPROVER, f"p{number}")[0]
                for number in range(CHOSEN.racing_threads)
            ]

    def goes_live(self) -> int:
        """Put the challenger live and return the number of the switch."""
        with self.runtime.db.transaction() as session:
            model = session.get_one(ModelVersion, self.first.id)
            kind, user = PromotionKind.OVERRIDE, session.get_one(User, self.persons[0].id)
            live = champions.newest_promotion(session, self.project.id)
            more = {"live": live, "user": user, "reason": "again"}
            return champions.switch(session, self.project, model, kind, **more).seq

    def approved(self) -> None:
        """Have the challenger pass the gate and a person say yes."""
        with self.runtime.db.transaction() as session:
            model = session.get_one(ModelVersion, self.first.id)
            evaluation = builders.add_evaluation(session, self.project, model)
            seen = {"model_version": model.number, "adapter_sha256": model.adapter_sha256}
            seen["training_set"] = session.get_one(TrainingSet, evaluation.training_set_id).fingerprint
            yes = {"decision": Decision.APPROVED, "reason": "better", "user": self.persons[0]}
            promotion.decide(session, self.project, evaluation_id=evaluation.id, **seen, **yes)

    def promoted(self) -> Counter[str]:
        """Have every person promote the challenger, which a rollback took off before."""
        with self.runtime.db.transaction() as session:
            session.get_one(ModelVersion, self.first.id).state = ModelState.CHALLENGER
        return self.run(
            lambda session, person: promotion.promote(session, self.project, model_version=1, user=person)
        )

    def rolled_back(self) -> Counter[str]:
        """Have every person take off the switch that all of them see."""
        with self.runtime.db.reading() as session:
            seen = champions.newest_promotion(session, self.project.id).seq
        return self.run(
            lambda session, person: promotion.roll_back(
                session, self.project, reason="worse", user=person, seen_seq=seen
            )
        )

    def run(self, act) -> Counter[str]:
        """Have every person act at the same moment and count what came of it."""
        together = Barrier(CHOSEN.racing_threads)

        def one(person: User) -> str:
            together.wait()
            try:
                with self.runtime.db.transaction() as session:
                    act(session, person)
            except ServiceError as error:
                return code_of(error)
            return "done"

        with ThreadPoolExecutor(CHOSEN.racing_threads) as pool:
            return Counter(pool.map(one, self.persons))

    def history(self) -> list[int]:
        with self.runtime.db.reading() as session:
            return [row.seq for row in session.exec(select(Promotion).order_by(col(Promotion.seq)))]


def test_of_many_who_promote_or_roll_back_at_once_one_does_it(any_runtime):
    race, losers = Race(any_runtime), CHOSEN.racing_threads - 1
    race.approved()
    for _ in range(CHOSEN.races):
        assert race.promoted() == {"done": 1, "wrong_state": losers}
        assert race.rolled_back() == {"done": 1, "approval_stale": losers}
    assert race.history() == list(range(2 * CHOSEN.races + 1))


def test_who_does_not_say_what_they_saw_goes_back_once_more(any_runtime):
    race = Race(any_runtime)
    for _ in range(CHOSEN.racing_threads):
        race.goes_live()

    def back(session: Session, person: User) -> None:
        promotion.roll_back(session, race.project, reason="worse", user=person)

    assert race.run(back)["done"] > 1


@contextmanager
def nobody_waits() -> Iterator[None]:
    with patch.object(champions, "take_turns"):
        yield


def test_even_if_nobody_waits_their_turn_the_history_has_one_row_of_each_number(any_runtime):
    race = Race(any_runtime)
    race.approved()
    for _ in range(CHOSEN.races):
        with nobody_waits():
            assert race.promoted()["done"] == 1
            assert race.rolled_back()["done"] == 1
    assert race.history() == list(range(2 * CHOSEN.races + 1))


class TestOverride:
    @pytest.fixture
    def desk(self, runtime):
        race = Race(runtime)
        with runtime.db.transaction() as session:
            session.get_one(ModelVersion, race.first.id).state = ModelState.REFUSED
            self.token = people.add_token(session, "p1", actor="test")
            self.operators_token = builders.add_person(session, Role.OPERATOR)[1]
            self.own_token = people.add_token(session, "p0", actor="test")
        return race

    def override(self, desk: Race, **changes) -> Promotion:
        said = {"model_version": 1, "reason": "the old one insults users", "second_token": self.token}
        with desk.runtime.db.transaction() as session:
            person = session.get_one(User, desk.persons[0].id)
            return promotion.override(session, desk.project, user=person, **said | changes)

    def test_two_persons_put_a_refused_version_live(self, desk):
        assert self.override(desk).kind is PromotionKind.OVERRIDE
        with desk.runtime.db.reading() as session:
            switch, model = champions.live_at(session, desk.project, None)
            assert (model.number, model.state, switch.reason) == (
                1,
                ModelState.CHAMPION,
                "the old one insults users",
            )

    def test_and_it_can_be_taken_back(self, desk):
        self.override(desk)
        with desk.runtime.db.transaction() as session:
            person = session.get_one(User, desk.persons[0].id)
            promotion.roll_back(session, desk.project, reason="it was no better", user=person)
            assert champions.live_at(session, desk.project, None)[1].number == 0

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"second_token": ""}, "two_persons_needed"),
            ({"second_token": "eut_nobodys"}, "two_persons_needed"),
            ({"reason": "  "}, "invalid"),
            ({"model_version": 7}, "not_found"),
            ({"model_version": 0}, "wrong_state"),
        ],
        ids=["no token", "nobody's token", "no reason", "no version", "live already"],
    )
    def test_nothing_less_will_do(self, desk, changes, code):
        with pytest.raises(ServiceError) as refused:
            self.override(desk, **changes)
        assert code_of(refused.value) == code and desk.history() == [0]

    def test_neither_oneself_nor_an_operator_is_the_second_person(self, desk):
        for token in (self.own_token, self.operators_token):
            with pytest.raises(ServiceError) as refused:
                self.override(desk, second_token=token)
            assert code_of(refused.value) == "two_persons_needed"

    def test_everybody_hears_it(self, desk):
        with desk.runtime.db.transaction() as session:
            kinds = [NoticeKind.ALARM, NoticeKind.PROMOTED]
            url = "https://hooks.example/x"
            session.add(
                NoticeTarget(project_id=desk.project.id, url=url, kinds=[each.value for each in kinds])
            )
        self.override(desk)
        with desk.runtime.db.reading() as session:
            told = session.exec(select(Notice).where(col(Notice.kind).in_(kinds))).all()
        assert {(each.kind, each.facts["event"]) for each in told} == {(kind, "override") for kind in kinds}
