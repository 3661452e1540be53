"""Checks data before anything is trained on it: one file per check, each `find(examples, context) -> list[Finding]`.

Each check module has a `CHECK`, its name and version, and a docstring that says what it catches and what it misses.
"""

from retrain.audit.context import Context, Validity
from retrain.audit.finding import Finding, Repair, RepairKind, Severity

__all__ = ["Context", "Finding", "Repair", "RepairKind", "Severity", "Validity"]
