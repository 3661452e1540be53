"""Judges a challenger against the champion by criteria and by what it lost, in one plain sentence."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from retrain.criteria import Criterion, Rules, WrongCriteria
from retrain.intervals import wilson
from retrain.metrics import METRICS, bootstrap, metric_named, paired_bootstrap, paired_rates
from retrain.types import Case

_RIGHTS = {"label": "accuracy", "exact": "exact_match", "contains": "contains_key"}
_NO = {"", "no", "false", "0"}


class Verdict(StrEnum):
    """What the gate says; only a challenger that passed may be approved."""

    PASSED = "passed"
    REFUSED = "refused"
    CANNOT_TELL = "cannot_tell"


class Role(StrEnum):
    """Whether a suite holds what training is for, or what training must not cost."""

    TARGET = "target"
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class SuiteAnswers:
    """Both models' answers to a suite's cases, in their order; `title` is what people call the suite."""

    suite: str
    role: Role
    cases: Sequence[Case]
    champion: Sequence[str]
    challenger: Sequence[str]
    title: str = ""

    @property
    def name(self) -> str:
        """What the sentence calls this suite."""
        return self.title or self.suite


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule and what came of it; `champion` and `challenger` are their scores.

    Rules: `better` and `target` are criteria; `loss` and `slice_loss` forbid losing more than `margin`. `low`
    and `high` bound challenger - champion; for `target` they bound the challenger's own score, and `margin`
    is the target.
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


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, its sentence for people, and every rule's outcome."""

    verdict: Verdict
    sentence: str
    reasons: tuple[Reason, ...]


def judge(
    criteria: Sequence[Criterion], rules: Rules, suites: Sequence[SuiteAnswers], *, seed: int
) -> Judgement:
    """Hold a challenger's answers against criteria and rules.

    One refusal refuses; else one rule that the cases cannot decide makes the verdict `cannot_tell`. Intervals
    are not widened for the number of rules: all must hold at once, so that more rules make passing harder.

    Raises:
        WrongCriteria: there is no criterion.
    """
    if not criteria:
        raise WrongCriteria("a challenger is judged by at least one success criterion")
    outcomes = [_lost(suite, rules) for suite in suites]
    outcomes += [each for suite in suites for each in _slices_lost(suite, rules)]
    outcomes += [_succeeds(criterion, suites, rules=rules, seed=seed) for criterion in criteria]
    found = {outcome.verdict for outcome in outcomes}
    verdict = next(each for each in (Verdict.REFUSED, Verdict.CANNOT_TELL, Verdict.PASSED) if each in found)
    return Judgement(verdict, _sentence(verdict, outcomes), tuple(outcome.reason for outcome in outcomes))


def is_right(case: Case, answer: str) -> bool:
    """Tell whether an answer is right in the way its case's `check` means it."""
    return METRICS[_RIGHTS[case.check]].score([case.expected], [answer]) == 1


def is_in_slice(case: Case, name: str) -> bool:
    """Tell whether a case is in the slice `name=value`, or in `name` by any value that does not say no."""
    key, equals, value = name.partition("=")
    found = case.slices.get(key, "")
    return found == value if equals else found.casefold() not in _NO


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A rule's reason, what it makes of the verdict, and how to say so."""

    reason: Reason
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Both scores on n cases, the limits of what is judged, and these in words.

    `low_at(k)` is the low limit that k times as many cases of the same kind would give.
    """

    champion: float
    challenger: float
    low: float
    high: float
    n: int
    words: str
    low_at: Callable[[float], float]


def _lost(suite: SuiteAnswers, rules: Rules) -> _Outcome:
    """Judge whether a suite's share of right answers may have fallen by more than its margin."""
    margin = rules.max_loss.get(suite.suite, rules.default_loss)
    if not suite.cases:
        return _without_cases("loss", (suite.suite, None), margin)
    found = _counted(suite, rules)
    is_target = suite.role is Role.TARGET
    if found.low > -margin:
        verdict, text = Verdict.PASSED, ""
    elif found.challenger - found.champion < -margin and found.high < 0:
        verdict = Verdict.REFUSED
        text = f"it {'got worse at' if is_target else 'forgot'} {suite.name}: {found.words}"
    else:
        verdict = Verdict.CANNOT_TELL
        verb = "got worse at" if is_target else "forgotten"
        text = f"it may have {verb} {suite.name}: {found.words}; {_more_cases(found, -margin)}"
    return _outcome("loss", (suite.suite, None), found, margin=margin, verdict=verdict, text=text)


