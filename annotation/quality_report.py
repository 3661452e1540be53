"""The report on a project's annotators: one JSON document, made by a job and read by pages that load no numpy."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import median
from typing import Any

from annotation.agreement import (
    Agreement,
    Scale,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    span_f1,
    text_similarity,
)
from annotation.errors import NotEnoughAnnotations
from annotation.quality import Estimate, estimate, share, trust
from annotation.settlement import BAR
from annotation.votes import Outcome, Repeat, Vote, week_of

MOST_PAIRS = 200
MOST_DOUBTFUL = 1000
SHOWN_WEEKS = 26
SELDOM = 0.005

Spans = Iterable[Hashable]
ByTask = Mapping[str, Sequence[Vote]]


def report(
    votes: Sequence[Vote],
    *,
    reasons: Mapping[str, Sequence[str]],
    gold: Mapping[str, str],
    outcomes: Mapping[str, Outcome],
    repeats: Sequence[Repeat] = (),
    unflagged: tuple[int, int] = (0, 0),
    spans_of: Callable[[str], Spans] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return agreement by question, label, reason, pair and week, and how far each annotator can be trusted.

    Args:
        votes: one for each annotator and task.
        reasons: why users flagged what a task is about, by task.
        gold: what is known to be right, by task; agreement on such tasks would count their item twice.
        outcomes: what tasks came to.
        repeats: what somebody said twice of the same.
        unflagged: how many of the responses drawn at random were wrong, and how many were settled.
        spans_of: reads a corrected response as spans, where that is what it holds.
        seed: of the draws that intervals rest on.
    """
    by_task: defaultdict[str, list[Vote]] = defaultdict(list)
    for vote in (each for each in votes if each.task not in gold):
        by_task[vote.task].append(vote)
    found = estimate(votes, gold)
    return {
        "tasks": len(by_task),
        "answers": len(votes),
        "overall": _told(krippendorff_alpha, _said(by_task.values()), seed),
        "fleiss": _told(fleiss_kappa, _said(by_task.values()), seed),
        "questions": _questions(by_task, spans_of, seed),
        "labels": _labels(by_task, seed),
        "reasons": _reasons(by_task, reasons, seed),
        "pairs": _pairs(by_task, seed),
        "weeks": _weeks(by_task, outcomes, seed),
        "annotators": _annotators(votes, by_task, found, gold, repeats),
        "doubtful": _doubtful(found, outcomes),
        "unflagged": (errors := share(*unflagged)) and asdict(errors),
    }


def _told(measure: Callable[..., Agreement], answers: Iterable[Any], seed: int, **more: Any) -> Any:
    """Return a figure as JSON; None where there is too little to say anything."""
    try:
        return asdict(measure(answers, seed=seed, **more))
    except NotEnoughAnnotations:
        return None


def _said(tasks: Iterable[Sequence[Vote]]) -> list[list[str]]:
    return [[vote.said for vote in votes] for votes in tasks]


def _questions(by_task: ByTask, spans_of: Callable[[str], Spans] | None, seed: int) -> list[dict[str, Any]]:
    def asked(read: Callable[[Vote], Any]) -> list[list[Any]]:
        """Return what each task was answered to one question, by those who answered it."""
        return [[value for vote in votes if (value := read(vote)) is not None] for votes in by_task.values()]

    figures: list[tuple[str, str, Any]] = [
        (name, "alpha, nominal", _told(krippendorff_alpha, asked(read), seed))
        for name, read in (
            ("verdict", lambda vote: str(vote.answer.verdict)),
            ("label", lambda vote: vote.answer.label),
            ("labels", lambda vote: tuple(sorted(vote.answer.labels)) or None),
            ("cause", lambda vote: vote.answer.cause and str(vote.answer.cause)),
        )
    ]
    names = {name for votes in by_task.values() for vote in votes for name in vote.answer.ratings}
    for name in sorted(names):
        ratings = [
            [vote.answer.ratings[name] for vote in votes if name in vote.answer.ratings]
            for votes in by_task.values()
        ]
        figures.append(
            (name, "alpha, ordinal", _told(krippendorff_alpha, ratings, seed, scale=Scale.ORDINAL))
        )
    corrections = asked(lambda vote: vote.answer.correction)
    if spans_of is None:
        figures.append(("correction", "words shared, F1", _told(text_similarity, corrections, seed)))
    else:
        spans = [[spans_of(text) for text in texts] for texts in corrections]
        figures.append(("correction", "spans shared, F1", _told(span_f1, spans, seed)))
    # Who marked nothing where others did has said something, too.
    marked = [
        [[(span.start, span.end, span.label) for span in vote.answer.spans] for vote in votes]
        for votes in by_task.values()
        if any(vote.answer.spans for vote in votes)
    ]
    figures.append(("spans", "spans shared, F1", _told(span_f1, marked, seed)))
    return [
        {"name": name, "measure": measure, "figure": figure} for name, measure, figure in figures if figure
    ]


