"""Judges a challenger against the champion by criteria and by what it lost, in one plain sentence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from retrain import evidence
from retrain.criteria import OUTCOMES, Criterion, Rules, WrongCriteria
from retrain.errors import EmptySplit, MetricFailed
from retrain.evidence import NO_EVIDENCE, Evidence, Role, SuiteAnswers
from retrain.intervals import Interval
from retrain.metrics.judged import NOTHING, Known
from retrain.preference import Preference, Preferred

HOUR = 3600


class Verdict(StrEnum):
    """What the gate says; only a challenger that passed may be approved."""

    PASSED = "passed"
    REFUSED = "refused"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule and what came of it; `champion` and `challenger` are their scores.

    Rules: `better` and `target` are criteria; `loss` and `slice_loss` forbid losing more than `margin`; `preferred`
    is how often people took which answer where they saw a difference, `effort` which share of people's time went into
    validation. `low` and `high` bound challenger - champion; for `target` they bound the challenger's own score, and
    `margin` is the target. Of a metric of which less is better, a gain is a negative difference. `metric` is that of a
    criterion.
    """

    rule: str
    suite: str
    slice: str | None
    champion: float
    challenger: float
    low: float
    high: float
    margin: float
    met: bool
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, its sentence for people, and every rule's outcome."""

    verdict: Verdict
    sentence: str
    reasons: tuple[Reason, ...]


def judge(
    criteria: Sequence[Criterion],
    rules: Rules,
    suites: Sequence[SuiteAnswers],
    *,
    seed: int,
    known: Known = NOTHING,
) -> Judgement:
    """Hold a challenger's answers against criteria and rules; a criterion whose metric fails on a case refuses.

    One refusal refuses; else one rule that the cases cannot decide makes the verdict `cannot_tell`. Intervals
    are not widened for the number of rules: all must hold at once, so that more rules make passing harder. Criteria of
    outcomes are left to `with_outcomes`.

    Raises:
        WrongCriteria: there is no criterion.
    """
    if not criteria:
        raise WrongCriteria("a challenger is judged by at least one success criterion")
    outcomes = [_lost(suite, rules) for suite in suites]
    outcomes += [each for suite in suites for each in _slices_lost(suite, rules)]
    outcomes += [
        _succeeds(criterion, suites, rules=rules, seed=seed, known=known)
        for criterion in criteria
        if criterion.suite != OUTCOMES
    ]
    found = {outcome.verdict for outcome in outcomes}
    verdict = next(each for each in (Verdict.REFUSED, Verdict.CANNOT_TELL, Verdict.PASSED) if each in found)
    return Judgement(verdict, _sentence(verdict, outcomes), tuple(outcome.reason for outcome in outcomes))


def with_people(judged: Judgement, found: Preference) -> Judgement:
    """Add what people prefer to what machines judged."""
    return _joined(judged, _preferred(found))


def with_effort(judged: Judgement, rules: Rules, *, validating: float, spent: float) -> Judgement:
    """Add whether enough of the seconds that people spent went into validation, once they are enough to tell."""
    if not rules.min_validation_share or spent < rules.min_effort_hours * HOUR:
        return judged
    share, wanted = validating / spent, rules.min_validation_share
    text = f"people spent {share:.0%} of {spent / HOUR:.0f} hours on validation"
    is_met = share >= wanted
    words = (
        text if is_met else f"{text}, of {wanted:.0%} that are wanted: test it, or note time spent elsewhere"
    )
    spent_so = Evidence(0.0, share, share, share, n=0, words=words, low_at=lambda _: share)
    verdict = Verdict.PASSED if is_met else Verdict.CANNOT_TELL
    where = ("people", None)
    return _joined(judged, _outcome("effort", where, spent_so, margin=wanted, verdict=verdict, text=words))


def with_outcomes(
    judged: Judgement, criteria: Sequence[Criterion], reported: Mapping[str, tuple[Interval, Interval]]
) -> Judgement:
    """Add what came of both models' answers in use, (the champion's, the challenger's) by name, where criteria ask."""
    for criterion in criteria:
        if criterion.suite == OUTCOMES:
            judged = _joined(judged, _came_of(criterion, reported.get(criterion.metric)))
    return judged


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A rule's reason, what it makes of the verdict, how to say so, and how much better the challenger is."""

    reason: Reason
    verdict: Verdict
    text: str
    gain: float


