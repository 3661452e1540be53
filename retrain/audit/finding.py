"""What an audit says: one finding, and how much it matters."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What a finding does: stops training until repaired or waived, asks for a look, or informs."""

    BLOCK = "block"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found; it names examples by key and quotes no text, so it may outlive an erasure."""

    check: str
    version: int
    severity: Severity
    keys: tuple[str, ...]
    evidence: str
    repair: str
