"""A report says at a glance what is wrong with which source."""

import json

from retrain.audit import Finding, Severity
from retrain.audit.report import report
from retrain.types import Example, Kind, Message


def rows(source: str, count: int) -> list[Example]:
    return [
        Example(
            f"{source} {n}", f"{source} {n}", (Message("user", "x"),), "y", Kind.GENERATION, source=source
        )
        for n in range(count)
    ]


def found(check: str, examples: list[Example], severity: Severity = Severity.WARN) -> Finding:
    return Finding(check, 1, severity, tuple(row.key for row in examples), f"{len(examples)} rows", "look")


MARKETING, FAQ = rows("marketing-2014", 80), rows("faq", 40)
FINDINGS = [
    found("boilerplate", MARKETING[:30]),
    found("outdated", MARKETING[:40]),
    found("outdated", MARKETING[20:61]),
    found("off_topic", FAQ[:1], Severity.INFO),
    found("contradictions", MARKETING[:2], Severity.BLOCK),
]


def test_each_source_has_a_sentence_the_worst_one_first():
    told = report([*FAQ, *MARKETING], FINDINGS)
    assert [source["verdict"] for source in told["sources"]] == [
        "marketing-2014: 61 of 80 rows outdated, 30 boilerplate, 2 contradictions",
        "faq: 1 of 40 rows off topic",
    ]
    assert told["sources"][0]["shares"]["outdated"] == 61 / 80
    assert told["verdict"] == "120 rows of 2 sources: 1 findings stop training, 3 ask for a look, 1 inform"


def test_a_row_counts_once_per_check_and_severity():
    assert report([*FAQ, *MARKETING], FINDINGS)["checks"] == [
        {"check": "contradictions", "severity": "block", "findings": 1, "rows": 2},
        {"check": "outdated", "severity": "warn", "findings": 2, "rows": 61},
        {"check": "boilerplate", "severity": "warn", "findings": 1, "rows": 30},
        {"check": "off_topic", "severity": "info", "findings": 1, "rows": 1},
    ]


def test_what_is_cut_off_is_counted():
    told = report(MARKETING, FINDINGS, max_findings=2, max_keys=3)
    assert [finding["check"] for finding in told["findings"]] == ["contradictions", "outdated"]
    assert (len(told["findings"][1]["keys"]), told["findings"][1]["rows"]) == (3, 41)
    assert told["findings_left_out"] == 3


def test_sound_rows_have_a_report_too():
    told = report(FAQ, [])
    assert told["sources"][0]["verdict"] == "faq: nothing found in 40 rows"
    assert json.loads(json.dumps(told)) == told
