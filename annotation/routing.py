"""Rules that say in which tool a case is asked, of how many and of whom: the first rule that fits decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from annotation.errors import InvalidRouting

WHEN = ("reasons", "languages", "kinds", "min_severity")
THEN = ("tool", "overlap", "pool")
MAX_OVERLAP = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a case before anybody is asked: `kind` is that of its questions."""

    reasons: frozenset[str]
    severity: float
    language: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a case must be for the rule to fit, where nothing is said anything does; and what follows from it."""

    tool: str
    overlap: int | None = None
    pool: str | None = None
    reasons: frozenset[str] = frozenset()
    languages: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    min_severity: float = 0.0

    def fits(self, asked: Asked) -> bool:
        """Say whether the rule is about this case; the language `de` is meant by a rule for `de`, as `de-CH` is."""
        spoken = (asked.language or "").lower()
        return (
            (not self.reasons or bool(self.reasons & asked.reasons))
            and (not self.kinds or asked.kind in self.kinds)
            and asked.severity >= self.min_severity
            and (
                not self.languages
                or any(spoken == own or spoken.startswith(f"{own}-") for own in self.languages)
            )
        )


def route(rules: Sequence[Rule], asked: Asked) -> Rule | None:
    """Return the first rule that fits a case, or None."""
    return next((rule for rule in rules if rule.fits(asked)), None)


def read_rules(document: Any, *, tools: Sequence[str]) -> list[Rule]:
    """Read `{"rules": [{"when": {…}, "tool": …, "overlap": …, "pool": …}]}`.

    Raises:
        InvalidRouting: it says something else; the message names the rule.
    """
    rules = document.get("rules") if isinstance(document, dict) and set(document) == {"rules"} else None
    if not isinstance(rules, list):
        raise InvalidRouting('routing: an object with a list of "rules" is needed')
    return [_rule(f"rule {number}", each, tools) for number, each in enumerate(rules, start=1)]


def _rule(name: str, given: Any, tools: Sequence[str]) -> Rule:
    when = given.get("when", {}) if isinstance(given, dict) else None
    if not isinstance(when, dict) or not set(when) <= {*WHEN} or not set(given) <= {"when", *THEN}:
        raise InvalidRouting(f"{name}: may hold {', '.join(THEN)} and, in when, {', '.join(WHEN)}")
    overlap, severity, pool = given.get("overlap"), when.get("min_severity", 0), given.get("pool")
    if given.get("tool") not in tools:
        raise InvalidRouting(f"{name}: tool is one of {', '.join(tools)}")
    if overlap is not None and (type(overlap) is not int or not 1 <= overlap <= MAX_OVERLAP):
        raise InvalidRouting(f"{name}: overlap is a whole number from 1 to {MAX_OVERLAP}")
    if type(severity) not in (int, float) or not 0 <= severity <= 10:
        raise InvalidRouting(f"{name}: min_severity lies between 0 and 10")
    if pool is not None and not (isinstance(pool, str) and 0 < len(pool) <= 100):
        raise InvalidRouting(f"{name}: pool is a name of at most 100 characters")
    return Rule(
        tool=given["tool"],
        overlap=overlap,
        pool=pool,
        reasons=frozenset(_names(name, when, "reasons")),
        languages=tuple(language.lower() for language in _names(name, when, "languages")),
        kinds=frozenset(_names(name, when, "kinds")),
        min_severity=float(severity),
    )


def _names(rule: str, when: dict[str, Any], field: str) -> list[str]:
    found = when.get(field, [])
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise InvalidRouting(f"{rule}: {field} is a list of names")
    return found
