"""What an audit says: one finding, how much it matters, and what would mend it."""

import re
from dataclasses import dataclass
from enum import StrEnum

from retrain.types import sha256_of


class Severity(StrEnum):
    """What a finding does: stops training until repaired or waived, asks for a look, or informs."""

    BLOCK = "block"
    WARN = "warn"
    INFO = "info"


class RepairKind(StrEnum):
    """What a repair does to its rows: leaves them out, replaces a phrase, relabels, or weighs them."""

    DROP = "drop"
    REPLACE = "replace"
    RELABEL = "relabel"
    WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Repair:
    """A change that a check proposes for the rows `keys`; it counts once a person has accepted it.

    `REPLACE` puts `put` for each whole-word `find` in the rows' answers, whatever its case; `RELABEL` gives them
    `put` as label and answer; `WEIGHT` multiplies their weight by `factor`. The original stays in the settlement.
    """

    kind: RepairKind
    keys: tuple[str, ...]
    find: str = ""
    put: str = ""
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found; it names examples by key and quotes no single row's text.

    Words that many rows share, such as a term or a template, may be named, so an erasure empties it. `repair` says
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
        """What a waiver names: the check, the rows, and what is said of them but for its figures."""
        return sha256_of([self.check, sorted(self.keys), re.sub(r"[\d.,%+-]+", "#", self.evidence)])