def _lost(suite: SuiteAnswers, rules: Rules) -> _Outcome:
    """Judge whether a suite's share of right answers may have fallen by more than its margin."""
    usual = rules.behaviour_loss if suite.role is Role.BEHAVIOUR else rules.default_loss
    margin = rules.max_loss.get(suite.suite, usual)
    if not suite.cases:
        return _without_cases("loss", (suite.suite, None), margin)
    found = evidence.counted(suite, rules)
    if found.low > -margin:
        verdict, text = Verdict.PASSED, ""
    elif found.challenger - found.champion < -margin and found.high < 0:
        verdict = Verdict.REFUSED
        text = (
            f"it {'forgot' if suite.role is Role.PROTECTED else 'got worse at'} {suite.name}: {found.words}"
        )
    else:
        verdict = Verdict.CANNOT_TELL
        verb = "forgotten" if suite.role is Role.PROTECTED else "got worse at"
        text = f"it may have {verb} {suite.name}: {found.words}; {evidence.more_cases(found, -margin)}"
    return _outcome("loss", (suite.suite, None), found, margin=margin, verdict=verdict, text=text)


def _slices_lost(suite: SuiteAnswers, rules: Rules) -> Iterator[_Outcome]:
    """Count, in each guarded slice that the suite has cases of, how many more are wrong."""
    for name, margin in rules.max_slice_loss.items():
        chosen = evidence.chosen(suite, name)
        if chosen.cases:
            found = evidence.counted(chosen, rules)
            is_met = found.challenger >= found.champion - margin - 1e-9
            verdict = Verdict.PASSED if is_met else Verdict.REFUSED
            cases = f"{name.replace('_', ' ')} cases of {suite.name}"
            text = "" if is_met else f"it gets fewer {cases} right: {found.words}"
            yield _outcome(
                "slice_loss", (suite.suite, name), found, margin=margin, verdict=verdict, text=text
            )


def _succeeds(
    criterion: Criterion, suites: Sequence[SuiteAnswers], rules: Rules, seed: int, known: Known
) -> _Outcome:
    """Judge one criterion; what its metric cannot judge has no cases, and what it fails on is refused."""
    suite = next(
        (evidence.chosen(each, criterion.slice) for each in suites if each.suite == criterion.suite), None
    )
    where, metric = (criterion.suite, criterion.slice), criterion.metric
    rule, wanted = _asked(criterion)
    if suite is None or not suite.cases:
        return _without_cases(rule, where, wanted, metric)
    try:
        if criterion.target is None:
            found = evidence.compared(metric, suite, rules, seed, known)
            return _beats(criterion, _named(criterion, suite), found)
        found = evidence.measured(metric, suite, rules, seed, known)
        return _reaches(criterion, criterion.target, _named(criterion, suite), found)
    except EmptySplit:
        return _without_cases(rule, where, wanted, metric)
    except MetricFailed as failure:
        verdict, text = Verdict.REFUSED, str(failure)
        return _outcome(rule, where, NO_EVIDENCE, margin=wanted, verdict=verdict, text=text, metric=metric)


def _asked(criterion: Criterion) -> tuple[str, float]:
    """Return the rule that a criterion is, and its margin or target."""
    return ("better", criterion.margin) if criterion.target is None else ("target", criterion.target)


def _came_of(criterion: Criterion, reported: tuple[Interval, Interval] | None) -> _Outcome:
    """Judge one criterion by what the host reported of both models' answers."""
    name = criterion.metric.replace("_", " ")
    if reported is None:
        rule, wanted = _asked(criterion)
        missing = _without_cases(rule, (OUTCOMES, None), wanted, criterion.metric)
        text = f"too few answers of both versions have the outcome {name}: let some users have the new one's"
        return replace(missing, text=f"{text}, report what came of them, and judge it again")
    sign = -1 if criterion.less_is_better else 1
    if criterion.target is None:
        return _beats(criterion, name, evidence.came_of(*reported, sign=sign))
    return _reaches(criterion, criterion.target, name, evidence.came_of(*reported, sign=sign, is_alone=True))


def _beats(criterion: Criterion, named: str, found: Evidence) -> _Outcome:
    """Judge whether the challenger is better than the champion by more than the margin."""
    margin = criterion.margin
    if found.low_at(1) > margin:
        verdict, text = Verdict.PASSED, f"{named} is better: {found.words}"
    elif found.gain <= margin:
        verdict, text = Verdict.REFUSED, f"{named} is not {'enough ' if margin else ''}better: {found.words}"
    else:
        more = evidence.more_cases(found, margin)
        verdict, text = Verdict.CANNOT_TELL, f"{named} may be better by chance: {found.words}; {more}"
    where, metric = (criterion.suite, criterion.slice), criterion.metric
    return _outcome("better", where, found, margin=margin, verdict=verdict, text=text, metric=metric)


