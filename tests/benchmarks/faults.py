"""Run every fault of the catalogue with full counts, and print what is promised beside what was seen.

Faults that take long in full have a bench of their own; here they run small, unless all is wanted.
"""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from tests.benchmarks.report import Aim, Report
from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.repetitions import CI, FULL, Repetitions
from tests.shown import ROOT, node_id

WRONG = ("failure", "error")


@dataclass(frozen=True, slots=True)
class Case:
    """One test, once."""

    outcome: str
    seconds: float


def measure(repetitions: Repetitions) -> Report:
    """Run the tests of each fault, and their controls."""
    is_full = repetitions is FULL
    small = [] if is_full else [one for one in FAULTS if one.bench]
    large = [one for one in FAULTS if one not in small]
    seen = _run(small, "ci") | _run(large, "full" if is_full else "bench")
    rows = [_row(one, CI if one in small else repetitions, seen) for one in FAULTS]
    cases = [case for group in seen.values() for case in group]
    return Report(
        columns=("", "fault", "injected", "times", "tests", "not shown", "s"),
        rows=rows,
        figures={
            "faults": len(FAULTS),
            "tests": len(cases),
            "not_shown_in_full": sum(bool(one.lacks) for one in FAULTS),
        },
        aims={
            "failed": Aim(0, sum(case.outcome in WRONG for case in cases)),
            "skipped": Aim(0, sum(case.outcome == "skipped" for case in cases)),
        },
    )


def _row(fault: Fault, repetitions: Repetitions, seen: Mapping[str, Sequence[Case]]) -> tuple[object, ...]:
    cases = [case for node in _nodes([fault]) for case in seen[_as_reported(node)]]
    wrong, skipped = (sum(case.outcome in outcomes for case in cases) for outcomes in (WRONG, ("skipped",)))
    verdict = f"{wrong} of {len(cases)} failed" if wrong else f"all {len(cases)}"
    times = getattr(repetitions, fault.repeats) if fault.repeats else ""
    seconds = f"{sum(case.seconds for case in cases):.0f}"
    more = f"./run bench {fault.bench}" if fault.bench and repetitions is CI else ""
    lacks = "; ".join(filter(None, (fault.lacks, more)))
    verdict += f", {skipped} skipped" if skipped else ""
    return f"F{fault.number}", fault.what, fault.injected, times, verdict, lacks, seconds


def _run(faults: Sequence[Fault], repetitions: str) -> dict[str, list[Case]]:
    """Return what became of each test, by its name in the report; failures go to the terminal."""
    if not faults:
        return {}
    with TemporaryDirectory() as folder:
        report = f"{folder}/report.xml"
        command = (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
        )
        done = subprocess.run(
            [*command, *_nodes(faults)],
            cwd=ROOT, env={**os.environ, "REPETITIONS": repetitions}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stdout + done.stderr)
        sys.stderr.write(done.stdout if done.returncode else "")
        root = ET.parse(report).getroot()  # noqa: S314  pytest wrote it
    seen = defaultdict(list)
    for case in root.iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name', '').partition('[')[0]}"
        outcome = next((child.tag for child in case if child.tag in (*WRONG, "skipped")), "passed")
        seen[name].append(Case(outcome, float(case.get("time", 0))))
    return seen


def _nodes(faults: Iterable[Fault]) -> list[str]:
    return list(dict.fromkeys(node_id(each) for one in faults for each in (*one.shown_by, *one.control)))


def _as_reported(node: str) -> str:
    path, _, name = node.partition("::")
    return f"{path.removesuffix('.py').replace('/', '.')}.{name.replace('::', '.')}"