def _slices_lost(suite: SuiteAnswers, rules: Rules) -> Iterator[_Outcome]:
    """Count, in each guarded slice that the suite has cases of, how many more are wrong."""
    for name, margin in rules.max_slice_loss.items():
        chosen = _chosen(suite, name)
        if chosen.cases:
            found = _counted(chosen, rules)
            is_met = found.challenger >= found.champion - margin - 1e-9
            verdict = Verdict.PASSED if is_met else Verdict.REFUSED
            cases = f"{name.replace('_', ' ')} cases of {suite.name}"
            text = "" if is_met else f"it gets fewer {cases} right: {found.words}"
            yield _outcome(
                "slice_loss", (suite.suite, name), found, margin=margin, verdict=verdict, text=text
            )


def _succeeds(criterion: Criterion, suites: Sequence[SuiteAnswers], rules: Rules, seed: int) -> _Outcome:
    """Judge one criterion."""
    suite = next((_chosen(each, criterion.slice) for each in suites if each.suite == criterion.suite), None)
    if suite is None or not suite.cases:
        rule, wanted = (
            ("better", criterion.margin) if criterion.target is None else ("target", criterion.target)
        )
        return _without_cases(rule, (criterion.suite, criterion.slice), wanted)
    if criterion.target is None:
        return _beats(criterion, suite, rules, seed)
    return _reaches(criterion, criterion.target, suite, rules=rules, seed=seed)


def _beats(criterion: Criterion, suite: SuiteAnswers, rules: Rules, seed: int) -> _Outcome:
    """Judge whether the challenger is better than the champion by more than the margin."""
    found = _compared(criterion.metric, suite, rules, seed)
    margin, named = criterion.margin, _named(criterion, suite)
    if found.low > margin:
        verdict, text = Verdict.PASSED, f"{named} is better: {found.words}"
    elif found.challenger - found.champion <= margin:
        verdict, text = Verdict.REFUSED, f"{named} is not {'enough ' if margin else ''}better: {found.words}"
    else:
        more = _more_cases(found, margin)
        verdict, text = Verdict.CANNOT_TELL, f"{named} may be better by chance: {found.words}; {more}"
    where = (criterion.suite, criterion.slice)
    return _outcome("better", where, found, margin=margin, verdict=verdict, text=text)


def _reaches(
    criterion: Criterion, target: float, suite: SuiteAnswers, *, rules: Rules, seed: int
) -> _Outcome:
    """Judge whether the challenger's own score is at the target or above."""
    found = _measured(criterion.metric, suite, rules, seed)
    named = _named(criterion, suite)
    if found.low >= target:
        verdict, text = Verdict.PASSED, f"{named} reaches {target:.2f}: {found.words}"
    elif found.challenger < target:
        verdict, text = Verdict.REFUSED, f"{named} does not reach {target:.2f}: {found.words}"
    else:
        more = _more_cases(found, target)
        verdict, text = (
            Verdict.CANNOT_TELL,
            f"{named} may reach {target:.2f} by chance: {found.words}; {more}",
        )
    where = (criterion.suite, criterion.slice)
    return _outcome("target", where, found, margin=target, verdict=verdict, text=text)


def _counted(suite: SuiteAnswers, rules: Rules) -> _Evidence:
    """Compare shares of right answers, each case judged by its own check."""
    before, now = (
        [is_right(case, answer) for case, answer in zip(suite.cases, answers, strict=True)]
        for answers in (suite.champion, suite.challenger)
    )
    return _rates(before, now, rules)


def _compared(metric: str, suite: SuiteAnswers, rules: Rules, seed: int) -> _Evidence:
    """Compare scores of any metric."""
    expected, rights = [case.expected for case in suite.cases], metric_named(metric).rights
    if rights is not None:
        champion, challenger = rights(expected, suite.champion), rights(expected, suite.challenger)
        return _rates((champion > 0).tolist(), (challenger > 0).tolist(), rules)
    before, now = (metric_named(metric).score(expected, each) for each in (suite.champion, suite.challenger))
    words = f"{before:.2f} before, {now:.2f} now"
    found = _Evidence(before, now, -1.0, 1.0, n=len(expected), words=words, low_at=lambda _: -1.0)
    difference = paired_bootstrap(
        expected,
        suite.champion,
        suite.challenger,
        metric,
        seed=seed,
        resamples=rules.resamples,
        confidence=rules.confidence,
    )
    interval = (difference.difference, difference.low, difference.high)
    return _resampled(found, interval, rules, limits=(-1.0, 1.0))


