"""Checks a training set before anything is trained on it: one file per check, each `find(examples, …)`."""

from collections.abc import Iterable, Sequence

from retrain.audit import contradictions, imbalance, leakage
from retrain.audit.finding import Finding, Severity
from retrain.types import Example

__all__ = ["CHECKS", "Finding", "Severity", "is_blocked", "run_all"]

CHECKS = {check.NAME: check for check in (leakage, contradictions, imbalance)}


def run_all(examples: Sequence[Example]) -> list[Finding]:
    """Run every check with its defaults, in the order of `CHECKS`."""
    return [finding for check in CHECKS.values() for finding in check.find(examples)]


def is_blocked(findings: Iterable[Finding]) -> bool:
    """Tell whether a finding forbids training on the set."""
    return any(finding.severity is Severity.BLOCK for finding in findings)
