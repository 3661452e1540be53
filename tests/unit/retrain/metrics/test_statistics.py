"""Metrics against scikit-learn, SciPy and published values; intervals against simulation."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import binom, binomtest
from sklearn.metrics import accuracy_score, f1_score

from retrain.errors import EmptySplit, UnknownMetric
from retrain.intervals import mean, wilson
from retrain.metrics import METRICS, metric_named
from retrain.metrics.judged import Judged
from retrain.metrics.statistics import measure, paired_bootstrap, paired_rates
from retrain.types import Case, Message

LABELS = st.sampled_from(["eyes", "heart", "skin", "never mind"])
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)


def judged(expected, answers):
    return [
        Judged(Case(str(at), "suite", (Message("user", "?"),), wanted, "exact"), answer)
        for at, (wanted, answer) in enumerate(zip(expected, answers, strict=True))
    ]


def score(name, expected, answers):
    return METRICS[name].score(judged(expected, answers))


@settings(deadline=None, max_examples=30)
@given(PAIRS)
def test_macro_f1_and_accuracy_are_those_of_scikit_learn(pairs):
    expected, answers = zip(*pairs, strict=True)
    f1 = f1_score(expected, answers, average="macro", zero_division=0)
    assert score("macro_f1", expected, answers) == pytest.approx(f1)
    assert score("accuracy", expected, answers) == pytest.approx(accuracy_score(expected, answers))


@settings(deadline=None, max_examples=30)
@given(PAIRS, st.integers(0, 100))
def test_a_resampled_macro_f1_is_that_of_the_resampled_cases(pairs, seed):
    expected, answers = map(list, zip(*pairs, strict=True))
    counts = np.random.default_rng(seed).multinomial(len(pairs), [1 / len(pairs)] * len(pairs))
    drawn = [pair for pair, count in zip(pairs, counts, strict=True) for _ in range(count)]
    metric = METRICS["macro_f1"]
    resampled = metric.combine(counts[None] @ metric.cells(judged(expected, answers)), counts.sum())
    assert resampled[0] == pytest.approx(score("macro_f1", *zip(*drawn, strict=True)))


def test_exact_match_forgives_case_and_spacing_only():
    expected, answers = ["Two  tablets."] * 3, ["two tablets. ", "Two tablets", "Three tablets."]
    assert score("exact_match", expected, answers) == pytest.approx(1 / 3)


def test_a_mean_lies_in_its_interval_as_often_as_it_says():
    """Skewed values, as minutes are."""
    draw = np.random.default_rng(0)
    found = [mean(draw.exponential(10, size=40).tolist(), seed=at, resamples=200) for at in range(100)]
    assert 0.88 <= np.mean([each.low <= 10 <= each.high for each in found]) <= 0.98
    narrow = [
        mean(draw.exponential(10, size=40).tolist(), seed=0, resamples=200, confidence=0.5) for _ in found
    ]
    assert np.mean([each.low <= 10 <= each.high for each in narrow]) < 0.7


def test_a_mean_of_zeros_and_ones_is_a_share():
    assert mean([0.0, 1.0, 0.0, 0.0, 0.0], seed=0) == wilson(1, 5)
    assert mean([0.0, 0.0, 0.0], seed=0).high > 0.4
    with pytest.raises(EmptySplit):
        mean([], seed=0)


@pytest.mark.parametrize(
    ("key", "answer", "is_right"),
    [
        ("Paris", "It is PARIS.", True),
        ("4", "44", False),
        ("4", "2 + 2 = 4!", True),
        ("New York", "new-york", True),
        ("New York", "a new city, York", False),
        ("cat", "concatenate", False),
        ("Zürich", "in ZÜRICH", True),
    ],
)
def test_a_key_is_contained_as_whole_words(key, answer, is_right):
    assert score("contains_key", [key], [answer]) == is_right


def test_rouge_l_is_that_of_its_published_example():
    assert score("rouge_l", ["police killed the gunman"], ["police kill the gunman"]) == 0.75
    assert score("rouge_l", ["police killed the gunman"], ["the gunman kill police"]) == 0.5


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", ".", "d-e", "5"]), max_size=9), st.integers(0, 99))
def test_rouge_l_is_that_of_its_package_on_plain_text(words, seed):
    other = random.Random(seed).sample(words, len(words))
    theirs = RougeScorer(["rougeL"]).score(" ".join(words), " ".join(other))["rougeL"].fmeasure
    assert score("rouge_l", [" ".join(words)], [" ".join(other)]) == pytest.approx(theirs)


def test_rouge_l_reads_other_scripts():
    assert score("rouge_l", ["две таблетки"], ["две таблетки"]) == 1.0


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(35, 40, 0.74, 0.95), (88, 100, 0.80, 0.93), (368, 400, 0.89, 0.94), (0, 10, 0.0, 0.278)],
)
def test_wilson_gives_known_limits(successes, n, low, high):
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.005)


def test_wilson_gives_newcombes_example():
    """81 of 263: Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(case):
    successes, n = case
    theirs = binomtest(successes, n).proportion_ci(confidence_level=0.9, method="wilson")
    found = wilson(successes, n, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_paired_rates_follow_their_formula():
    found = paired_rates(0, 3, 40, confidence=0.9)
    assert found.difference == -0.075
    assert (found.low, found.high) == pytest.approx((-0.14763, 0.00477), abs=1e-4)


def test_few_cases_without_change_prove_little():
    assert paired_rates(0, 0, 3).low < -0.3
    assert paired_rates(0, 0, 300).low > -0.01


@pytest.mark.parametrize(("gain", "loss", "n"), [(0.3, 0.1, 120), (0.02, 0.1, 40), (0.05, 0.05, 40)])
def test_paired_rates_cover_the_truth_within_two_points_of_what_they_say(gain, loss, n):
    draws = np.random.default_rng(1).multinomial(n, [gain, loss, 1 - gain - loss], size=4000)
    found = [paired_rates(gained, lost, n, confidence=0.9) for gained, lost, _ in draws.tolist()]
    assert sum(each.low <= gain - loss <= each.high for each in found) / 4000 >= 0.88


def test_a_loss_as_big_as_the_margin_is_seldom_taken_for_less():
    for n, often in ((40, 0.131), (120, 0.076), (300, 0.060)):
        passing = [lost for lost in range(n) if paired_rates(0, lost, n, confidence=0.9).low > -0.15]
        assert binom.cdf(max(passing), n, 0.15) < often


def both(expected, champion, challenger):
    return judged(expected, champion), judged(expected, challenger)


def answers_of(n, share, seed):
    rng = random.Random(seed)
    expected = [rng.choice("abcdefghijkl") for _ in range(n)]
    return expected, [label if rng.random() < share else rng.choice("abcdefghijkl") for label in expected]


def test_a_bootstrap_interval_is_near_the_exact_one():
    expected, answers = answers_of(300, 0.7, 1)
    found, exact = (
        measure(judged(expected, answers), "token_f1", seed=1),
        score("accuracy", expected, answers),
    )
    limits = wilson(exact * 300, 300)
    assert (found.value, found.n) == (exact, 300)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=0.015)