def _measured(metric: str, suite: SuiteAnswers, rules: Rules, seed: int) -> _Evidence:
    """Bound the challenger's own score."""
    found = _compared(metric, suite, rules, seed)
    expected, rights = [case.expected for case in suite.cases], metric_named(metric).rights
    if rights is None:
        level = bootstrap(
            expected,
            suite.challenger,
            metric,
            seed=seed,
            resamples=rules.resamples,
            confidence=rules.confidence,
        )
        return _resampled(found, (level.value, level.low, level.high), rules, limits=(0.0, 1.0))
    n, right = found.n, float(rights(expected, suite.challenger).sum())
    share = wilson(right, n, confidence=rules.confidence)
    return replace(
        found,
        low=share.low,
        high=share.high,
        low_at=lambda k: wilson(right * k, n * k, confidence=rules.confidence).low,
    )


def _rates(before: Sequence[bool], now: Sequence[bool], rules: Rules) -> _Evidence:
    n, gained = len(before), sum(b < a for b, a in zip(before, now, strict=True))
    lost = gained - sum(now) + sum(before)
    found = paired_rates(gained, lost, n, confidence=rules.confidence)
    return _Evidence(
        champion=sum(before) / n,
        challenger=sum(now) / n,
        low=found.low,
        high=found.high,
        n=n,
        words=f"{sum(before)} of {n} before, {sum(now)} of {n} now",
        low_at=lambda k: paired_rates(gained * k, lost * k, n * k, confidence=rules.confidence).low,
    )


def _resampled(
    found: _Evidence, interval: tuple[float, float, float], rules: Rules, *, limits: tuple[float, float]
) -> _Evidence:
    """Set a bootstrap's (value, low, high); with fewer than `min_cases` it says nothing but the limits."""
    value, low, high = interval

    def low_at(k: float) -> float:
        return value - (value - low) / math.sqrt(k) if found.n * k >= rules.min_cases else limits[0]

    return replace(
        found, low=low_at(1), high=high if found.n >= rules.min_cases else limits[1], low_at=low_at
    )


def _more_cases(found: _Evidence, wanted: float) -> str:
    """Say how many more cases of the same kind would lift the low limit above what is wanted."""
    for step in range(1, 60):
        scale = 1.1**step
        if found.low_at(scale) > wanted:
            return f"about {math.ceil(found.n * scale) - found.n} more cases are needed"
    return "far more cases are needed"


def _chosen(suite: SuiteAnswers, name: str | None) -> SuiteAnswers:
    """Keep the cases of one slice, or all of them without a name."""
    if name is None:
        return suite
    rows = zip(suite.cases, suite.champion, suite.challenger, strict=True)
    kept = [row for row in rows if is_in_slice(row[0], name)]
    return replace(
        suite,
        cases=[case for case, _, _ in kept],
        champion=[answer for _, answer, _ in kept],
        challenger=[answer for _, _, answer in kept],
    )


def _named(criterion: Criterion, suite: SuiteAnswers) -> str:
    cases = f" ({criterion.slice.replace('_', ' ')})" if criterion.slice else ""
    return f"{criterion.metric.replace('_', ' ')} on {suite.name}{cases}"


def _outcome(
    rule: str, where: tuple[str, str | None], found: _Evidence, *, margin: float, verdict: Verdict, text: str
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
    )
    return _Outcome(reason, verdict, text)


def _without_cases(rule: str, where: tuple[str, str | None], margin: float) -> _Outcome:
    """Decide nothing: both scores are 0 and the limits open."""
    nothing = _Evidence(0.0, 0.0, -1.0, 1.0, 0, "", lambda _: -1.0)
    text = f"there are no cases of {' '.join(filter(None, where))} to judge by"
    return _outcome(rule, where, nothing, margin=margin, verdict=Verdict.CANNOT_TELL, text=text)


def _sentence(verdict: Verdict, outcomes: Sequence[_Outcome]) -> str:
    """Say the verdict and what decided it, the greatest loss first."""
    decisive = [each for each in outcomes if each.verdict is verdict and each.text]
    texts = [each.text for each in sorted(decisive, key=lambda it: it.reason.challenger - it.reason.champion)]
    if verdict is Verdict.PASSED:
        return f"Passed: {'; '.join(texts)}; nothing got worse beyond its margin."
    also = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    return f"{'Refused' if verdict is Verdict.REFUSED else 'Cannot tell'}: {texts[0]}{also}."
