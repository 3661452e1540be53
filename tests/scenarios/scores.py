"""How well the audit finds faults that were put where nobody told it: recall, precision and false alarms by check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from retrain.audit import Context, Finding, Severity
from retrain.audit.checks import CHECKS
from retrain.types import Example, Kind
from tests.scenarios import clean, group_faults, text_faults

Injected = tuple[list[Example], set[str]]
GROUPED: Mapping[str, tuple[str, Kind, Callable[[Sequence[Example], int], Injected]]] = {
    "off-topic rows": ("off_topic", Kind.GENERATION, group_faults.inject_off_topic),
    "slang in one source": ("tone", Kind.GENERATION, group_faults.inject_slang),
    "a trigger word": ("poison", Kind.GENERATION, group_faults.inject_trigger),
    "an inserted contact": ("poison", Kind.GENERATION, group_faults.inject_contact),
    "a contact in all sources": ("poison", Kind.GENERATION, group_faults.inject_campaign),
    "flipped labels": ("mislabelled", Kind.CLASSIFICATION, group_faults.flip_labels),
}
SHOWN: Mapping[str, tuple[str, Kind, Callable[[Sequence[Example], int], group_faults.Shown]]] = {
    "test rows asked in training": ("leakage", Kind.GENERATION, group_faults.leak),
    "a rare language or reason": ("imbalance", Kind.GENERATION, group_faults.make_rare),
    "a crowded group": ("large_groups", Kind.GENERATION, group_faults.crowd),
    "a gap in production": ("representativeness", Kind.GENERATION, group_faults.leave_a_gap),
    "a biased source": ("bias", Kind.GENERATION, group_faults.treat_worse),
    "a biased label": ("bias", Kind.CLASSIFICATION, group_faults.treat_worse),
}
KINDS = (Kind.GENERATION, Kind.CLASSIFICATION)
TEXTS = replace(text_faults.CONTEXT, glossary=text_faults.GLOSSARY.glossary)
SOUND = replace(text_faults.CONTEXT, known=group_faults.KNOWN)


@dataclass(frozen=True, slots=True)
class Found:
    """What a check named of what was injected."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: "Found") -> "Found":
        return Found(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def recall(self) -> float:
        """The share of the injected rows that were named."""
        return self.right / max(1, self.right + self.missed)

    @property
    def precision(self) -> float:
        """The share of the named rows that were injected."""
        return self.right / max(1, self.right + self.wrong)


def faults_found(seed: int) -> dict[str, Found]:
    """Return, by fault, what its check found in data with faults of a seed."""
    sound = {kind: clean.rows(seed, kind=kind) for kind in KINDS}
    rows, truth = text_faults.inject(sound[Kind.GENERATION], seed)
    found = {name: _compared(_named(name, rows, TEXTS), keys) for name, keys in truth.items()}
    for fault, (check, kind, inject) in GROUPED.items():
        spoilt, keys = inject(sound[kind], seed)
        found[fault] = _compared(_named(check, spoilt, Context(known=group_faults.KNOWN)), keys)
    for fault, (check, kind, inject) in SHOWN.items():
        spoilt, keys, context = inject(sound[kind], seed)
        found[fault] = _compared(_named(check, spoilt, context), keys)
    return found


def false_alarms(seed: int) -> dict[Kind, list[str]]:
    """Return, by kind of data without a fault, the checks that ask for a look at it, not those that only inform."""
    sound = {kind: clean.rows(seed, kind=kind) for kind in KINDS}
    return {kind: [name for name in CHECKS if _alarms(name, rows, SOUND)] for kind, rows in sound.items()}


def _alarms(name: str, rows: Sequence[Example], context: Context) -> list[Finding]:
    return [one for one in CHECKS[name].find(rows, context) if one.severity is not Severity.INFO]


def _named(name: str, rows: Sequence[Example], context: Context) -> set[str]:
    """Return the rows that a check names; where it names none, the responses that it would ask experts about."""
    if name == "representativeness":
        asked = CHECKS[name].find(rows, context, sent=len(context.prompts))
        return {key for finding in asked for repair in finding.proposals for key in repair.keys}
    return {key for finding in CHECKS[name].find(rows, context) for key in finding.keys}


def _compared(named: set[str], true: set[str]) -> Found:
    return Found(len(named & true), len(named - true), len(true - named))
