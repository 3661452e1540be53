"""Rules choose a tool by what is known before anybody is asked."""

import pytest

from annotation.errors import InvalidRouting
from annotation.routing import Asked, read_rules, route

TOOLS = ("label-studio", "argilla")


def chosen(rules, *, reasons=(), severity=1.0, language=None, kind="generation"):
    found = route(
        read_rules({"rules": rules}, tools=TOOLS), Asked(frozenset(reasons), severity, language, kind)
    )
    return found and (found.tool, found.overlap, found.pool)


def test_the_first_rule_that_fits_decides():
    rules = [{"when": {"reasons": ["unsafe"]}, "tool": "argilla", "overlap": 3}, {"tool": "label-studio"}]
    assert chosen(rules, reasons=["unsafe", "style"]) == ("argilla", 3, None)
    assert chosen(rules, reasons=["style"]) == ("label-studio", None, None)


def test_no_rule_decides_nothing():
    assert chosen([]) is None
    assert chosen([{"when": {"min_severity": 4}, "tool": "argilla"}], severity=3.9) is None


@pytest.mark.parametrize(
    ("language", "fits"), [("de", True), ("de-CH", True), ("DE", True), ("den", False), (None, False)]
)
def test_a_language_means_its_dialects(language, fits):
    rules = [{"when": {"languages": ["de"]}, "tool": "argilla", "pool": "germans"}]
    assert chosen(rules, language=language) == (("argilla", None, "germans") if fits else None)


def test_a_rule_fits_only_if_all_of_it_does():
    rules = [{"when": {"kinds": ["conversation"], "min_severity": 2}, "tool": "argilla"}]
    assert chosen(rules, kind="conversation", severity=2)
    assert not chosen(rules, kind="conversation", severity=1)
    assert not chosen(rules, kind="generation", severity=2)


WRONG = [
    None,
    [],
    {"rules": {}},
    {"rules": [], "more": 1},
    *(
        {"rules": [rule]}
        for rule in (
            "argilla",
            {},
            {"tool": "prodigy"},
            {"tool": "none"},
            {"tool": "argilla", "overlap": 0},
            {"tool": "argilla", "overlap": True},
            {"tool": "argilla", "overlap": 1.5},
            {"tool": "argilla", "pool": ""},
            {"tool": "argilla", "colour": "red"},
            {"tool": "argilla", "when": []},
            {"tool": "argilla", "when": {"mood": ["bad"]}},
            {"tool": "argilla", "when": {"reasons": "unsafe"}},
            {"tool": "argilla", "when": {"languages": [1]}},
            {"tool": "argilla", "when": {"min_severity": "4"}},
            {"tool": "argilla", "when": {"min_severity": float("nan")}},
        )
    ),
]


@pytest.mark.parametrize("document", WRONG)
def test_what_is_no_rule_is_refused(document):
    with pytest.raises(InvalidRouting):
        read_rules(document, tools=TOOLS)
