"""A little of Prometheus: enough of its language to tell whether the shipped alerts fire on two looks at `/metrics`."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "alerts.yml"
COMPARE = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
TERM = re.compile(
    r"(?P<joined>max|min|sum)(?: by \((?P<by>[\w, ]+)\))? ?"
    r"\((?:(?P<over>increase|delta)\()?(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})?(?:\[\w+\]\))?\)"
)

Labels = tuple[tuple[str, str], ...]
Look = Mapping[tuple[str, Labels], float]


def rules() -> dict[str, dict[str, object]]:
    """Return the shipped alerts by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def look(exposition: str, **more: float) -> Look:
    """Return every sample of what `/metrics` says; `more` are those that Prometheus itself adds, of this job."""
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }
    return found | {(name, (("job", "errata"),)): value for name, value in more.items()}


def fires(expression: str, before: Look, after: Look) -> bool:
    """Say whether an alert's expression holds of the second look; how long it has to hold is not looked at.

    Understood: `max|min|sum [by (…)] ([increase|delta](name{…}[…])) [/ another] <|>|<=|>= number`, and nothing else.
    """
    left, compared, right = re.fullmatch(r"(.*\)) ([<>]=?) (\S+)", expression).groups()
    terms = left.split(" / ")
    values = _values(terms[0], before, after)
    if len(terms) == 2:
        values = [value / below for value in values for below in _values(terms[1], before, after) if below]
    return any(COMPARE[compared](value, float(right)) for value in values)


def _values(term: str, before: Look, after: Look) -> Sequence[float]:
    found = TERM.fullmatch(term)
    assert found, f"not understood: {term}"
    by, groups = [each.strip() for each in (found["by"] or "").split(",")], {}
    for labels, value in _selected(found["name"], found["labels"] or "", after):
        grown = value - before.get((found["name"], labels), value) if found["over"] else value
        groups.setdefault(tuple(dict(labels).get(each) for each in by), []).append(grown)
    join: Callable[[Sequence[float]], float] = {"max": max, "min": min, "sum": sum}[found["joined"]]
    return [join(values) for values in groups.values()]


def _selected(name: str, matchers: str, seen: Look) -> Iterator[tuple[Labels, float]]:
    wanted = re.findall(r'(\w+)(!?=)"([^"]*)"', matchers)
    for (each, labels), value in seen.items():
        of = dict(labels)
        if each == name and all((of.get(key) == text) == (sign == "=") for key, sign, text in wanted):
            yield labels, value
