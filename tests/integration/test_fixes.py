"""Whether a fix worked and what it was worth is told by what users did before and after, and never beyond that."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlmodel import select

from service import rates
from service.answers.fixes import fixes_of
from service.answers.worth import worth_of
from service.clock import utcnow
from service.stages import intake
from service.tables import ModelState, ModelVersion, Part, Promotion, Role, TimeEntry
from tests import builders
from tests.console import person
from tests.history import History

RATES = {"currency": "EUR", "expert_hour": 60, "compute_hour": 0, "outcomes": {"rerouted": -4}}
HOUR = 3600.0


class Taught:
    """A project whose second version learned from flags with the reason `unsafe`, and whose users go on."""

    def __init__(self, runtime) -> None:
        self.runtime = runtime
        with runtime.db.transaction() as session:
            builders.forget_history(session.connection())
            history = History(session)
            self.project = history.project
            known, taught = history.settle("who bills me?"), [history.settle(f"ward {n}?") for n in range(3)]
            for settled, reason in [(known, "incomplete"), *((one, "unsafe") for one in taught)]:
                history.flags_of(settled)[0].reasons = [reason]
            self.before = history.train([known])
            history.promote(self.before)
            self.model = history.train([known, *taught])
            history.promote(self.model)
            self.before.state, self.model.state = ModelState.RETIRED, ModelState.CHAMPION
            for one in taught[:2]:
                builders.add_recheck(session, one.id, self.model.id)
            builders.add_recheck(session, taught[2].id, self.model.id, passed=False)
            old, new = session.exec(select(Promotion).where(Promotion.seq > 0).order_by(Promotion.seq)).all()
            old.created_at, new.created_at = (utcnow() - timedelta(days=days) for days in (20, 10))
            spent = TimeEntry(project_id=self.project.id, who="ann", part=Part.DATA, seconds_spent=2 * HOUR)
            spent.created_at = utcnow() - timedelta(days=15)
            later = TimeEntry(project_id=self.project.id, who="ann", part=Part.DATA, seconds_spent=HOUR)
            session.add_all([spent, later])

    def answers(
        self, version: ModelVersion, count: int, *, flagged: int, rerouted: int | None = None
    ) -> None:
        with self.runtime.db.transaction() as session:
            for number in range(count):
                response = builders.add_response(
                    session, self.project, f"{version.number}/{number}", model_version_id=version.id
                )
                if number < flagged:
                    builders.add_flag(session, self.project, response, "unsafe")
                if rerouted is not None:
                    new = intake.NewOutcome(
                        event_id=uuid4(), response_id=str(response.id), conversation_id=None,
                        name="rerouted", value=float(number < rerouted), unit="",
                    )  # fmt: skip
                    intake.record_outcome(session, self.project, new, sha256="sha256:0")

    def rate(self) -> None:
        with self.runtime.db.transaction() as session:
            rates.set_rates(session, self.project, RATES, actor="test")

    def fixes(self) -> list:
        with self.runtime.db.reading() as session:
            return fixes_of(session, self.project)

    def worth(self) -> list:
        with self.runtime.db.reading() as session:
            return worth_of(session, self.project, now=utcnow())[1]


@pytest.fixture
def taught(any_runtime) -> Taught:
    return Taught(any_runtime)


def test_a_fix_that_worked_is_told_with_its_interval(taught):
    taught.answers(taught.before, 100, flagged=30)
    taught.answers(taught.model, 100, flagged=2)
    newest, first = taught.fixes()
    assert (newest.version, newest.reason, newest.taught, newest.passed) == (2, "unsafe", 3, 2)
    assert newest.change.high < 0
    assert newest.sentence.startswith("It worked: users flag with this reason less often, by 18")
    assert (first.version, first.reason) == (1, "incomplete")


@pytest.mark.parametrize(
    ("before", "since", "said"),
    [
        (2, 30, "It did not work: users flag with this reason more often"),
        (20, 12, "Cannot tell yet: it takes about 2"),
        (6, 4, "Cannot tell: too few answers of the version before are known"),
        (6, 6, "Cannot tell yet: so far they flag with it as often as before."),
    ],
)
def test_nothing_is_said_to_have_worked_that_the_interval_does_not_tell(taught, before, since, said):
    taught.answers(taught.before, 100, flagged=before)
    taught.answers(taught.model, 100, flagged=since)
    assert taught.fixes()[0].sentence.startswith(said)


def test_without_answers_nothing_can_be_told(taught):
    assert taught.fixes()[0].sentence == "Cannot tell: no answers of version 2 are logged."


def test_what_a_promotion_cost_is_what_was_spent_since_the_one_before(taught):
    taught.rate()
    newest, first = taught.worth()
    assert (newest.expert_hours, newest.cost, newest.fixed) == (2.0, 120.0, 2)
    assert newest.cost_per_fix == 60.0
    assert (first.expert_hours, first.fixed, first.cost_per_fix) == (0.0, 0, None)


def test_a_gain_that_is_sure_pays_back_between_limits(taught):
    taught.rate()
    taught.answers(taught.before, 100, flagged=0, rerouted=60)
    taught.answers(taught.model, 100, flagged=0, rerouted=10)
    newest = taught.worth()[0]
    [change] = newest.changes
    assert (change.before.value, change.after.value, newest.answers_a_day) == pytest.approx(
        (0.6, 0.1, 10), rel=0.01
    )
    least, most = newest.payback
    assert least == pytest.approx(newest.cost / (newest.gain.high * newest.answers_a_day))
    assert (least, most) == pytest.approx((4.99, 7.96), abs=0.1)


@pytest.mark.parametrize(
    ("rerouted", "said"),
    [(25, "Cannot tell: what it brings may be nothing"), (60, "It does not pay for itself")],
)
def test_a_gain_that_is_not_sure_has_no_payback(taught, rerouted, said):
    taught.rate()
    taught.answers(taught.before, 100, flagged=0, rerouted=30)
    taught.answers(taught.model, 100, flagged=0, rerouted=rerouted)
    newest = taught.worth()[0]
    assert newest.payback is None
    assert newest.sentence.startswith(said)


def test_without_rates_hours_are_told_and_no_money(taught):
    newest = taught.worth()[0]
    assert (newest.expert_hours, newest.cost, newest.cost_per_fix, newest.payback) == (2.0, None, None, None)
    assert newest.sentence == "Cannot tell: the project has no rates."


def test_the_pages_tell_it(runtime):
    taught = Taught(runtime)
    taught.rate()
    taught.answers(taught.before, 100, flagged=30, rerouted=60)
    taught.answers(taught.model, 100, flagged=2, rerouted=10)
    pia, slug = person(runtime, Role.AUDITOR, password=""), taught.project.slug
    for page, told in (("fixes", taught.fixes()[0].sentence), ("worth", taught.worth()[0].sentence)):
        assert told in pia.get(f"/p/{slug}/{page}").text


def test_the_commands_tell_it(errata, tmp_path):
    errata("init", "--admin", "ada")
    errata(
        "projects",
        "create",
        "clinic",
        "--kind",
        "classification",
        "--base-model",
        "bundled:tiny",
        "--labels",
        "a,b",
    )
    file = tmp_path / "rates.json"
    file.write_text(json.dumps(RATES | {"expert_hour": "much"}))
    assert errata("rates", "set", "clinic", str(file))[1]["detail"].startswith("expert_hour")
    file.write_text(json.dumps(RATES))
    assert errata("rates", "set", "clinic", str(file))[1]["version"] == 1
    assert errata("worth", "clinic") == (0, {"rates": RATES, "items": [], "next_cursor": None})
    assert errata("fixes", "clinic") == (0, {"items": [], "next_cursor": None})
