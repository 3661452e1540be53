"""What corrections do to the clerk of `court`: it errs less, unless they are wrong, few, or all it is taught."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from annotation import types as annotation
from annotation.quality import estimate
from annotation.votes import Vote
from retrain.intervals import Interval, wilson
from retrain.metrics import is_right
from retrain.metrics.judged import Judged
from retrain.types import Case, Example
from tests.scenarios import court
from tests.scenarios.court import cases, disputes
from tests.scenarios.figures import Figures, chosen, gain, passes, score
from tests.scenarios.taught import Learner, hear

SETTINGS: dict[str, dict[str, Any]] = {
    "tiny": {"rank": 8, "alpha": 16, "learning_rate": 3e-3, "batch_size": 16},
    "smollm2": {"rank": 8, "alpha": 16, "learning_rate": 1e-3, "batch_size": 8},
}
CORRECTED = {"tiny": 200, "smollm2": 100}  # memos, and as many briefs replayed
STEPS = {"tiny": 250, "smollm2": 50}
PEOPLE, CAREFUL, SEEN = ("ann", "ben", "cleo"), 0.95, 100
AT = datetime(2026, 6, 1, tzinfo=UTC)


def conflation(seed: int, learner: Learner, *, reversed_in: Sequence[str] = ()) -> Figures:
    """Correct memos and replay briefs: the parties must not be confused any more, nor statutes invented."""
    asked = cases(seed, learner.cases)
    count = CORRECTED[learner.name]
    rows = [
        *disputes(f"{seed} memo", count, "memo", reversed_in=reversed_in),
        *disputes(f"{seed} brief", count, "brief", reversed_in=reversed_in),
    ]
    before, now = _before(learner, asked), _after(learner, rows, asked, seed)
    return {
        "conflation_before": score(before, "role_conflation", seed),
        "conflation": score(now, "role_conflation", seed),
        "invented_sections": score(now, "invented_entities", seed),
        "briefs_right": score(chosen(now, style="brief"), "exact_match", seed),
        "gate_passes": passes(before, now, "role_conflation"),
    }


def three_cycles(seed: int, learner: Learner, *, reversed_in: Sequence[str] = ()) -> Figures:
    """Correct few memos without replay, then half with replay, then all; people say what is right, ROUGE beside."""
    asked = cases(seed, learner.cases)
    memos = disputes(f"{seed} memo", 400, "memo", reversed_in=reversed_in)
    briefs = disputes(f"{seed} brief", 400, "brief")
    start = _before(learner, asked)
    first, second, third = (
        _after(learner, rows, asked, seed)
        for rows in (memos[:40], memos[:200] + briefs[:200], memos + briefs)
    )
    return {
        "right_at_start": by_people(start, seed),
        "first_passes": passes(start, first, "exact_match"),
        "second_passes": passes(start, second, "exact_match"),
        "third_passes": passes(second, third, "exact_match"),
        "right_at_end": by_people(third, seed),
        "rouge_gain": gain(start, third, "rouge_1", seed),
        "right_gain": gain(start, third, "exact_match", seed),
    }


def forgetting(seed: int, learner: Learner, *, replay: bool = True) -> Figures:
    """Correct memos beside replayed briefs, or without them."""
    asked = [case for case in cases(seed, 2 * learner.cases) if case.slices["style"] == "brief"]
    rows = disputes(f"{seed} memo", 150, "memo")
    if replay:
        rows += disputes(f"{seed} brief", 150, "brief")
    before, now = _before(learner, asked), _after(learner, rows, asked, seed)
    return {
        "briefs_right_before": score(before, "exact_match", seed),
        "briefs_gain": gain(before, now, "exact_match", seed),
    }


def by_people(judged: Sequence[Judged], seed: int) -> Interval:
    """Have three people, each wrong about one answer in twenty, judge answers blindly; return what they come to."""
    votes = [
        Vote(str(number), name, annotation.Answer(_said(one, Random(f"{seed} {name} {number}"))), AT)
        for number, one in enumerate(judged[:SEEN])
        for name in PEOPLE
    ]
    posteriors = estimate(votes).posteriors.values()
    return wilson(sum(each.get(annotation.Verdict.CORRECT, 0.0) for each in posteriors), len(posteriors))


def _said(one: Judged, draw: Random) -> annotation.Verdict:
    is_correct = is_right(one) == (draw.random() < CAREFUL)
    return annotation.Verdict.CORRECT if is_correct else annotation.Verdict.INCORRECT


def _before(learner: Learner, asked: Sequence[Case]) -> list[Judged]:
    """Ask the model that errs; the tiny one has erred since it was made, the other learned it from such rows."""
    if learner.name == "tiny":
        return hear(court.base(learner.cache), [], asked, seed=0)
    return _after(learner, disputes("before", 2 * CORRECTED[learner.name], reversed_in=("memo",)), asked, 0)


def _after(learner: Learner, rows: Sequence[Example], asked: Sequence[Case], seed: int) -> list[Judged]:
    base = court.base(learner.cache) if learner.name == "tiny" else learner.base
    settings = SETTINGS[learner.name]
    epochs = max(1, round(STEPS[learner.name] * settings["batch_size"] / len(rows)))
    return hear(base, rows, asked, seed=seed, epochs=epochs, **settings)


reversed_conflation = partial(conflation, reversed_in=("memo", "brief"))
uncorrected_cycles = partial(three_cycles, reversed_in=("memo",))
forgetting_without_replay = partial(forgetting, replay=False)
