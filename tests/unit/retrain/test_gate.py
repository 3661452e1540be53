"""The gate: it passes what is better, refuses what is worse, and says when it cannot tell."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.criteria import Criterion, Rules, WrongCriteria
from retrain.evidence import Role, SuiteAnswers, is_in_slice
from retrain.gate import Judgement, Verdict, judge, with_effort, with_outcomes, with_people
from retrain.intervals import wilson
from retrain.metrics import is_right
from retrain.metrics.judged import Judged, Known
from retrain.preference import preference
from retrain.types import Case, Message

BETTER = Criterion("accuracy", "routing")
RULES = Rules(max_loss={"general": 0.15})


def case(expected, check="label", **slices):
    return Case("case", "suite", (Message("user", "?"),), expected, check, slices)


def suite(name, role, cases, title, *, before, now):
    champion, challenger = (
        [Judged(case, "yes" if at < right else "no") for at, case in enumerate(cases)]
        for right in (before, now)
    )
    return SuiteAnswers(name, role, champion, challenger, title)


def routing(before, now, n=120, **slices):
    cases = [case("yes", **slices) for _ in range(n)]
    return suite("routing", Role.TARGET, cases, "routing to departments", before=before, now=now)


def general(before, now, n=40):
    cases = [case("yes", "contains") for _ in range(n)]
    return suite("general", Role.PROTECTED, cases, "general knowledge", before=before, now=now)


def verdict(*suites, criteria=(BETTER,), rules=RULES):
    return judge(criteria, rules, suites, seed=1)


def reason(judgement, rule):
    return next(each for each in judgement.reasons if each.rule == rule)


def test_thirty_points_on_120_cases_pass():
    found = verdict(routing(40, 76), general(40, 40))
    assert found.verdict is Verdict.PASSED
    assert found.sentence == (
        "Passed: accuracy on routing to departments is better: 40 of 120 before, 76 of 120 now; "
        "nothing got worse beyond its margin."
    )
    assert all(each.met for each in found.reasons)


def test_forgetting_refuses_what_is_better_elsewhere():
    found = verdict(routing(40, 76), general(40, 12))
    assert found.verdict is Verdict.REFUSED
    assert found.sentence == "Refused: it forgot general knowledge: 40 of 40 before, 12 of 40 now."
    lost = found.reasons[1]
    assert (lost.rule, lost.suite, lost.champion, lost.challenger) == ("loss", "general", 1.0, 0.3)
    assert (lost.margin, lost.met) == (0.15, False)


def test_a_small_loss_within_a_wide_margin_passes():
    assert verdict(routing(40, 76), general(40, 37)).verdict is Verdict.PASSED


def test_a_loss_that_may_exceed_the_margin_cannot_be_told():
    found = verdict(routing(40, 76), general(40, 36))
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.sentence == (
        "Cannot tell: it may have forgotten general knowledge: 40 of 40 before, 36 of 40 now; "
        "about 64 more cases are needed."
    )


def test_that_many_more_cases_would_have_been_enough():
    assert verdict(routing(40, 76), general(104, 94, n=104)).verdict is Verdict.PASSED


def test_a_loss_that_may_be_chance_cannot_be_told():
    assert verdict(routing(40, 76), general(4, 3, n=5)).verdict is Verdict.CANNOT_TELL


def test_one_refusal_outweighs_what_cannot_be_told_and_the_greatest_loss_is_named():
    other = replace(general(30, 20), suite="other", title="earlier corrections")
    doubtful = replace(general(40, 36), suite="doubtful")
    rules = Rules(max_loss={"general": 0.15, "doubtful": 0.15})
    found = verdict(routing(40, 76), other, doubtful, general(40, 12), rules=rules)
    assert found.sentence == (
        "Refused: it forgot general knowledge: 40 of 40 before, 12 of 40 now (and 1 more)."
    )


def test_three_cases_without_change_prove_nothing():
    assert verdict(routing(40, 76), general(3, 3, n=3)).verdict is Verdict.CANNOT_TELL


def test_no_improvement_is_refused():
    found = verdict(routing(60, 60))
    assert found.verdict is Verdict.REFUSED
    assert "is not better: 60 of 120 before, 60 of 120 now" in found.sentence


def test_an_improvement_that_may_be_chance_cannot_be_told():
    cases = [case("yes")] * 40
    noisy = SuiteAnswers(
        "routing",
        Role.TARGET,
        list(map(Judged, cases, ["yes", "no"] * 20)),
        list(map(Judged, cases, ["no"] * 18 + ["yes"] * 22)),
    )
    found = verdict(noisy, rules=Rules(default_loss=0.5))
    assert found.verdict is Verdict.CANNOT_TELL
    assert "may be better by chance" in found.sentence


def test_a_margin_must_be_beaten_with_evidence():
    criteria = [Criterion("accuracy", "routing", margin=0.25)]
    assert verdict(routing(40, 76), criteria=criteria).verdict is Verdict.CANNOT_TELL
    assert verdict(routing(40, 100), criteria=criteria).verdict is Verdict.PASSED
    assert verdict(routing(40, 60), criteria=criteria).verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("now", "expected"), [(120, Verdict.PASSED), (99, Verdict.CANNOT_TELL), (90, Verdict.REFUSED)]
)
@pytest.mark.parametrize("metric", ["accuracy", "rouge_l"])
def test_a_target_must_be_reached_at_the_low_end(metric, now, expected):
    criteria = [Criterion(metric, "routing", target=0.8)]
    assert verdict(routing(40, now), criteria=criteria).verdict is expected


def test_a_target_does_not_excuse_a_loss():
    criteria = [Criterion("accuracy", "routing", target=0.7)]
    found = verdict(routing(118, 100), criteria=criteria)
    assert found.verdict is Verdict.REFUSED
    assert "got worse at routing" in found.sentence


def test_one_more_missed_red_flag_is_refused_however_few_there_are():
    flags = replace(routing(4, 3, n=4, red_flag="chest pain"), suite="flags", title="urgent enquiries")
    found = verdict(routing(40, 76), flags, rules=Rules(max_loss={"flags": 1.0}))
    assert found.verdict is Verdict.REFUSED
    assert found.sentence == (
        "Refused: it gets fewer red flag cases of urgent enquiries right: 4 of 4 before, 3 of 4 now."
    )
    assert reason(found, "slice_loss").slice == "red_flag"


def test_a_slice_may_lose_what_its_margin_allows():
    flags = replace(routing(4, 3, n=4, red_flag="yes"), suite="flags")
    rules = Rules(max_loss={"flags": 1.0}, max_slice_loss={"red_flag": 0.25})
    assert verdict(routing(40, 76), flags, rules=rules).verdict is Verdict.PASSED


def test_a_criterion_can_be_about_a_slice():
    lay, clinical = routing(10, 60, n=60, register="lay"), routing(50, 50, n=60, register="clinical")
    both = replace(
        lay,
        champion=[*lay.champion, *clinical.champion],
        challenger=[*lay.challenger, *clinical.challenger],
    )
    found = verdict(both, criteria=[Criterion("accuracy", "routing", "register=lay")])
    assert found.verdict is Verdict.PASSED
    assert reason(found, "better").challenger == 1.0
    assert "(register=lay)" in found.sentence


@pytest.mark.parametrize("criterion", [Criterion("accuracy", "other"), Criterion("accuracy", "routing", "x")])
def test_a_criterion_without_cases_cannot_be_told(criterion):
    found = verdict(routing(40, 76), criteria=[criterion])
    assert found.verdict is Verdict.CANNOT_TELL
    assert "no cases" in found.sentence


def test_an_empty_suite_cannot_be_told():
    assert verdict(routing(40, 76), general(0, 0, n=0)).verdict is Verdict.CANNOT_TELL


def test_macro_f1_is_judged_by_bootstrap_and_needs_enough_cases():
    criteria = [Criterion("macro_f1", "routing")]
    assert verdict(routing(40, 76), criteria=criteria).verdict is Verdict.PASSED
    few = verdict(routing(4, 19, n=19), criteria=criteria)
    assert few.verdict is Verdict.CANNOT_TELL
    assert "about 1 more cases" in few.sentence or "about 2 more cases" in few.sentence


REROUTED = Criterion("rerouted", "outcomes", less_is_better=True)


@pytest.mark.parametrize(
    ("criterion", "now", "expected", "said"),
    [
        (REROUTED, wilson(40, 400), Verdict.PASSED, "Passed: nothing got worse beyond its margin; rerouted is better"),
        (REROUTED, wilson(8, 40), Verdict.CANNOT_TELL, "may be better by chance: 0.30 before, 0.20 now; about"),
        (REROUTED, wilson(160, 400), Verdict.REFUSED, "Refused: rerouted is not better: 0.30 before, 0.40 now."),
        (replace(REROUTED, less_is_better=False), wilson(160, 400), Verdict.PASSED, "rerouted is better"),
        (replace(REROUTED, target=0.2), wilson(40, 400), Verdict.PASSED, "rerouted reaches 0.20"),
        (replace(REROUTED, target=0.2), wilson(100, 400), Verdict.REFUSED, "rerouted does not reach 0.20"),
        (replace(REROUTED, target=0.2), wilson(7, 40), Verdict.CANNOT_TELL, "rerouted may reach 0.20 by chance"),
        (replace(REROUTED, metric="escalated"), wilson(0, 400), Verdict.CANNOT_TELL, "too few answers of both"),
    ],
)  # fmt: skip
def test_what_came_of_answers_in_use_can_be_a_criterion(criterion, now, expected, said):
    judged = verdict(routing(40, 40), criteria=[criterion])
    found = with_outcomes(judged, [criterion], {"rerouted": (wilson(120, 400), now)})
    assert found.verdict is expected
    assert said in found.sentence
    assert found.reasons[-1].suite == "outcomes"


def test_outcomes_excuse_no_loss():
    reported = {"rerouted": (wilson(120, 400), wilson(40, 400))}
    found = with_outcomes(verdict(routing(118, 90), criteria=[REROUTED]), [REROUTED], reported)
    assert found.verdict is Verdict.REFUSED


def test_a_gate_without_criteria_is_refused():
    with pytest.raises(WrongCriteria):
        verdict(routing(40, 76), criteria=[])


def test_answers_that_do_not_fit_their_cases_are_an_error():
    found = routing(40, 76)
    with pytest.raises(ValueError, match="longer"):
        replace(found, champion=found.champion[:1])
    other = Judged(replace(case("yes"), key="another"), "yes")
    with pytest.raises(ValueError, match="'another' is paired"):
        replace(found, champion=[other, *found.champion[1:]])


def test_each_case_is_judged_by_its_own_check():
    assert is_right(Judged(case("Paris", "contains"), "It is paris."))
    assert is_right(Judged(case("Take two.", "exact"), "take  two."))
    assert not is_right(Judged(case("eyes", "label"), "Eyes"))


@pytest.mark.parametrize(
    ("slices", "name", "is_in"),
    [
        ({"red_flag": "stroke"}, "red_flag", True),
        ({"red_flag": "No"}, "red_flag", False),
        ({}, "red_flag", False),
        ({"register": "lay"}, "register=lay", True),
        ({"register": "lay"}, "register=clinical", False),
        ({"register": "lay"}, "register", True),
    ],
)
def test_a_slice_is_a_name_or_a_name_and_its_value(slices, name, is_in):
    assert is_in_slice(case("x", **slices), name) is is_in


def test_a_verdict_repeats_with_its_seed():
    suites = [routing(40, 76), general(40, 37)]
    criteria = [Criterion("macro_f1", "routing"), BETTER]
    assert judge(criteria, RULES, suites, seed=3) == judge(criteria, RULES, suites, seed=3)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 120))
def test_what_is_worse_everywhere_never_passes(seed, right):
    order = random.Random(seed).sample(range(120), 120)
    suite = routing(right, max(0, right - 1))
    shuffled = replace(suite, challenger=[suite.challenger[index] for index in order])
    assert verdict(shuffled).verdict is not Verdict.PASSED


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_more_right_answers_never_worsen_the_verdict(before, now):
    order = [Verdict.REFUSED, Verdict.CANNOT_TELL, Verdict.PASSED]
    found = [verdict(routing(40, 76), general(before, each)).verdict for each in (now, min(now + 1, 40))]
    assert order.index(found[0]) <= order.index(found[1])


PASSED = Judgement(Verdict.PASSED, "Passed: better; nothing got worse beyond its margin.", ())
UNSURE = Judgement(Verdict.CANNOT_TELL, "Cannot tell: too few cases.", ())


@pytest.mark.parametrize(
    ("machines", "votes", "expected", "said"),
    [
        (PASSED, (30, 5), Verdict.PASSED, "people prefer it in 30"),
        (PASSED, (200, 200), Verdict.PASSED, "no difference that matters"),
        (PASSED, (5, 30), Verdict.REFUSED, "Refused: people prefer it in 5"),
        (PASSED, (3, 2), Verdict.CANNOT_TELL, "decides nothing yet"),
        (UNSURE, (30, 5), Verdict.CANNOT_TELL, "too few cases"),
        (UNSURE, (5, 30), Verdict.REFUSED, "Refused: people prefer it in 5"),
    ],
)
def test_the_harder_verdict_of_people_and_machines_counts(machines, votes, expected, said):
    judged = with_people(machines, preference(*votes))
    assert judged.verdict is expected and said in judged.sentence
    assert [reason.rule for reason in judged.reasons] == ["preferred"]


@pytest.mark.parametrize(
    ("validating", "hours", "expected"),
    [(0.3, 10, Verdict.PASSED), (0.2, 10, Verdict.CANNOT_TELL), (0.0, 0.5, Verdict.PASSED)],
)
def test_enough_of_the_time_goes_into_validation_once_there_is_enough_of_it(validating, hours, expected):
    spent = hours * 3600
    wanted = Rules(min_validation_share=0.25)
    judged = with_effort(PASSED, wanted, validating=validating * spent, spent=spent)
    assert judged.verdict is expected
    assert with_effort(PASSED, Rules(), validating=0, spent=spent) is PASSED


def misdirecting(before, now, n=120):
    """So many of n labels are wrong before, and so many now."""
    return suite("routing", Role.TARGET, [case("yes")] * n, "routing", before=n - before, now=n - now)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(60, 20, Verdict.PASSED), (60, 58, Verdict.CANNOT_TELL), (60, 60, Verdict.REFUSED)],
)
def test_of_what_is_better_when_less_the_challenger_must_have_less(before, now, expected):
    found = verdict(misdirecting(before, now), criteria=[Criterion("misdirection", "routing")])
    assert found.verdict is expected
    better = reason(found, "better")
    assert (better.champion, better.challenger) == (before / 120, now / 120)
    assert better.low <= better.challenger - better.champion <= better.high


@pytest.mark.parametrize(
    ("now", "expected"), [(2, Verdict.PASSED), (9, Verdict.CANNOT_TELL), (30, Verdict.REFUSED)]
)
def test_a_target_of_what_is_better_when_less_bounds_it_from_above(now, expected):
    criteria = [Criterion("misdirection", "routing", target=0.1)]
    assert verdict(misdirecting(30, now), criteria=criteria).verdict is expected


@pytest.mark.parametrize(
    ("before", "now", "expected"), [(0.2, 0.9, Verdict.PASSED), (0.9, 0.2, Verdict.REFUSED)]
)
def test_a_mean_that_is_better_when_less_is_judged_by_bootstrap(before, now, expected):
    """An answer of which a share repeats itself; the champion's repeats in all the other cases."""
    loop, sense = "call us now please " * 4, "please call the clinic before you come by"
    cases = [replace(case("x", "complies"), key=str(at)) for at in range(60)]
    champion, challenger = (
        [Judged(each, sense if at < share * 60 else loop) for at, each in enumerate(cases)]
        for share in (before, now)
    )
    answered = SuiteAnswers("chat", Role.TARGET, champion, challenger)
    assert verdict(answered, criteria=[Criterion("repetition", "chat")]).verdict is expected


