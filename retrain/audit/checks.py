"""Every check by its name, and the audit that runs them; only workers import it, for checks load heavy libraries."""

from collections.abc import Callable, Iterable, Sequence
from types import ModuleType

from retrain.audit import (
    bias,
    boilerplate,
    contradictions,
    duplicates,
    imbalance,
    large_groups,
    leakage,
    mislabelled,
    noise,
    off_topic,
    outdated,
    personal,
    poison,
    representativeness,
    terminology,
    tone,
)
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Finding
from retrain.errors import RetrainError
from retrain.types import Example

CHECKS: dict[str, ModuleType] = {
    check.CHECK.name: check
    for check in (
        *(leakage, contradictions, duplicates, large_groups),
        *(personal, poison, bias, mislabelled, imbalance, representativeness),
        *(outdated, terminology, off_topic, tone, boilerplate, noise),
    )
}

# What can stop a training: no recipe goes without these, for only a waiver, with who, why and until when, may.
BLOCKING = ("leakage", "contradictions", "personal", "poison", "imbalance")


class UnknownCheck(RetrainError):
    """A recipe or a command names a check that does not exist; take one of those that the message lists."""


def versions(checks: Iterable[str] = ()) -> dict[str, int]:
    """Return the version of each of the named checks, or of all."""
    return {name: CHECKS[name].CHECK.version for name in list(checks) or CHECKS}


def run_all(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    checks: Iterable[str] = (),
    report: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> list[Finding]:
    """Run the named checks, or all, in the order of `CHECKS`; `report` hears which one begins.

    Raises:
        UnknownCheck: a name is none of them.
    """
    chosen = list(checks) or list(CHECKS)
    if unknown := [name for name in chosen if name not in CHECKS]:
        raise UnknownCheck(f"no check {', '.join(map(repr, unknown))}; there are {', '.join(CHECKS)}")
    findings: list[Finding] = []
    for done, name in enumerate(chosen):
        report(name, done, len(chosen))
        findings += CHECKS[name].find(examples, context)
    return findings


def audit_set(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    checks: Iterable[str] = (),
    report: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> list[Finding]:
    """Run the checks of a set whose recipe names some; raises as `run_all`."""
    return run_all(examples, context, checks=_of_set(checks), report=report)


def versions_of_set(checks: Iterable[str] = ()) -> dict[str, int]:
    """Return the version of each check of a set whose recipe names some."""
    return versions(_of_set(checks))


def _of_set(checks: Iterable[str]) -> list[str]:
    named = list(checks)
    return named and [*named, *(name for name in BLOCKING if name not in named)]
