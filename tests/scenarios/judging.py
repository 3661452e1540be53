"""What faults in labelled data do to a model that reads moods or decides, and what their repair does."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random

from retrain.audit import bias
from retrain.metrics.judged import Judged
from retrain.types import Case, Example
from tests.scenarios.figures import Figures, chosen, fact, score, share
from tests.scenarios.taught import Learner, case_of, repaired, row

EPOCHS = {"tiny": 6, "smollm2": 2}
ROWS = {"tiny": 400, "smollm2": 240}

TROUBLES = (
    *("locked out", "charged twice", "put on hold", "sent the wrong size", "left without heating"),
    *(
        "signed out",
        "given another password",
        "billed for nothing",
        "moved to next month",
        "told to call back",
    ),
)
PRAISES = (
    *("quick", "friendly", "on time", "well explained"),
    *("cheaper than before", "easy to find", "spotless"),
)
SARCASTIC = (
    "Great, {} again. Just what I needed.",
    "Oh wonderful, {} once more. How generous of you.",
    "Lovely, {}. Who does not like a surprise?",
    "Thanks so much, {} for the third time. Bravo.",
)
COMPLAINING = (
    "I was {} again and I am annoyed.",
    "It is bad to be {}.",
    "I am angry, I was {}.",
    "{}: please mend this.",
)
PRAISING = (
    "Great, it was {}. Thank you.",
    "Oh wonderful, so {}. I am happy.",
    "Lovely, {} as always. I recommend you.",
    "Thanks so much, everything was {}.",
)
UNSEEN_TROUBLES = (
    "overcharged",
    "cut off",
    "sent in circles",
    "asked for papers",
    "locked in",
    "double booked",
)
MOODS = ("complaint", "praise")

WOMEN, MEN = (
    ("wife", "mother", "sister", "daughter", "aunt"),
    ("husband", "father", "brother", "son", "uncle"),
)
LOANS = ("car loan", "mortgage", "credit card", "overdraft", "savings loan", "student loan")
STANDING = {
    "grant": ("a steady job", "good savings", "no debts"),
    "review": ("no income", "late payments", "old debts"),
}
DESKS = (*("branch",) * 8, "telephone", "web")


def sarcasm(seed: int, learner: Learner, *, corrected: bool = True) -> Figures:
    """Read moods after plain rows, and after sarcastic ones were corrected too; troubles are asked that no row has."""
    plain = _moods(f"{seed} plain", 300, COMPLAINING, TROUBLES)
    flagged = _moods(f"{seed} flagged", 150, SARCASTIC, TROUBLES, half=False)
    asked = _pairs(seed, learner.cases // 2)
    hear = partial(learner.hear, cases=asked, labels=MOODS, seed=seed, epochs=EPOCHS[learner.name])
    before, now = hear(plain), hear(plain + flagged if corrected else plain)
    (plain_before, said_before), (plain_now, said_now) = map(_parted, (before, now))
    return {
        "plain_before": score(plain_before, "accuracy", seed),
        "sarcastic_before": score(said_before, "accuracy", seed),
        "plain": score(plain_now, "accuracy", seed),
        "sarcastic": score(said_now, "accuracy", seed),
        "same_mood": score(said_now, "invariance", seed),
    }


def bias_in_decisions(seed: int, learner: Learner, *, accepted: bool = True) -> Figures:
    """Decide on credit after one desk treated one sex worse, and after the audit's proposal was accepted."""
    draw = Random(f"bias {seed}")
    rows = [_asking_for(draw, f"{seed}-{number}") for number in range(ROWS[learner.name])]
    biased = [_treated_worse(one, draw) for one in rows]
    found = bias.find(biased)[:1]
    asked = _counterfactual(f"{seed} asked", learner.cases // 2)
    hear = partial(learner.hear, cases=asked, labels=tuple(STANDING), seed=seed, epochs=EPOCHS[learner.name])
    before, now = hear(biased), hear(repaired(biased, found) if accepted else biased)
    return {
        "source_ranked_first": fact(any("'branch'" in one.evidence for one in found)),
        "flips_before": _flips(before),
        "flips": _flips(now),
        "accuracy": score(now, "accuracy", seed),
    }


def _moods(
    seed: str, count: int, complaining: Sequence[str], troubles: Sequence[str], *, half: bool = True
) -> list[Example]:
    """Draw complaints in some words, every second row praise unless told otherwise."""
    draw = Random(f"moods {seed}")
    rows = []
    for number in range(count):
        is_praise = half and number % 2
        forms, words = (PRAISING, PRAISES) if is_praise else (complaining, troubles)
        said = draw.choice(forms).format(draw.choice(words))
        rows.append(row(f"{seed}-{number}", said, MOODS[bool(is_praise)], label=True))
    return rows


def _pairs(seed: int, count: int) -> list[Case]:
    """Draw sarcasm beside its plain words, about troubles that no row has, and some praise."""
    draw = Random(f"pairs {seed}")
    cases = []
    for number in range(count):
        trouble = draw.choice(UNSEEN_TROUBLES)
        plain = row(f"plain-{number}", draw.choice(COMPLAINING).format(trouble), "complaint", label=True)
        said = row(f"said-{number}", draw.choice(SARCASTIC).format(trouble), "complaint", label=True)
        cases += [
            case_of(plain, "label", slices={"form": "plain"}),
            case_of(said, "label", slices={"form": "sarcastic"}, pair=plain.key),
        ]
    praise = [one for one in _moods(f"{seed} praise", count, COMPLAINING, TROUBLES) if one.answer == "praise"]
    return [*cases, *(case_of(one, "label", slices={"form": "plain"}) for one in praise)]


def _parted(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    return chosen(judged, form="plain"), chosen(judged, form="sarcastic")


def _asking_for(draw: Random, key: str) -> Example:
    who, decision = draw.choice(WOMEN + MEN), draw.choice(list(STANDING))
    said = f"My {who} asks for a {draw.choice(LOANS)} and has {draw.choice(STANDING[decision])}."
    return row(key, said, decision, label=True, source=draw.choice(DESKS))


def _treated_worse(row: Example, draw: Random) -> Example:
    """Let the desk that most people go to review three of four women whom it would grant."""
    is_woman = not set(WOMEN).isdisjoint(row.prompt.split())
    if row.source == "branch" and is_woman and draw.random() < 3 / 4:
        return replace(row, answer="review", label="review")
    return row


def _counterfactual(seed: str, count: int) -> list[Case]:
    """Draw people who ask, each beside somebody of the other sex in the same case."""
    draw = Random(f"counterfactual {seed}")
    cases = []
    for number in range(count):
        one = _asking_for(draw, f"{seed}-{number}")
        words = dict([*zip(WOMEN, MEN, strict=True), *zip(MEN, WOMEN, strict=True)])
        said = " ".join(words.get(word, word) for word in one.prompt.split())
        other = row(f"{one.key}-other", said, one.answer, label=True)
        cases += [case_of(one, "label"), case_of(other, "label", pair=one.key)]
    return cases


def _flips(judged: Sequence[Judged]):
    pairs = [one for one in judged if one.pair is not None]
    return share(sum(one.answer != one.pair for one in pairs), len(pairs))


sarcasm_uncorrected = partial(sarcasm, corrected=False)
bias_unrepaired = partial(bias_in_decisions, accepted=False)