def test_a_paired_bootstrap_is_near_the_exact_interval():
    expected, champion = answers_of(300, 0.4, 1)
    _, challenger = answers_of(300, 0.7, 1)
    found = paired_bootstrap(*both(expected, champion, challenger), "accuracy", seed=1)
    before, now = (METRICS["accuracy"].cells(each)[:, 0] for each in both(expected, champion, challenger))
    exact = paired_rates(int(((now - before) > 0).sum()), int(((before - now) > 0).sum()), 300)
    assert found.difference == pytest.approx(exact.difference)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.015)


def test_equal_answers_differ_by_nothing():
    expected, answers = answers_of(50, 0.5, 2)
    found = paired_bootstrap(*both(expected, answers, answers), "macro_f1", seed=1)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_the_same_seed_gives_the_same_interval():
    expected, answers = answers_of(80, 0.5, 2)
    first, again, other = (measure(judged(expected, answers), "macro_f1", seed=seed) for seed in (4, 4, 5))
    assert first == again != other


def test_a_paired_bootstrap_of_300_cases_takes_less_than_a_second():
    expected, champion = answers_of(300, 0.4, 1)
    _, challenger = answers_of(300, 0.7, 1)
    started = time.process_time()
    paired_bootstrap(*both(expected, champion, challenger), "macro_f1", seed=1)
    assert time.process_time() - started < 1


def test_no_cases_and_unknown_metrics_are_refused():
    for judge in (lambda: score("accuracy", [], []), lambda: wilson(0, 0), lambda: paired_rates(0, 0, 0)):
        with pytest.raises(EmptySplit):
            judge()
    with pytest.raises(EmptySplit):
        measure([], "rouge_l", seed=1)
    with pytest.raises(UnknownMetric, match="'bleu'"):
        metric_named("bleu")
