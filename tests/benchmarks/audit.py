"""How well the audit finds faults, on seeds that fixed no threshold, and how fast; or what it finds in real data."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain, islice, zip_longest
from operator import add
from pathlib import Path

from retrain.audit import Context, Finding, RepairKind
from retrain.audit.checks import CHECKS, run_all
from retrain.audit.context import Validity
from retrain.audit.report import report
from retrain.corpus import example_of
from retrain.corpus_files import read, sort_out
from retrain.embedding import encode
from retrain.types import Example, Kind, Split
from tests.benchmarks.report import Aim, MissingData, Report
from tests.repetitions import Repetitions
from tests.scenarios import clean
from tests.scenarios.many import many_rows
from tests.scenarios.scores import Found, false_alarms, faults_found

ROWS = 100_000
TOLD, QUOTED, WORDS = 10, 2, 14


def measure(repetitions: Repetitions, data: str = "") -> Report:
    """Audit the corpus in `data`, if that is given; else score every check, then time each on many rows."""
    return _of_corpus(Path(data)) if data else _of_faults(repetitions)


def _of_corpus(path: Path) -> Report:
    """Tell what each check finds in a file or a folder, and its ten most interesting findings.

    A place that begins with "test" is the test part's.
    """
    if not path.exists():
        raise MissingData(f"{path} is not there; name a file or a folder of rows by --data")
    rows, _ = sort_out(read(str(path), columns={}))
    examples = [
        replace(example_of(row, place), split=Split.TEST if place.startswith("test") else Split.TRAIN)
        for place, row in rows.items()
    ]
    started = time.process_time()
    findings = run_all(examples, Context(encode=encode))
    seconds = time.process_time() - started
    told = report(examples, findings, max_findings=len(findings))
    by_key = {example.key: example for example in examples}
    return Report(
        columns=("check", "severity", "findings", "rows", "what it says, and of which rows"),
        rows=[
            *((one["check"], one["severity"], one["findings"], one["rows"], "") for one in told["checks"]),
            *(
                (
                    one.check,
                    one.severity.value,
                    "",
                    len(one.keys),
                    "\n".join([one.evidence, *_quoted(one, by_key)]),
                )
                for one in _interesting(findings)
            ),
        ],
        figures={"rows": len(examples), "findings": len(findings), "cpu_s": round(seconds, 1)},
        aims={},
    )


def _interesting(findings: Sequence[Finding]) -> list[Finding]:
    """Take turns among the checks, each with what is about most rows first."""
    of_check: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(findings, key=lambda one: -len(one.keys)):
        of_check[finding.check].append(finding)
    turns = chain.from_iterable(zip_longest(*of_check.values()))
    return list(islice((one for one in turns if one), TOLD))


def _quoted(finding: Finding, by_key: dict[str, Example]) -> list[str]:
    """Quote a finding's first rows, those first that it would relabel."""
    put = {key: one.put for one in finding.proposals if one.kind is RepairKind.RELABEL for key in one.keys}
    rows = [by_key[key] for key in [*put, *finding.keys][:QUOTED] if key in by_key]
    return [
        f"- {row.key}: {_short(row.prompt)!r}: {_short(row.answer)!r}"
        + (f", rather {put[row.key]!r}" if row.key in put else "")
        for row in rows
    ]


def _short(text: str) -> str:
    words = text.split()
    return " ".join(words[:WORDS]) + ("…" if len(words) > WORDS else "")


def _of_faults(repetitions: Repetitions) -> Report:
    seeds = range(10, 10 + repetitions.audit_seeds)
    found = [faults_found(seed) for seed in seeds]
    totals = {fault: reduce(add, (each[fault] for each in found), Found()) for fault in found[0]}
    alarms = [names for seed in seeds for names in false_alarms(seed).values()]
    seconds = _seconds()
    share = sum(map(bool, alarms)) / len(alarms)
    return Report(
        columns=("fault or check", "recall", "precision", "CPU s of 100,000 rows"),
        rows=[
            *((fault, f"{one.recall:.3f}", f"{one.precision:.3f}", "") for fault, one in totals.items()),
            *((f"check {name}", "", "", f"{each:.1f}") for name, each in seconds.items()),
        ],
        figures={
            "seeds": len(seeds),
            "rows": ROWS,
            "false_alarms": round(share, 4),
            "sound_sets": len(alarms),
        },
        aims={
            "lowest_recall": Aim(
                aim=0.9, got=round(min(one.recall for one in totals.values()), 3), at_least=True
            ),
            "lowest_precision": Aim(
                aim=0.8, got=round(min(one.precision for one in totals.values()), 3), at_least=True
            ),
            "false_alarms": Aim(aim=0.05, got=round(share, 4)),
            "audit_cpu_s": Aim(aim=180, got=round(sum(seconds.values()), 1)),
        },
        ratios={},
    )


def _seconds() -> dict[str, float]:
    rows = [*many_rows(ROWS // 2), *many_rows(ROWS // 2, seed=1, kind=Kind.CLASSIFICATION)]
    context = _context(rows)
    seconds = {}
    for name, check in CHECKS.items():
        started = time.process_time()
        check.find(rows, context)
        seconds[name] = time.process_time() - started
    return seconds


def _context(rows: Sequence[Example]) -> Context:
    """Return something of all that a check may look at, so that none has an easy time."""
    return Context(
        today=clean.DAY,
        description="Answers the customers of a bank.",
        glossary={rows[0].prompt.split()[0]: rows[1].prompt.split()[:2]},
        validity=[Validity(rows[2].prompt.split()[0], valid_to=clean.DAY)],
        earlier=rows[: ROWS // 10],
        known=[row.key for row in rows[::2]],
        prompts={f"asked-{number}": row.prompt for number, row in enumerate(rows[::10])},
        doubts={row.key: 0.5 for row in rows[::100]},
        encode=encode,
    )
