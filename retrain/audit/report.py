"""What an audit says as one JSON document: in all, by check, and by source at a glance."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from retrain.amounts import how_many
from retrain.audit.finding import Finding, Severity
from retrain.types import Example

MAX_SOURCES = 100
_ORDER = list(Severity)


def report(
    examples: Sequence[Example], findings: Sequence[Finding], *, max_findings: int = 200, max_keys: int = 20
) -> dict[str, Any]:
    """Return totals, checks, sources and findings, the gravest first; `*_left_out` counts what limits cut off.

    A finding's `rows` is the number of all its keys, of which `max_keys` are listed.
    """
    ordered = sorted(findings, key=lambda one: (_ORDER.index(one.severity), -len(one.keys), one.check))
    sources = _sources(examples, findings)
    by_severity = Counter(finding.severity.value for finding in findings)
    counts = {severity.value: by_severity[severity.value] for severity in Severity}
    return {
        "rows": len(examples),
        "verdict": _verdict(len(examples), len(sources), counts),
        "severities": counts,
        "sources": sources[:MAX_SOURCES],
        "sources_left_out": max(0, len(sources) - MAX_SOURCES),
        "checks": _checks(ordered),
        "findings": [_told(finding, max_keys) for finding in ordered[:max_findings]],
        "findings_left_out": max(0, len(ordered) - max_findings),
    }


def wordless(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report without what findings say of rows: words that many rows share may still be personal.

    Nor with their names, hashes by which a guess at such words could be confirmed.
    """
    words = ("evidence", "name", "repair")
    findings = [
        {name: fact for name, fact in finding.items() if name not in words}
        for finding in document["findings"]
    ]
    return {**document, "findings": findings}


def _verdict(rows: int, sources: int, counts: Mapping[str, int]) -> str:
    block, warn, info = (
        counts[severity.value] for severity in (Severity.BLOCK, Severity.WARN, Severity.INFO)
    )
    found = [how_many(block, "finding", "stop training"), how_many(warn, "", "ask for a look")]
    of = f"{how_many(rows, 'row')} of {how_many(sources, 'source')}"
    return f"{of}: {', '.join([*found, how_many(info, '', 'inform')])}"


def _checks(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    members: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        members[finding.check, finding.severity.value].append(finding)
    return [
        {
            "check": check,
            "severity": severity,
            "findings": len(found),
            "rows": len({key for finding in found for key in finding.keys}),
        }
        for (check, severity), found in members.items()
    ]


def _sources(examples: Sequence[Example], findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Tell each source, the one first of whose rows the greatest share is touched by more than information."""
    source_of = {example.key: example.source or "(none)" for example in examples}
    rows = Counter(source_of.values())
    touched: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    faulty: defaultdict[str, set[str]] = defaultdict(set)
    for finding in findings:
        for key in finding.keys:
            if key in source_of:
                touched[source_of[key]][finding.check].add(key)
                if finding.severity is not Severity.INFO:
                    faulty[source_of[key]].add(key)
    told = [_source(name, count, touched[name], faulty[name]) for name, count in rows.items()]
    return sorted(told, key=lambda each: (-each["share_with_findings"], each["source"]))


def _source(name: str, rows: int, touched: Mapping[str, set[str]], faulty: Collection[str]) -> dict[str, Any]:
    counts = sorted(
        ((check, len(keys)) for check, keys in touched.items()), key=lambda each: (-each[1], each[0])
    )
    words = [
        f"{count:,} of {how_many(rows, 'row')} {check}" if place == 0 else f"{count:,} {check}"
        for place, (check, count) in enumerate((check.replace("_", " "), count) for check, count in counts)
    ]
    told = ", ".join(words) or f"nothing found in {how_many(rows, 'row')}"
    return {
        "source": name,
        "rows": rows,
        "share_with_findings": len(faulty) / rows,
        "shares": {check: count / rows for check, count in counts},
        "verdict": f"{name}: {told}",
    }


def _told(finding: Finding, max_keys: int) -> dict[str, Any]:
    return {
        "name": finding.name,
        "check": finding.check,
        "version": finding.version,
        "severity": finding.severity.value,
        "rows": len(finding.keys),
        "keys": list(finding.keys[:max_keys]),
        "evidence": finding.evidence,
        "repair": finding.repair,
    }
