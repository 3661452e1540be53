"""How far each annotator can be trusted."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from crowdkit.aggregation import OneCoinDawidSkene
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.quality import estimate, share, trust
from annotation.quality_report import report
from annotation.settlement import BEST, Settled, settle
from annotation.types import Answer, Cause, Verdict
from annotation.votes import Outcome, Vote, pace

BEGUN = datetime(2026, 1, 5, 9, tzinfo=UTC)
RIGHT = Answer(Verdict.CORRECT)
WORDS = ("billing", "cardiology", "surgery")


def label(name, **more):
    return Answer(Verdict.INCORRECT, label=name, cause=Cause.MODEL, **more)


def votes(*, tasks=40, said, seconds=30.0, days=0.1):
    """What each annotator says about each task, by their function of its number and its true label."""
    return [
        Vote(
            str(task), name, label(word(task, WORDS[task % 3])), BEGUN + timedelta(days=days * task), seconds
        )
        for name, word in said.items()
        for task in range(tasks)
    ]


def true(task, word):
    return word


def wrong(task, word):
    return WORDS[(WORDS.index(word) + 1) % 3]


def test_two_who_agree_outweigh_one_who_does_not():
    found = estimate(votes(said={"ann": true, "ben": true, "eve": wrong}))
    assert found.posteriors["0"]["billing"] > 0.99
    assert found.confusions["ann"]["billing"]["billing"] == pytest.approx(1, abs=0.01)
    assert found.confusions["eve"]["billing"]["cardiology"] == pytest.approx(1, abs=0.01)


def test_a_task_that_one_answered_says_nothing():
    alone = [Vote("1", "ann", RIGHT, BEGUN)]
    assert estimate(alone).posteriors == {}
    assert trust(alone, estimate(alone))["ann"].right is None
    assert trust(alone, estimate(alone))["ann"].weight == pytest.approx(0.9)


def test_all_who_say_the_same_are_right():
    alike = votes(said={name: lambda task, word: "billing" for name in ("ann", "ben")})
    assert estimate(alike).posteriors["7"] == {"billing": 1.0}
    assert not any(each.is_straight for each in trust(alike, estimate(alike)).values())


def cast_of(told):
    return [Vote(str(task), str(name), label(word), BEGUN) for (task, name), word in told.items()]


@given(
    st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 3)), st.sampled_from(WORDS), max_size=12),
    st.dictionaries(st.integers(0, 4), st.sampled_from(WORDS), max_size=2),
)
@settings(max_examples=20, deadline=None)
def test_however_few_answers_there_are_figures_are_figures_and_one_answer_makes_nothing_sure(told, known):
    cast, gold = cast_of(told), {str(task): word for task, word in known.items()}
    found = estimate(cast, gold)
    alone = {task for task, n in Counter(vote.task for vote in cast).items() if n == 1}
    assert not (alone - gold.keys()) & found.posteriors.keys()
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found.posteriors.values())
    assert all(
        0 <= often <= 1
        for each in found.confusions.values()
        for row in each.values()
        for often in row.values()
    )
    weights = [each.weight for each in trust(cast, found, gold).values()]
    assert all(0 < weight < 1 for weight in weights)
    for weight in weights:
        one = settle([("ann", RIGHT)], needed=1, overlap=1, accuracies={"ann": weight})
        assert not isinstance(one, Settled) or one.posterior <= BEST


def test_left_to_itself_the_model_is_sure_of_what_one_alone_said():
    alone = pd.DataFrame({"task": [0, 1], "worker": [0, 1], "label": [0, 1]})
    assert OneCoinDawidSkene(n_iter=100).fit_predict_proba(alone).to_numpy().max() > 0.999


def test_one_answer_moves_what_is_known_of_somebody_by_little():
    agreed = votes(said={"ann": true, "ben": true})
    known = trust(cast := [*agreed, Vote("0", "eve", label("surgery"), BEGUN)], estimate(cast))
    assert (known["eve"].right.n, known["eve"].weight) == (1, pytest.approx(9 / 11, abs=0.001))
    assert known["eve"].right.high > 0.75


def test_gold_decides_between_two():
    cast = votes(said={"ann": true, "eve": wrong})
    gold = {str(task): WORDS[task % 3] for task in range(0, 40, 2)}
    known = trust(cast, estimate(cast, gold), gold)
    assert known["ann"].weight > 0.9
    assert known["eve"].weight < 0.3
    assert (known["ann"].gold.value, known["eve"].gold.value) == (1, 0)


def test_an_interval_is_wilsons():
    told = share(8, 10)
    assert (told.low, told.high) == pytest.approx((0.4902, 0.9433), abs=0.0001)
    assert share(0, 0) is None


class TestCarelessness:
    def test_who_takes_a_fraction_of_the_others_time_does_not_count(self):
        cast = votes(said={"ann": true, "ben": true}) + votes(said={"eve": true}, seconds=3)
        known = trust(cast, estimate(cast))
        assert known["eve"].is_hasty and known["eve"].weight == 0.5
        assert not known["ann"].is_hasty

    def test_where_a_tool_tells_no_times_nobody_is_too_fast(self):
        cast = votes(said={"ann": true, "ben": true}, seconds=0)
        assert not any(each.is_hasty for each in trust(cast, estimate(cast)).values())

    @pytest.mark.parametrize(("every", "is_hasty"), [(3, True), (20, False)])
    def test_where_a_tool_tells_no_times_who_answers_in_quick_succession_is_too_fast(self, every, is_hasty):
        def at_work(name, seconds):
            return votes(said={name: true}, seconds=0, days=seconds / (24 * 3600))

        cast = [*at_work("ann", 30), *at_work("ben", 40), *at_work("eve", every)]
        seconds = pace((vote.task, vote.annotator, vote.at) for vote in cast)
        told = [replace(vote, seconds=seconds.get((vote.task, vote.annotator), 0.0)) for vote in cast]
        known = trust(told, estimate(told))
        assert {name: each.is_hasty for name, each in known.items()} == {
            "ann": False,
            "ben": False,
            "eve": is_hasty,
        }

    def test_where_only_programs_answer_the_fastest_is_not_too_fast(self):
        cast = votes(said={"ann": true, "ben": true}, seconds=1) + votes(said={"eve": true}, seconds=0.1)
        assert not any(each.is_hasty for each in trust(cast, estimate(cast)).values())

    def test_who_always_says_the_same_does_not_count(self):
        cast = votes(said={"ann": true, "ben": true, "eve": lambda task, word: "billing"})
        known = trust(cast, estimate(cast))
        assert known["eve"].is_straight and known["eve"].weight == 0.5
        assert not known["ann"].is_straight

    def test_who_gets_worse_has_drifted(self):
        def tiring(task, word):
            return word if task < 60 else wrong(task, word)

        cast = votes(tasks=90, said={"ann": true, "ben": true, "eve": tiring}, days=1)
        known = trust(cast, estimate(cast))
        assert known["eve"].has_drifted
        assert not known["ann"].has_drifted


class TestReport:
    def told(self, cast, **more):
        return report(cast, **{"reasons": {}, "gold": {}, "outcomes": {}} | more)

    def test_agreement_is_told_by_question_label_reason_pair_and_week(self):
        told = self.told(
            votes(said={"ann": true, "ben": true, "eve": wrong}, days=1),
            reasons={str(task): ["wrong_department"] for task in range(20)},
        )
        assert {each["name"]: each["measure"] for each in told["questions"]} == {"label": "alpha, nominal"}
        assert [each["name"] for each in told["labels"]] == [*WORDS]
        assert [(each["name"], each["figure"]["n"]) for each in told["reasons"]] == [("wrong_department", 20)]
        kappas = {(each["one"], each["other"]): each["figure"]["value"] for each in told["pairs"]}
        assert kappas["ann", "ben"] == 1 and kappas["ann", "eve"] < 0
        assert len(told["weeks"]) == 6 and told["weeks"][0]["week"] == "2026-W02"

    def test_ratings_are_compared_by_rank_and_corrections_by_words(self):
        def text(words, rating):
            return Answer(Verdict.INCORRECT, correction=words, cause=Cause.MODEL, ratings={"tone": rating})

        cast = [
            Vote(str(task), name, text(f"answer {task}", 1 + task % 5), BEGUN)
            for task in range(6)
            for name in ("ann", "ben")
        ]
        figures = {
            each["name"]: (each["measure"], each["figure"]["value"]) for each in self.told(cast)["questions"]
        }
        assert figures == {"tone": ("alpha, ordinal", 1), "correction": ("words shared, F1", 1)}

    def test_spans_are_compared_where_corrections_hold_them(self):
        cast = [
            Vote("1", name, Answer(Verdict.INCORRECT, correction=spans, cause=Cause.MODEL), BEGUN)
            for name, spans in (("ann", "a b"), ("ben", "b c"))
        ]
        [figure] = self.told(cast, spans_of=str.split)["questions"]
        assert (figure["measure"], figure["figure"]["value"]) == ("spans shared, F1", 0.5)

    def test_a_settlement_that_later_knowledge_doubts_is_named(self):
        cast = votes(said={"ann": true, "ben": true, "eve": wrong})
        outcomes = {"0": Outcome("cardiology", BEGUN, 5.0), "1": Outcome("cardiology", BEGUN, 7.0)}
        told = self.told(cast, outcomes=outcomes)
        assert list(told["doubtful"]) == ["0"]
        assert told["doubtful"]["0"] < 0.1
        assert (told["weeks"][0]["settled"], told["weeks"][0]["hours_waited"]) == (2, 6.0)
