"""What goes wrong on the way to a champion, through the HTTP API and the jobs, with the tiny model really trained."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest

from retrain import examination
from retrain.types import Split
from service.stages import rechecking
from service.web.app import create_app
from tests.benchmarks.installation import installation
from tests.due import do_all_due
from tests.scenarios.ward import Ward
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("unreloaded")
POISON = "Dermatology"


@pytest.fixture
def ward(runtime, client, work, monkeypatch) -> Ward:
    return joined(Ward(runtime, client, work), monkeypatch)


@pytest.fixture(scope="module")
def story(cache_dir) -> Iterator[SimpleNamespace]:
    """Two departments are learned and go live; a third comes, without replay and with it; then all is taken back."""
    with (
        installation(cache_dir=cache_dir, training_threads=1) as runtime,
        pytest.MonkeyPatch.context() as patch,
    ):
        asked: list[int] = []
        patch.setattr(examination, "_in_portions", counting(asked))
        client = create_app(runtime).test_client()
        ward = joined(Ward(runtime, client, partial(do_all_due, runtime)), patch)
        ward.judge_by(60)
        ward.correct(120, about=("Billing", "Cardiology"))
        ward.go_live(ward.learn())
        before = live_answers(ward, "v1")
        ward.correct(60, about=("Dermatology",))
        forgetful, careful = ward.learn(replay_earlier=0), ward.learn_again()
        too_early = ward.approve(forgetful)
        ward.go_live(careful)
        after, too_late = live_answers(ward, "v3"), ward.approve(forgetful)
        rolled_back = ward.post("promotions", action="rollback", reason="complaints")
        yield SimpleNamespace(
            forgetful=forgetful,
            careful=careful,
            too_early=too_early,
            too_late=too_late,
            rolled_back=rolled_back,
            asked=asked,
            answers=[before, after, live_answers(ward, "v1")],
        )


def test_without_replay_the_increment_is_refused(story):
    assert story.forgetful["verdict"] == "refused"
    lost = {(reason["rule"], reason["met"]) for reason in story.forgetful["reasons"]}
    assert ("loss", False) in lost, story.forgetful["sentence"]


def test_only_who_is_new_is_asked_the_exam_that_the_others_sat(story):
    base_and_first, then_all, then_the_careful_one = 2, 3, 1
    assert len(story.asked) == base_and_first + then_all + then_the_careful_one
    assert story.asked[-1] == story.asked[-2] > 0


def test_with_replay_it_passes(story):
    assert story.careful["verdict"] == "passed", story.careful["sentence"]


def test_a_rollback_brings_back_the_answers(story):
    before, after, back = story.answers
    assert story.rolled_back.status_code == 201
    assert back == before != after


def test_an_approval_is_stale_once_the_champion_changed(story):
    assert [answer.json["code"] for answer in (story.too_early, story.too_late)] == [
        "wrong_state",
        "approval_stale",
    ]


def test_coordinated_false_flags_teach_nothing(ward):
    prompts = [f"{number} invoices charged to my bill" for number in ("two", "nine", "forty", "no", "ten")]
    ward.attack(prompts, "Billing", POISON)
    ward.correct(20, about=("Cardiology",))
    ward.curate()
    learned = {example.answer for prompt, example in ward.examples().items() if prompt in prompts}
    assert learned == {"Billing"}


def test_what_experts_say_is_wrong_does_teach(ward):
    prompts = ["two invoices charged to my bill", "money charged again this morning"]
    ward.attack(prompts, "Billing", POISON)
    ward.truth |= dict.fromkeys(prompts, POISON)
    ward.correct(20, about=("Cardiology",))
    ward.curate()
    assert {ward.examples()[prompt].answer for prompt in prompts} == {POISON}


def test_flags_that_paraphrase_test_cases_are_never_trained_on(ward):
    ward.judge_by(20)
    tested = list(ward.truth)
    near = {f"{prompt} please": label for prompt, label in list(ward.truth.items())[:8]}
    for _ in range(2):
        for prompt, label in near.items():
            ward.flag(ward.respond(prompt, POISON if label != POISON else "Billing"))
        ward.truth |= near
        ward.correct(20)
        ward.curate()
    splits = ward.splits()
    assert {splits[prompt] for prompt in (*tested, *near) if prompt in splits} == {Split.TEST}
    assert sum(split is Split.TRAIN for split in splits.values()) >= 20


def counting(asked: list[int]):
    """Ask as usual, and write down how many cases an exam has; a recheck asks but few at once."""
    ask = examination._in_portions

    def counted(model, cases, labels):
        if len(cases) > rechecking.ASKED_AT_ONCE:
            asked.append(len(cases))
        return ask(model, cases, labels)

    return counted


def joined(ward: Ward, patch: pytest.MonkeyPatch) -> Ward:
    patch.setattr("service.jobs.labelling.connect", lambda *_: ward.connector)
    return ward


def live_answers(ward: Ward, version: str) -> list[str]:
    """Wait until a version answers, and return what it says to fixed questions."""
    eventually(lambda: {who for _, who in ward.canaries()} == {version}, 5)
    return [said for said, _ in ward.canaries()]