def test_a_metric_that_fails_on_one_row_refuses_and_names_it():
    good = routing(40, 76)
    torn = replace(good.challenger[5], probabilities={"other": 1.0})
    broken = replace(good, challenger=[*good.challenger[:5], torn, *good.challenger[6:]])
    criteria = [BETTER, Criterion("misdirection", "routing")]
    assert verdict(good, criteria=criteria).verdict is Verdict.PASSED
    found = verdict(broken, criteria=criteria)
    assert found.verdict is Verdict.REFUSED
    assert "metric misdirection failed on case 'case'" in found.sentence


@pytest.mark.parametrize("metric", ["groundedness", "cost", "calibration_error"])
def test_a_metric_that_applies_to_no_case_decides_nothing(metric):
    found = verdict(routing(40, 76), criteria=[BETTER, Criterion(metric, "routing")])
    assert found.verdict is Verdict.CANNOT_TELL
    assert f"no cases of routing to judge by {metric.replace('_', ' ')}" in found.sentence


def calibrated(n, sure):
    """Right in three of four cases, where the champion is always sure of it and the challenger as said."""
    cases = [replace(case("yes"), key=str(at)) for at in range(n)]
    champion, challenger = (
        [Judged(one, "yes" if at % 4 else "no", probabilities=dict.fromkeys(("yes", "no"), chance))
         for at, one in enumerate(cases)]
        for chance in (1.0, sure)
    )  # fmt: skip
    return SuiteAnswers("routing", Role.TARGET, champion, challenger)