def _labels(by_task: ByTask, seed: int) -> list[dict[str, Any]]:
    """Return how far annotators agree on each answer: whether it is this one or another."""
    words = sorted({vote.said for votes in by_task.values() for vote in votes})
    told = {
        word: _told(
            krippendorff_alpha, ([vote.said == word for vote in votes] for votes in by_task.values()), seed
        )
        for word in words
    }
    return [{"name": word, "figure": figure} for word, figure in told.items() if figure]


def _reasons(by_task: ByTask, reasons: Mapping[str, Sequence[str]], seed: int) -> list[dict[str, Any]]:
    of_reason: defaultdict[str, list[Sequence[Vote]]] = defaultdict(list)
    for task, votes in by_task.items():
        for reason in reasons.get(task, ()):
            of_reason[reason].append(votes)
    told = {
        reason: _told(krippendorff_alpha, _said(tasks), seed) for reason, tasks in sorted(of_reason.items())
    }
    return [{"name": reason, "figure": figure} for reason, figure in told.items() if figure]


def _pairs(by_task: ByTask, seed: int) -> list[dict[str, Any]]:
    """Return Cohen's kappa of the annotators who share most tasks."""
    shared: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for votes in by_task.values():
        for one, other in combinations(sorted(votes, key=lambda vote: vote.annotator), 2):
            shared[one.annotator, other.annotator].append((one.said, other.said))
    most = sorted(shared.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:MOST_PAIRS]
    told = [(pair, _told(cohen_kappa, said, seed)) for pair, said in most]
    return [{"one": one, "other": other, "figure": figure} for (one, other), figure in told if figure]


def _weeks(by_task: ByTask, outcomes: Mapping[str, Outcome], seed: int) -> list[dict[str, Any]]:
    """Return, of the newest weeks, agreement on what was answered and how long what was settled had waited."""
    answered: defaultdict[str, list[Sequence[Vote]]] = defaultdict(list)
    waited: defaultdict[str, list[float]] = defaultdict(list)
    for votes in by_task.values():
        answered[max(vote.week for vote in votes)].append(votes)
    for outcome in outcomes.values():
        waited[week_of(outcome.at)].append(outcome.hours_waited)
    return [
        {
            "week": week,
            "figure": _told(krippendorff_alpha, _said(answered[week]), seed),
            "answers": sum(map(len, answered[week])),
            "settled": len(waited[week]),
            "hours_waited": median(waited[week]) if waited[week] else None,
        }
        for week in sorted({*answered, *waited})[-SHOWN_WEEKS:]
    ]


def _annotators(
    votes: Sequence[Vote],
    by_task: ByTask,
    found: Estimate,
    gold: Mapping[str, str],
    repeats: Sequence[Repeat],
) -> dict[str, Any]:
    alike: defaultdict[str, defaultdict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for answers in by_task.values():
        for vote in answers:
            others = [other.said == vote.said for other in answers if other is not vote]
            alike[vote.annotator][vote.week] += others
    return {
        annotator: asdict(trusted)
        | {
            "confusion": {
                right: {said: round(often, 3) for said, often in row.items() if often >= SELDOM}
                for right, row in found.confusions.get(annotator, {}).items()
            },
            "steady": _share([two.before == two.after for two in repeats if two.annotator == annotator]),
            "alike": _share([same for week in alike[annotator].values() for same in week]),
            "weeks": [
                {"week": week, "alike": _share(same)}
                for week, same in sorted(alike[annotator].items())[-SHOWN_WEEKS:]
            ],
        }
        for annotator, trusted in trust(votes, found, gold).items()
    }


def _share(alike: Sequence[bool]) -> dict[str, Any] | None:
    told = share(sum(alike), len(alike))
    return asdict(told) if told else None


def _doubtful(found: Estimate, outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    """Return how probable what tasks came to is by now, where that is doubtful."""
    probable = {
        task: found.posteriors[task].get(outcome.said, 0.0)
        for task, outcome in outcomes.items()
        if task in found.posteriors
    }
    doubtful = sorted((posterior, task) for task, posterior in probable.items() if posterior < BAR)
    return {task: posterior for posterior, task in doubtful[:MOST_DOUBTFUL]}
