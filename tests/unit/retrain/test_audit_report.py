"""A report says at a glance what is wrong with which source."""

import json
from datetime import date
from pathlib import Path

from retrain.audit import Context, Finding, Severity, boilerplate, duplicates, outdated
from retrain.audit.report import report, wordless
from retrain.corpus import example_of
from retrain.corpus_files import read, sort_out
from retrain.types import Example, Kind, Message

THINGS = (
    "garden hose", "savings account", "train ticket", "night shift", "winter coat", "coffee mill", "tax form",
    "bus pass", "house key", "piano lesson", "dental check", "phone contract", "library card", "parking place",
    "swimming course", "rental car", "work permit", "fishing rod", "museum visit", "water meter",
)  # fmt: skip


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
    assert [source["share_with_findings"] for source in told["sources"]] == [61 / 80, 0]  # INFO is no fault
    assert told["verdict"] == "120 rows of 2 sources: 1 finding stops training, 3 ask for a look, 1 informs"


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


def test_a_report_without_words_quotes_nothing():
    examples = rows("faq", 2)
    whole = report(
        examples, [Finding("noise", 1, Severity.WARN, ("faq 0",), "says 'sesame'", "drop 'sesame'")]
    )
    assert "sesame" not in json.dumps(wordless(whole)) and "sesame" in json.dumps(whole)
    assert wordless(whole)["findings"][0]["keys"] == ["faq 0"]


def test_sound_rows_have_a_report_too():
    told = report(FAQ, [])
    assert told["sources"][0]["verdict"] == "faq: nothing found in 40 rows"
    assert json.loads(json.dumps(told)) == told


def test_a_chaotic_mix_of_memos_outdated_marketing_and_faqs_is_plain_at_a_glance(tmp_path):
    offer = "is valid until 2015. Call us today and let our friendly team surprise you."
    write(tmp_path, "faq", [f"Bring the {thing} to desk {n}." for n, thing in enumerate(THINGS)])
    write(
        tmp_path,
        "marketing-2014",
        [f"Our {thing} at {9 + n} euros {offer}" for n, thing in enumerate(THINGS)],
    )
    write(tmp_path, "memos", ["Please see the attached memo of the board."] * 20)
    found, _ = sort_out(read(str(tmp_path), columns={}))
    examples = [example_of(row, place) for place, row in found.items()]
    context = Context(today=date(2026, 1, 1))
    findings = [one for check in (outdated, boilerplate, duplicates) for one in check.find(examples, context)]
    sentences = {each["source"]: each["verdict"] for each in report(examples, findings)["sources"]}
    assert sentences["marketing-2014"].startswith("marketing-2014: 20 of 20 rows boilerplate, 20 outdated")
    assert sentences["faq"] == "faq: nothing found in 20 rows"
    assert "outdated" not in sentences["memos"]


def write(folder: Path, name: str, answers: list[str]) -> None:
    rows = [
        {"question": f"Tell me about the {thing}", "answer": answer}
        for thing, answer in zip(THINGS, answers, strict=True)
    ]
    (folder / f"{name}.json").write_text(json.dumps(rows))
