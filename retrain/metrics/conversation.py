"""How well an answer carries a conversation on: turn-taking, sentiment, and getting the task done."""

from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from retrain import text
from retrain.metrics.judged import Judged, Known
from retrain.metrics.metric import NOT_APPLICABLE, Metric, alone
from retrain.near_duplicates import similarity

_SAME = 0.8
_YES_OR_NO = frozenset({"yes", "no", "yeah", "yep", "nope", "sure", "certainly", "unfortunately"})
_AUXILIARIES = frozenset(
    text.words("is are was were do does did can could will would should may has have had am")
)
_STEM = 4


def turn_taking(one: Judged, known: Known) -> float:
    """Score which part of these the answer does, of those that the conversation asks for.

    It answers the last open question, if the user's last turn holds one: it shares a word that matters with the
    question or with the approved answer, says yes or no to a question that asks for it, or names a number when asked
    how many, how much or when. It does not repeat what the assistant had said (similarity below 0.8). It asks a
    question about something of the case's `missing`, if there is any. Range 0 to 1, higher is better. The definition is
    ours.
    """
    said = [turn.content for turn in one.case.messages if turn.role == "assistant"]
    done = [_answers(question, one) for question in _questions(one.asked)[-1:]]
    if said:
        done.append(all(similarity(each, one.answer) < _SAME for each in said))
    if one.case.missing:
        asked_back = " ".join(_questions(one.answer))
        done.append(text.contains_any(asked_back, one.case.missing))
    return sum(done) / len(done) if done else NOT_APPLICABLE


def sentiment_alignment(one: Judged, known: Known) -> float:
    """Score 1 - |s(answer) - s(wanted)| / 2 by VADER's compound sentiment s, from -1 to 1; English only.

    Wanted is the approved answer's; where the case has none, the user's, but never below neutral: anger is not to be
    answered in kind, nor with cheer. Range 0 to 1, higher is better.
    Source: Hutto & Gilbert (2014), "VADER: A Parsimonious Rule-based Model for Sentiment Analysis", ICWSM.
    """
    wanted = sentiment(one.case.expected) if one.case.expected else max(0.0, sentiment(one.asked))
    return 1 - abs(sentiment(one.answer) - wanted) / 2


def task_completion(one: Judged, known: Known) -> float:
    """Score which part of the case's checklist the assistant's turns and the answer have said, in words of the item.

    A case without one has the project's. An item may name alternatives, parted by "|". Range 0 to 1, higher is better.
    The definition is ours.
    """
    said = [*(turn.content for turn in one.case.messages if turn.role == "assistant"), one.answer]
    items = one.case.checklist or known.checklist
    done = [text.contains_any("\n".join(said), item.split("|")) for item in items]
    return sum(done) / len(done) if done else NOT_APPLICABLE


def sentiment(said: str) -> float:
    """Return VADER's compound sentiment, from -1 to 1."""
    return float(_analyser().polarity_scores(said)["compound"])


@cache
def _analyser() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def _questions(said: str) -> list[str]:
    return [each for each in text.sentences(said) if each.rstrip("\"') ").endswith("?")]


def _answers(question: str, one: Judged) -> bool:
    asked, given = text.words(question), text.words(one.answer)
    wants_number = "when" in asked or " ".join(asked[:2]) in {"how many", "how much", "how long", "what time"}
    is_yes_or_no = asked[:1] and asked[0] in _AUXILIARIES and given[:1] and given[0] in _YES_OR_NO
    matters = {word[:_STEM] for each in (question, one.case.expected) for word in text.content_words(each)}
    return bool(
        is_yes_or_no
        or (wants_number and any(word.isdigit() for word in given))
        or any(word[:_STEM] in matters for word in text.content_words(one.answer))
    )


METRICS = (
    Metric("turn_taking", 1, alone(turn_taking)),
    Metric("sentiment_alignment", 1, alone(sentiment_alignment)),
    Metric("task_completion", 1, alone(task_completion)),
)