def _reaches(criterion: Criterion, target: float, named: str, found: Evidence) -> _Outcome:
    """Judge whether the challenger's own score is at the target or better."""
    wanted = found.sign * target
    if found.low_at(1) >= wanted:
        verdict, text = Verdict.PASSED, f"{named} reaches {target:.2f}: {found.words}"
    elif found.sign * found.challenger < wanted:
        verdict, text = Verdict.REFUSED, f"{named} does not reach {target:.2f}: {found.words}"
    else:
        more = evidence.more_cases(found, wanted)
        verdict, text = (
            Verdict.CANNOT_TELL,
            f"{named} may reach {target:.2f} by chance: {found.words}; {more}",
        )
    where, metric = (criterion.suite, criterion.slice), criterion.metric
    return _outcome("target", where, found, margin=target, verdict=verdict, text=text, metric=metric)


def _joined(judged: Judgement, outcome: "_Outcome") -> Judgement:
    """Add a rule's outcome; the harder verdict counts, and its sentence."""
    order = (Verdict.REFUSED, Verdict.CANNOT_TELL, Verdict.PASSED)
    verdict = min(judged.verdict, outcome.verdict, key=order.index)
    sentence = judged.sentence if verdict is judged.verdict else _sentence(outcome.verdict, [outcome])
    if verdict is Verdict.PASSED:
        sentence = f"{judged.sentence.rstrip('.')}; {outcome.text}."
    return Judgement(verdict, sentence, (*judged.reasons, outcome.reason))


def _preferred(found: Preference) -> _Outcome:
    """Judge whether people would rather keep the champion."""
    words = f"people prefer it in {found.wins} and the champion in {found.losses} of {found.n} comparisons"
    text, verdict = {
        Preferred.CHALLENGER: (words, Verdict.PASSED),
        Preferred.EQUAL: (f"{words}, which is no difference that matters", Verdict.PASSED),
        Preferred.CHAMPION: (words, Verdict.REFUSED),
        Preferred.OPEN: (f"{words}, which decides nothing yet", Verdict.CANNOT_TELL),
    }[found.preferred]
    rates = Evidence(
        champion=1 - found.rate,
        challenger=found.rate,
        low=2 * found.low - 1,
        high=2 * found.high - 1,
        n=found.n,
        words=words,
        low_at=lambda _: -1.0,
    )
    return _outcome("preferred", ("test", None), rates, margin=0.0, verdict=verdict, text=text)


def _named(criterion: Criterion, suite: SuiteAnswers) -> str:
    cases = f" ({criterion.slice.replace('_', ' ')})" if criterion.slice else ""
    return f"{criterion.metric.replace('_', ' ')} on {suite.name}{cases}"


def _outcome(
    rule: str,
    where: tuple[str, str | None],
    found: Evidence,
    *,
    margin: float,
    verdict: Verdict,
    text: str,
    metric: str = "",
) -> _Outcome:
    reason = Reason(
        rule=rule,
        suite=where[0],
        slice=where[1],
        champion=found.champion,
        challenger=found.challenger,
        low=found.low,
        high=found.high,
        margin=margin,
        met=verdict is Verdict.PASSED,
        metric=metric,
    )
    return _Outcome(reason, verdict, text, found.gain)


def _without_cases(rule: str, where: tuple[str, str | None], margin: float, metric: str = "") -> _Outcome:
    """Decide nothing: both scores are 0 and the limits open."""
    text = f"there are no cases of {' '.join(filter(None, where))} to judge by"
    text += f" {metric.replace('_', ' ')}" if metric else ""
    verdict = Verdict.CANNOT_TELL
    return _outcome(rule, where, NO_EVIDENCE, margin=margin, verdict=verdict, text=text, metric=metric)


def _sentence(verdict: Verdict, outcomes: Sequence[_Outcome]) -> str:
    """Say the verdict and what decided it, the greatest loss first."""
    decisive = [each for each in outcomes if each.verdict is verdict and each.text]
    texts = [each.text for each in sorted(decisive, key=lambda it: it.gain)]
    if verdict is Verdict.PASSED:
        return f"Passed: {'; '.join([*texts, 'nothing got worse beyond its margin'])}."
    also = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return f"{'Refused' if verdict is Verdict.REFUSED else 'Cannot tell'}: {texts[0]}{also}."
