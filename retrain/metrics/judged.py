"""What a metric may look at: a case, what a model answered, and what a project knows beside its cases."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from retrain.errors import MissingAnswer
from retrain.types import Case


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to a case and, where it chose among labels, how probable each was to it, 1 in all."""

    text: str
    probabilities: Mapping[str, float] | None = None

    @property
    def sure(self) -> float | None:
        """The probability of what it said."""
        return None if self.probabilities is None else self.probabilities[self.text]


@dataclass(frozen=True, slots=True)
class Judged:
    """A case and one model's answer to it.

    `pair` is the same model's answer to the case that this one varies. `probabilities` are those of all labels,
    `tokens` counts the answer's, `seconds` is how long it took; what was not measured is None.
    """

    case: Case
    answer: str
    pair: str | None = None
    probabilities: Mapping[str, float] | None = None
    tokens: int | None = None
    seconds: float | None = None

    @property
    def asked(self) -> str:
        """The user's last words."""
        return next((turn.content for turn in reversed(self.case.messages) if turn.role == "user"), "")

    @property
    def told(self) -> list[str]:
        """All that the model was given: every turn, and the case's context."""
        return [*(turn.content for turn in self.case.messages), *self.case.context]


@dataclass(frozen=True, slots=True)
class Known:
    """What a project knows; a metric that needs what is not given applies to no case.

    `catalogue` names what exists (products, statutes, identifiers), `identifiers` are patterns of how such names look;
    `approved` are answers that people approved, `learned` texts that training has seen. `costs` are by expected and
    answered label, 1 where a wrong pair has none. `abstentions` are labels that pass a case on to a person, and a model
    that gives its label less than `abstains_below` passes it on too; it is sure from `confident` on. `checklist` is
    that of cases without one of their own.
    """

    catalogue: Collection[str] = ()
    identifiers: Sequence[str] = (
        r"(?:§+|\b(?i:sections?|paragraphs?|articles?|art\.))\s*\d+[a-z]?\b",
        r"\b[A-Z]{1,5}-?\d{2,}[A-Z]?\b",
    )
    approved: Sequence[str] = ()
    learned: Sequence[str] = ()
    costs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    abstentions: Collection[str] = ()
    abstains_below: float = 0.0
    confident: float = 0.8
    checklist: Sequence[str] = ()


NOTHING = Known()


def check_paired(champion: Sequence[Judged], challenger: Sequence[Judged]) -> None:
    """Raise ValueError unless two models were judged on the same cases, in one order."""
    for one, other in zip(champion, challenger, strict=True):
        if one.case.key != other.case.key:
            raise ValueError(f"case {one.case.key!r} is paired with case {other.case.key!r}")


def judged_of(cases: Sequence[Case], answers: Mapping[str, Answer]) -> list[Judged]:
    """Pair each case with its answer, and with the answer to the case that it varies; `answers` are by case key.

    Raises:
        MissingAnswer: a case, or the one that it varies, was not asked.
    """
    for case in cases:
        for key in filter(None, (case.key, case.pair)):
            if key not in answers:
                raise MissingAnswer(f"suite {case.suite}: case {key!r} has no answer")
    return [
        Judged(
            case,
            answers[case.key].text,
            answers[case.pair].text if case.pair else None,
            answers[case.key].probabilities,
        )
        for case in cases
    ]