@pytest.mark.parametrize(
    ("n", "sure", "expected"),
    [
        (120, 0.75, Verdict.PASSED),
        (120, 1.0, Verdict.REFUSED),
        (8, 0.75, Verdict.CANNOT_TELL),
    ],
)
def test_being_as_sure_as_it_is_right_may_be_a_criterion(n, sure, expected):
    rules = Rules(default_loss=0.5)
    found = verdict(calibrated(n, sure), criteria=[Criterion("calibration_error", "routing")], rules=rules)
    assert found.verdict is expected
    assert reason(found, "better").metric == "calibration_error"


@pytest.mark.parametrize(("dear", "expected"), [(1, Verdict.PASSED), (50, Verdict.REFUSED)])
def test_what_a_wrong_label_costs_decides_between_equally_many_mistakes(dear, expected):
    """The challenger makes fewer mistakes, all of which may be dear."""
    cases = [replace(case("yes"), key=str(at)) for at in range(120)]
    champion = [Judged(one, "maybe" if at < 60 else "yes") for at, one in enumerate(cases)]
    challenger = [Judged(one, "no" if at < 20 else "yes") for at, one in enumerate(cases)]
    answered = SuiteAnswers("routing", Role.TARGET, champion, challenger)
    known = Known(costs={("yes", "no"): float(dear)})
    found = judge([Criterion("cost", "routing")], RULES, [answered], seed=1, known=known)
    assert found.verdict is expected


@pytest.mark.parametrize(
    ("role", "expected"), [(Role.BEHAVIOUR, Verdict.PASSED), (Role.PROTECTED, Verdict.CANNOT_TELL)]
)
def test_a_behaviour_of_few_cases_has_a_margin_of_its_own(role, expected):
    cases = [case("yes") for _ in range(32)]
    behaviour = suite("sarcasm", role, cases, "sarcasm", before=32, now=30)
    assert verdict(routing(40, 76), behaviour).verdict is expected
