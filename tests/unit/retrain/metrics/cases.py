"""Cases and answers for tests of metrics, in one line each."""

from retrain.metrics import METRICS
from retrain.metrics.judged import NOTHING, Judged
from retrain.types import Case, Message


def judged(answer, expected="", *, asked="?", check="exact", key="case", turns=(), measured=None, **facts):
    messages = (*(Message(role, text) for role, text in turns), Message("user", asked))
    return Judged(Case(key, "suite", messages, expected, check, **facts), answer, **(measured or {}))


def score(name, *judged, known=NOTHING):
    return METRICS[name].score(judged, known)


def cells(name, *judged, known=NOTHING):
    return METRICS[name].cells(judged, known)[:, 0].tolist()
