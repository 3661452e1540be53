"""Writes a set's data card: what it holds, where that comes from, and what is known to be wrong with it."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from retrain.types import Example, Kind, Split

Counts = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Rows by property, then by its value, then by split."""

LIMITS = (
    "An answer is what the asked experts agreed on; experts can agree and be wrong.",
    "The same question in quite other words may stand in two splits: only near-equal wordings are one group.",
    "A check finds what its documentation says it catches; finding nothing proves no more than that.",
)
TASKS = {
    Kind.CLASSIFICATION: "text-classification",
    Kind.GENERATION: "text-generation",
    Kind.CONVERSATION: "text-generation",
    Kind.EXTRACTION: "token-classification",
}
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
_LICENCES = {
    *("apache-2.0", "bsd-2-clause", "bsd-3-clause", "mit", "unlicense", "gpl-3.0", "agpl-3.0", "lgpl-3.0"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "odc-by", "odbl", "pddl"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0"),
}


@dataclass(frozen=True, slots=True)
class Waiver:
    """A check whose finding a person let pass, and until when (that day counts); who it was, the ledger knows.

    Why is in their own words, and nothing can be erased from Git, where cards stand.
    """

    check: str
    until: date


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that a card says; no prompt, answer or comment is among it, so the card may outlive an erasure.

    `files` are paths beside the card, or patterns of them, one per split that has rows. `findings` counts by check,
    then by severity; `agreement` holds measures by name; `licences` stand by source, empty where nobody stated one;
    `consent` counts rows by the legal basis on which they are used.
    """

    name: str
    fingerprint: str
    kind: Kind
    frozen: date
    counts: Counts
    recipe: Mapping[str, Any]
    files: Mapping[Split, str] = field(default_factory=dict)
    findings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    waivers: Sequence[Waiver] = ()
    agreement: Mapping[str, float] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    consent: Mapping[str, int] = field(default_factory=dict)
    limits: Sequence[str] = LIMITS


def count(examples: Iterable[Example]) -> dict[str, dict[str, dict[str, int]]]:
    """Count rows by kind, form, label, source and language, and each by split; no label is no entry.

    A row's weight is counted where it is not 1: an accepted repair that oversamples is never silent.
    """
    counts: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for example in examples:
        values = {
            "kind": example.kind.value,
            "form": example.form.value,
            "label": example.label,
            "source": example.source,
            "language": example.language or "",
            "weight": None if example.weight == 1 else f"{example.weight:g}",
        }
        for name, value in values.items():
            if value is not None:
                counts[name][value][example.split.value] += 1
    return {name: {value: dict(of) for value, of in values.items()} for name, values in counts.items()}


def render(facts: CardFacts) -> str:
    """Return the card as Markdown with YAML front matter; equal facts give equal text.

    Source: Hugging Face Hub's documentation, "Dataset cards" and "Data files configuration".
    """
    parts = [_front_matter(facts), _head(facts), *_counted(facts), _audit(facts)]
    parts += [_people(facts), _rights(facts), _recipe(facts)]
    parts.append("\n".join(["## Known limits", "", *(f"- {_line(limit)}" for limit in facts.limits)]))
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts) -> str:
    """Write metadata in YAML's flow style, which JSON's is a part of."""
    licences = _licences(facts)
    metadata: dict[str, Any] = {
        "pretty_name": facts.name,
        "license": licences[0] if len(licences) == 1 else licences,
        "task_categories": [TASKS[facts.kind]],
        "size_categories": [_size(_rows(facts))],
    }
    if languages := _languages(facts):
        metadata["language"] = languages
    lines = [f"{name}: {json.dumps(value)}" for name, value in metadata.items()]
    if facts.files:
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split in Split:
            if split in facts.files:
                lines += [f"  - split: {split}", f"    path: {json.dumps(facts.files[split])}"]
    return "\n".join(["---", *lines, "---"])


def _head(facts: CardFacts) -> str:
    return (
        f"# Training set {_line(facts.name)}\n\n"
        f"{_rows(facts)} {facts.kind} examples that experts settled on, frozen on {facts.frozen.isoformat()} as "
        f"`{facts.fingerprint}`. Generated from the set; edits are lost. Rows in `test` and `regression` judge "
        "models: nothing may be trained on them."
    )


def _counted(facts: CardFacts) -> Iterator[str]:
    yield "## Rows"
    for name in ("kind", "form", "label", "source", "language", "weight"):
        if values := facts.counts.get(name):
            splits = [split for split in Split if any(of.get(split) for of in values.values())]
            rows = [
                [value or "not stated", *(of.get(split, 0) for split in splits), sum(of.values())]
                for value, of in sorted(values.items())
            ]
            yield _table([name, *splits, "all"], rows)


def _audit(facts: CardFacts) -> str:
    found = [
        [check, severity, number]
        for check, severities in sorted(facts.findings.items())
        for severity, number in sorted(severities.items())
    ]
    waived = [[waiver.check, waiver.until.isoformat()] for waiver in facts.waivers]
    parts = ["## Audit", _table(["check", "severity", "findings"], found) if found else "Nothing was found."]
    if waived:
        parts += ["Waived by people:", _table(["check", "until"], waived)]
    return "\n\n".join(parts)


def _people(facts: CardFacts) -> str:
    measures = [[name, f"{value:.3f}"] for name, value in sorted(facts.agreement.items())]
    table = _table(["measure", "value"], measures) if measures else "Not measured."
    return f"## Agreement of annotators\n\n{table}"


def _rights(facts: CardFacts) -> str:
    licences = [[source, licence or "not stated"] for source, licence in sorted(facts.licences.items())]
    bases = [[basis or "not stated", number] for basis, number in sorted(facts.consent.items())]
    return "\n\n".join(
        [
            "## Licence and consent",
            _table(["source", "licence"], licences) if licences else "No licence is stated.",
            "Only responses that may be used for training are in the set; the grounds on which they are:",
            _table(["legal basis", "rows"], bases) if bases else "None is stated.",
        ]
    )


def _recipe(facts: CardFacts) -> str:
    document = json.dumps(facts.recipe, indent=2, sort_keys=True, ensure_ascii=False)
    return f"## Recipe\n\n```json\n{document}\n```"


def _licences(facts: CardFacts) -> list[str]:
    """Return the Hub's names of the licences; `other` is one it has no name for, `unknown` none at all."""
    stated = {licence.strip().lower().replace(" ", "-") for licence in facts.licences.values()} - {""}
    named = sorted({licence if licence in _LICENCES else "other" for licence in stated})
    return named or ["unknown"]


def _languages(facts: CardFacts) -> list[str]:
    """Return the primary subtags of the rows' language tags, without what is no such tag."""
    primary = (re.split(r"[-_]", tag)[0].lower() for tag in facts.counts.get("language", {}))
    return sorted({tag for tag in primary if re.fullmatch(r"[a-z]{2,3}", tag)})


def _size(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "10M<n<100M")


def _rows(facts: CardFacts) -> int:
    return sum(sum(of.values()) for of in facts.counts.get("kind", {}).values())


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(_line(str(value)) for value in line)} |" for line in lines)


def _line(text: str) -> str:
    """Write a text so that it stays in its cell and is no mark-up."""
    escaped = re.sub(r"([\\|`*<>\[\]])", r"\\\1", text)
    return " ".join(escaped.split())
