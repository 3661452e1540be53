"""The audits that stop a set: leakage, contradictions, imbalance."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.audit import Context, Severity, contradictions, imbalance, large_groups, leakage
from retrain.audit.checks import (
    BLOCKING,
    UnknownCheck,
    audit_set,
    run_all,
    versions,
    versions_of_set,
)
from retrain.types import Example, Kind, Message, Split

KNEE = "my left knee has been swollen since i fell off the ladder on monday evening"


def example(prompt, label="orthopaedics", *, split=Split.TRAIN, group=None, kind=Kind.CLASSIFICATION):
    return Example(
        key=f"{split}:{prompt}:{label}",
        group=group or prompt,
        messages=(Message("user", prompt),),
        answer=label,
        kind=kind,
        label=label if kind is Kind.CLASSIFICATION else None,
        split=split,
    )


def balanced():
    prompts = {"orthopaedics": "joint {}", "cardiology": "heart {}"}
    return [example(text.format(n), label) for label, text in prompts.items() for n in range(6)]


def test_a_sound_set_has_no_findings():
    assert run_all(balanced()) == []


def test_a_group_in_train_and_test_blocks():
    rows = [example("one", group="g"), example("two", group="g", split=Split.TEST)]
    [finding] = leakage.find(rows)
    assert finding.severity is Severity.BLOCK
    assert finding.keys == tuple(sorted(row.key for row in rows))


def test_a_near_duplicate_of_a_test_prompt_in_train_blocks():
    [finding] = leakage.find([example(KNEE), example(f"Help, {KNEE}!", split=Split.TEST)])
    assert finding.severity is Severity.BLOCK


def test_copies_of_test_rows_leak_however_alike_a_recipe_wants_duplicates_to_be():
    rows = [example(KNEE), example(f"Help, {KNEE}!", split=Split.TEST)]
    [finding] = leakage.find(rows, Context(near_threshold=0.99))
    assert finding.severity is Severity.BLOCK
    assert (
        leakage.find(
            [example(KNEE), example("what does the parking garage cost for a day", split=Split.TEST)],
            Context(near_threshold=0.99),
        )
        == []
    )


def test_a_group_in_train_and_validation_warns():
    [finding] = leakage.find([example("one", group="g"), example("two", group="g", split=Split.VALIDATION)])
    assert finding.severity is Severity.WARN


def test_near_duplicates_in_one_split_do_not_leak():
    assert leakage.find([example(KNEE), example(f"Help, {KNEE}")]) == []


def test_one_prompt_with_two_labels_in_train_blocks():
    [finding] = contradictions.find([example(KNEE), example(f"{KNEE}!!", "emergency")])
    assert finding.severity is Severity.BLOCK


def test_nearly_equal_prompts_with_two_labels_warn():
    [finding] = contradictions.find([example(KNEE), example(f"Help, {KNEE}", "emergency")])
    assert finding.severity is Severity.WARN


def test_one_prompt_with_two_labels_outside_train_warns():
    rows = [example(KNEE, split=Split.TEST), example(KNEE, "emergency", split=Split.TEST)]
    assert [finding.severity for finding in contradictions.find(rows)] == [Severity.WARN]


def test_two_corrections_of_one_prompt_warn():
    rows = [example(KNEE, answer, kind=Kind.GENERATION) for answer in ("Cool it.", "Rest it.")]
    assert [finding.severity for finding in contradictions.find(rows)] == [Severity.WARN]


def test_answers_that_differ_in_punctuation_do_not_contradict():
    rows = [example(KNEE, answer, kind=Kind.GENERATION) for answer in ("Cool it.", "cool it")]
    assert contradictions.find(rows) == []


def test_a_single_label_blocks():
    [finding] = imbalance.find([example(f"joint {n}") for n in range(9)])
    assert finding.severity is Severity.BLOCK


def test_a_label_below_the_floor_warns_even_where_only_test_has_it():
    rows = [*balanced(), example("rash", "dermatology", split=Split.TEST)]
    [finding] = imbalance.find(rows)
    assert finding.severity is Severity.WARN
    assert finding.evidence == "fewer than 5 training examples: 'dermatology' 0"


def test_a_dominant_label_warns():
    rows = [*balanced(), *(example(f"bone {n}") for n in range(60))]
    [finding] = imbalance.find(rows)
    assert finding.evidence == "'orthopaedics' has 66 training examples, 'cardiology' has 6"


@pytest.mark.parametrize(
    ("facet", "severity"),
    [
        (lambda value: {"reasons": (value,)}, Severity.WARN),
        (lambda value: {"language": value}, Severity.WARN),
        (lambda value: {"attributes": {"plan": value}}, Severity.INFO),
    ],
    ids=["reason", "language", "slice"],
)
def test_a_rare_reason_language_or_slice_is_told(facet, severity):
    def rows(*counts):
        values = [value for value, count in zip("abc", counts, strict=True) for _ in range(count)]
        return [
            replace(example(f"p{n}", "x", kind=Kind.GENERATION), **facet(value))
            for n, value in enumerate(values)
        ]

    [finding] = imbalance.find(rows(61, 6, 30))
    assert finding.evidence.endswith("'a' has 61, but 'b' 6") and finding.severity is severity
    assert len(finding.keys) == 6
    assert imbalance.find(rows(60, 6, 30)) == []


def test_what_bias_compares_and_values_of_single_rows_are_no_slices():
    rows = [
        replace(
            example(f"p{n}", "x", kind=Kind.GENERATION),
            attributes={"plan": "b" if n < 6 else "a", "n": f"{n // 30}"},
        )
        for n in range(91)
    ]
    assert imbalance.find(rows, Context(groups=["plan"])) == []


def test_imbalance_leaves_generated_answers_alone():
    assert imbalance.find([example("a", "x", kind=Kind.GENERATION)]) == []


def test_findings_never_quote_a_text():
    rows = [example(KNEE), example(KNEE, "emergency"), example(KNEE, split=Split.TEST)]
    assert all("knee" not in finding.evidence for finding in run_all(rows))


def test_a_group_that_outweighs_the_rest_is_reported():
    rows = [example(f"prompt {n}", group="one" if n < 12 else f"g{n}") for n in range(100)]
    [finding] = large_groups.find(rows)
    assert (finding.severity, len(finding.keys)) == (Severity.WARN, 12)
    assert large_groups.find(rows[8:]) == []


def test_an_unknown_check_is_refused_by_name():
    with pytest.raises(UnknownCheck, match=r"'tarot'.*leakage"):
        run_all(balanced(), checks=["tarot"])
    assert run_all(balanced(), checks=["leakage"]) == []


def test_no_recipe_goes_without_what_can_stop_a_training():
    rows = [*balanced(), example("log in with password: hunter2-4711-Qx")]
    assert [each.check for each in audit_set(rows, checks=["tone"])] == ["personal"]
    assert run_all(rows, checks=["tone"]) == []
    assert {"tone", *BLOCKING} == versions_of_set(["tone"]).keys()
    assert versions_of_set() == versions()
    blocking = {each.check for each in run_all(rows) if each.severity is Severity.BLOCK}
    assert blocking == {"personal"}


texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "?!", "the cat sat", "call +1 555 0100", "<b>as of 2009</b>", "[EMAIL]", "家 病院", "a" * 300]
    ),
)
rows_of_any_kind = st.lists(
    st.tuples(
        texts, texts, st.sampled_from(list(Kind)), st.sampled_from(list(Split)), st.sampled_from("abc")
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(rows_of_any_kind)
def test_no_check_breaks_whatever_the_rows(drawn):
    rows = [
        Example(
            key=f"k{number}",
            group=f"g{number % 5}",
            messages=(Message("user", asked),),
            answer=said,
            kind=kind,
            label=said or "x" if kind is Kind.CLASSIFICATION else None,
            split=split,
            source=source,
            attributes={"region": source},
            written=date(2020, 1, 1),
        )
        for number, (asked, said, kind, split, source) in enumerate(drawn)
    ]
    context = Context(
        today=date(2026, 1, 1),
        prompts={"a": "the cat sat", "b": "the cat sat"},
        groups=["region"],
        earlier=rows[:3],
    )
    keys = {row.key for row in rows}
    assert all(set(finding.keys) <= keys for finding in run_all(rows, context))
