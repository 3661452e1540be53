"""What an audit says: one finding, how much it matters, and what would mend it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from retrain.types import sha256_of

_FIGURES = re.compile(r"[\d.,%+-]+")
# What a finding is about: what it quotes, and dates.
_ABOUT = re.compile(r"""((?<!\w)'[^']*'(?!\w)|(?<!\w)"[^"]*"(?!\w)|\b\d{4}-\d\d-\d\d\b)""")
_DIGIT = re.compile(r"\d")


class Severity(StrEnum):
    """What a finding does: stops training until repaired or waived, asks for a look, or informs."""

    BLOCK = "block"
    WARN = "warn"
    INFO = "info"


class RepairKind(StrEnum):
    """What a repair does: leaves rows out, replaces a phrase, swaps words, relabels or weighs them, asks experts."""

    DROP = "drop"
    REPLACE = "replace"
    TERM = "term"
    SWAP = "swap"
    RELABEL = "relabel"
    WEIGHT = "weight"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Repair:
    """A change that a check proposes for the rows `keys`; it counts once a person has accepted it.

    `REPLACE` puts `put` for each whole-word `find` in the rows' answers, whatever its case; `TERM` does so
    too, and the project's glossary learns that `find` is another name of `put`; `SWAP` exchanges the nth
    word of `find` with the nth of `put` in all their texts but labels; `RELABEL` gives them `put` as label and answer;
    `WEIGHT` multiplies their weight by `factor`. The original stays in the settlement. `ASK` changes no row: experts
    are asked about the responses `keys`, which have the words `find` in common, or about the rows `keys` again.
    """

    kind: RepairKind
    keys: tuple[str, ...]
    find: str = ""
    put: str = ""
    factor: float = 1.0


def drop(keys: Iterable[str]) -> Repair:
    """Propose to leave rows out."""
    return Repair(RepairKind.DROP, tuple(sorted(keys)))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found; it names examples by key and quotes no single row's text.

    Words that many rows share, such as a term or a template, may be named, so an erasure empties it; what is named and
    may hold digits, such as a label or a year, is quoted, for other figures are no part of `name`. `repair` says
    what a person could do, `proposals` are repairs that a program can carry out.
    """

    check: str
    version: int
    severity: Severity
    keys: tuple[str, ...]
    evidence: str
    repair: str
    proposals: tuple[Repair, ...] = ()

    @property
    def name(self) -> str:
        """What a waiver names: the check, the rows, and what is said of them but for counts and shares."""
        return sha256_of([self.check, sorted(self.keys), _without_counts(self.evidence)])


@dataclass(frozen=True, slots=True)
class Check:
    """A check's name, and its version, which changes with what it finds."""

    name: str
    version: int

    def found(
        self,
        keys: Iterable[str],
        evidence: str,
        repair: str,
        *proposals: Repair,
        severity: Severity = Severity.WARN,
    ) -> Finding:
        """Return a finding about the rows of these keys."""
        rows = tuple(sorted(set(keys)))
        return Finding(self.name, self.version, severity, rows, evidence, repair, proposals)


def _without_counts(evidence: str) -> str:
    """Mask counts and shares, which the rest of a set changes; a year or a label in quotes is no count."""
    parts = _ABOUT.split(evidence)  # every second one is what the finding is about
    return "".join(
        part if place % 2 and _DIGIT.search(part) else _FIGURES.sub("#", part)
        for place, part in enumerate(parts)
    )
