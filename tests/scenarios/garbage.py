"""What garbage in the data costs: the tiny model learns from two sets, and the gate's paired test compares its answers.

All settings were fixed on seeds 0 to 4. What repairs gain is terminology's: the others drop a third of the rows and
leave the score about where it was.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from retrain.audit import Finding, Repair, RepairKind, Severity
from retrain.audit.checks import run_all
from retrain.audit.repairs import apply
from retrain.criteria import Criterion, Rules
from retrain.evidence import Role, SuiteAnswers
from retrain.gate import Judgement, judge
from retrain.metrics.judged import Judged
from retrain.recipe import Recipe
from retrain.training_set import build
from retrain.types import Case, Example, Kind, Settled
from tests.scenarios import clean, group_faults
from tests.scenarios.scores import TEXTS
from tests.scenarios.taught import Learner, case_of

RECIPE = Recipe(validation_share=0.0, regression_share=0.0)
HELD_OUT = 120
ORDERS = {
    "How do": "Open",
    "What does": "Pay",
    "Can I": "Cancel",
    "Who may": "Share",
    "How is": "Protect",
    "Which papers": "Document",
    "How long": "Change",
    "Why was": "Appeal",
}
FIELDS_BEFORE = {"cards": "accounts", "investing": "insurance"}


def orders(seed: int) -> tuple[list[Example], list[Example]]:
    """Return 400 sound rows and those held out; short answers, so that two random layers can learn to write them."""
    rows = [replace(row, answer=_order(row.prompt)) for row in clean.rows(seed, 400 + HELD_OUT)]
    return rows[:400], rows[400:]


def mended(rows: Sequence[Settled]) -> list[Settled]:
    """Audit the set built of these rows and do all that is proposed; where nothing is, drop what a finding names."""
    findings = run_all(build(rows, earlier=[], assigned={}, recipe=RECIPE).examples, TEXTS)
    accepted = [repair for one in findings if one.severity is not Severity.INFO for repair in _repairs(one)]
    return apply(rows, {str(number): repair for number, repair in enumerate(accepted)})[0]


def fields(seed: int) -> tuple[list[Example], list[Example], list[Example]]:
    """Return 520 sound rows that name a field of business, 60 of them with four of each product, and those held out."""
    rows = clean.rows(seed, 1000, kind=Kind.CLASSIFICATION)[: 520 + HELD_OUT]
    few = [row for product in clean.PRODUCTS for row in _about(product, rows[:520])[:4]]
    return rows[:520], few, rows[520:]


def made_noisy(rows: Sequence[Example], seed: int) -> list[Example]:
    """Spoil four of ten rows: three of ten labels are wrong, and 80 rows about something else join.

    Six of ten rows date from when cards were with accounts and investing with insurance; one label in ten is a slip.
    """
    chance = random.Random(f"noisy {seed}")
    old = [_of_before(row) if chance.random() < 0.6 else row for row in rows]
    slipped, _ = group_faults.flip_labels(old, seed, share=0.1)
    return group_faults.inject_off_topic(slipped, seed, count=80)[0]


def answers(
    rows: Sequence[Settled], asked: Sequence[Example], *, epochs: int, seed: int, cache: Path
) -> list[str]:
    """Return what the tiny model says after training on a set of these rows."""
    examples = build(rows, earlier=[], assigned={}, recipe=RECIPE).examples
    learner = Learner("tiny", cache)
    cases = [case_of(row, "contains") for row in asked]
    judged = learner.hear(examples, cases, epochs=epochs, batch_size=4, seed=seed)
    return [one.answer for one in judged]


def compared(asked: Sequence[Example], before: Sequence[str], now: Sequence[str]) -> Judgement:
    """Let the gate say whether the answers got better than before."""
    cases = [Case(row.key, "held-out", row.messages, row.answer, "contains") for row in asked]
    old, new = (list(map(Judged, cases, answers)) for answers in (before, now))
    suite = SuiteAnswers("held-out", Role.TARGET, old, new)
    return judge([Criterion("contains_key", "held-out")], Rules(), [suite], seed=0)


def _order(prompt: str) -> str:
    product = next(product for product in clean.PRODUCTS if product in prompt)
    return f"{ORDERS[' '.join(prompt.split()[:2])]} your {product} here."


def _about(product: str, rows: Sequence[Example]) -> list[Example]:
    return [row for row in rows if product in row.prompt]


def _repairs(finding: Finding) -> Sequence[Repair]:
    return finding.proposals or (Repair(RepairKind.DROP, finding.keys),)


def _of_before(row: Example) -> Example:
    label = FIELDS_BEFORE.get(row.answer, row.answer)
    return replace(row, answer=label, label=label)
