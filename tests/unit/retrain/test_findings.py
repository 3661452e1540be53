"""What names a finding, and what a gap between groups says of itself."""

import re
from datetime import date

import numpy as np
import pytest

from retrain.audit import Context, bias, outdated
from retrain.audit.finding import Check
from retrain.audit.gaps import gaps
from retrain.types import Example, Kind, Message
from tests.scenarios import clean, group_faults

CHECK = Check("noise", 1)


def name(evidence: str) -> str:
    return CHECK.found(["a", "b"], evidence, "Look.").name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 of 300 rows, 0.67%", "2 of 1,412 rows, 0.14%"),
        ("'refund' has 30 rows, 'card' 2.", "'refund' has 41 rows, 'card' 3."),
        ("gap +0.12 [-0.01, +0.25] of 'a.', 5 of 'b'", "gap -0.30 [-0.41, +0.05] of 'a.', 7 of 'b'"),
    ],
)
def test_counts_and_shares_are_no_part_of_a_findings_name(one, other):
    assert name(one) == name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 answers speak of '2012'", "2 answers speak of '2014'"),
        ("'fare', valid until 2012-01-31", "'fare', valid until 2014-01-31"),
        ("2 rows from 'batch 1'", "2 rows from 'batch 2'"),
        ('2 answers say "the nurse\'s 1"', '2 answers say "the nurse\'s 2"'),
    ],
)
def test_what_a_finding_is_about_is_part_of_its_name(one, other):
    assert name(one) != name(other)


def test_two_years_that_the_same_rows_speak_of_are_two_findings():
    answer = "The offer is valid until 2012. The contract will end in 2014."
    row = Example("a", "a", (Message("user", "until when?"),), answer, Kind.GENERATION)
    found = outdated.find([row], Context(today=date(2026, 1, 1)))
    assert [one.evidence for one in found] != [] and len({one.name for one in found}) == len(found) == 2


def test_a_gap_tells_difference_and_ratio_each_with_its_interval():
    unequal, _ = group_faults.inject_bias(clean.rows(3), 3)
    [first, *_] = bias.find(unequal, Context(groups=("region",)))
    figure = r"[+-]?\d+\.\d\d"
    assert re.search(
        rf"difference {figure} \[{figure}, {figure}\], ratio {figure} \[{figure}, {figure}\]", first.evidence
    )


def test_the_intervals_hold_what_was_put_in_and_a_ratio_to_nothing_is_infinite():
    rng = np.random.default_rng(1)
    groups = np.repeat(["a", "b"], 400)
    sources = np.full(800, "s")

    def told(own, others) -> list[float]:
        values = np.concatenate([rng.random(400) < own, rng.random(400) < others]).astype(float)
        [gap] = gaps({"g": groups}, {"rate": values}, sources, alpha=0.05, least=0.1, floor=30, seed=0)
        assert gap.group == "a"
        return [float(figure) for figure in re.findall(r"[+-]?(?:\d+\.\d+|inf)", gap.text)]

    _, _, _, low, high, _, ratio_low, ratio_high, *_ = told(0.2, 0.6)
    assert low < -0.4 < high < 0 and ratio_low < 1 / 3 < ratio_high < 1
    assert told(0.5, 0.0)[5:8] == [np.inf] * 3
