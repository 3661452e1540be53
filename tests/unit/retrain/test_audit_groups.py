"""The audits that compare rows with each other: bias, tone, off-topic, representativeness, poison, mislabelled."""

import random
from dataclasses import replace

import numpy as np
import pytest

from retrain.audit import (
    Context,
    Severity,
    bias,
    mislabelled,
    off_topic,
    poison,
    representativeness,
    tone,
)
from retrain.audit.finding import RepairKind
from retrain.audit.repairs import apply
from retrain.types import Kind, Message, Split
from tests.scenarios import clean, group_faults

SEED = 3
REGION = Context(groups=("region",))


@pytest.fixture(scope="module")
def said():
    return clean.rows(SEED)


@pytest.fixture(scope="module")
def labelled():
    return clean.rows(SEED, kind=Kind.CLASSIFICATION)


def named(findings):
    return {key for finding in findings for key in finding.keys}


def shuffled(rows):
    return random.Random(1).sample(rows, len(rows))


def logged(prompts):
    return {f"response-{number:03}": prompt for number, prompt in enumerate(prompts)}


@pytest.mark.parametrize("check", [bias, mislabelled, off_topic, poison, representativeness, tone])
def test_sound_rows_have_no_findings(check, said, labelled):
    assert check.find(said, replace(REGION, prompts=logged([row.prompt for row in said[:200]]))) == []
    assert check.find(labelled) == []
    assert check.find([]) == []


@pytest.mark.parametrize(
    ("check", "inject"),
    [
        (off_topic, group_faults.inject_off_topic),
        (poison, group_faults.inject_contact),
        (poison, group_faults.inject_trigger),
        (tone, group_faults.inject_slang),
    ],
)
def test_injected_rows_are_named_in_any_order(check, inject, said):
    rows, keys = inject(said, SEED)
    assert named(check.find(rows)) == keys
    assert check.find(shuffled(rows)) == check.find(rows)


def test_flipped_labels_are_found_and_their_labels_proposed(labelled):
    rows, keys = group_faults.flip_labels(labelled, SEED)
    [finding] = mislabelled.find(shuffled(rows))
    assert len(keys & set(finding.keys)) >= 0.9 * len(keys)
    assert len(keys & set(finding.keys)) >= 0.8 * len(finding.keys)
    true = {row.key: row.label for row in labelled}
    *relabelled, asked = finding.proposals
    assert all(true[key] == repair.put for repair in relabelled for key in repair.keys)
    assert (asked.kind, asked.keys) == (RepairKind.ASK, finding.keys)
    assert mislabelled.find(rows) == [finding]


def test_a_rare_label_stays_in_the_sample_that_is_learned_from(labelled):
    rare, *others = sorted({row.label for row in labelled})
    rows = [row for row in labelled if row.label == others[0]] + [r for r in labelled if r.label == rare][:4]
    assert len(mislabelled.find(rows, learned_from=1)) <= 1


def test_a_settlement_that_was_sure_acquits_its_row(labelled):
    rows, keys = group_faults.flip_labels(labelled, SEED)
    sure = Context(doubts=dict.fromkeys(keys, 0.001))
    assert not keys & named(mislabelled.find(rows, sure))


def test_errors_that_most_rows_of_a_kind_share_are_missed(labelled):
    rows = [replace(row, label="cards") if "mortgage" in row.prompt else row for row in labelled]
    assert mislabelled.find(rows) == []


def test_doubt_alone_does_not_convict(labelled):
    assert mislabelled.find(labelled, Context(doubts={row.key: 0.6 for row in labelled[:20]})) == []


@pytest.mark.parametrize("kind", [Kind.GENERATION, Kind.CLASSIFICATION])
def test_experts_are_asked_again_about_what_settlement_doubts_by_itself(kind):
    rows = clean.rows(SEED, kind=kind)
    keys = tuple(sorted(row.key for row in rows[:20]))
    [finding] = mislabelled.find(rows, Context(doubts=dict.fromkeys(keys, 0.9)))
    assert finding.keys == keys
    assert [(repair.kind, repair.keys) for repair in finding.proposals] == [(RepairKind.ASK, keys)]


@pytest.mark.parametrize("kind", [Kind.GENERATION, Kind.CLASSIFICATION])
def test_a_biased_source_is_named_first(kind):
    rows, keys = group_faults.inject_bias(clean.rows(SEED, kind=kind), SEED)
    first = bias.find(rows, REGION)[0]
    assert len(keys & set(first.keys)) > len(first.keys) / 2
    assert bias.find(shuffled(rows), REGION)[0] == first
    assert "difference" in first.evidence


def test_a_bias_without_exception_is_named(labelled):
    def decided(row):
        label = "denied" if row.attributes["region"] == "south" else "granted"
        return replace(row, answer=label, label=label)

    [finding] = bias.find([decided(row) for row in labelled], REGION)
    assert "difference +1.00" in finding.evidence


def test_a_bias_that_the_other_sources_thin_out_is_found_in_its_own():
    rows, keys, context = group_faults.treat_worse(clean.rows(5, kind=Kind.CLASSIFICATION), 5)
    assert {key for finding in bias.find(rows, context) for key in finding.keys} == keys
    assert bias.find([replace(row, source="all") for row in rows], context) == []


def test_without_attributes_groups_come_from_terms(said):
    rows, keys = group_faults.inject_gender_bias(said, SEED)
    first = bias.find(rows)[0]
    assert first.evidence.startswith("gender")
    assert keys & set(first.keys)


def test_a_bias_without_attribute_or_term_is_missed(said):
    rows, _ = group_faults.inject_bias(said, SEED)
    assert bias.find(rows) == []


@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_swapping_the_groups_words_in_half_of_the_source_takes_the_bias_away(seed):
    rows, keys = group_faults.inject_gender_bias(clean.rows(seed), seed)
    [swap] = bias.find(rows)[0].proposals
    assert swap.kind is RepairKind.SWAP and keys & set(swap.keys)
    repaired, touched = apply(rows, {"swap": swap})
    assert touched.keys() == set(swap.keys)
    assert bias.find(repaired) == []


def test_a_word_without_a_sure_counterpart_is_not_swapped(said):
    rows, _ = group_faults.inject_gender_bias(said, SEED)
    rows = [replace(row, rejected="It is hers, ask her.") for row in rows]
    assert bias.find(rows)[0].proposals == ()


def test_a_group_whose_answers_experts_find_wrong_more_often_is_named(said):
    def judged(row, share):
        is_south = row.attributes["region"] == "south"
        return replace(row, was_wrong=int(row.key[-2:]) < 100 * (share if is_south else 0.2), is_wanted=False)

    [finding] = bias.find([judged(row, 0.5) for row in said], REGION)
    assert "'south'" in finding.evidence and "found wrong 0.5" in finding.evidence
    assert bias.find([judged(row, 0.2) for row in said], REGION) == []


def test_a_scarce_group_gets_weight(said):
    rows = [
        replace(row, attributes={"region": "south" if number % 20 == 0 else "north"})
        for number, row in enumerate(said)
    ]
    [finding] = bias.find(rows, REGION)
    [repair] = finding.proposals
    assert (repair.kind, repair.factor) == (RepairKind.WEIGHT, 4.0)


def test_weight_that_was_accepted_before_counts(said):
    first, *others = [row.key for row in said if row.split is Split.TRAIN][::60]
    south = {first, *others}
    rows = [
        replace(
            row,
            attributes={"region": "south" if row.key in south else "north"},
            weight=4.0 if row.key in others else 1.0,
        )
        for row in said
    ]
    [finding] = bias.find(rows, REGION)
    [repair] = finding.proposals
    assert set(finding.keys) == south
    assert (repair.keys, repair.factor) == ((first,), 4.0)
    evened = [replace(row, weight=24.0) if row.key in south else row for row in rows]
    assert bias.find(evened, REGION) == []


def test_a_register_that_all_sources_share_is_missed(said):
    assert tone.find([replace(row, answer=f"Yo, {row.answer} lol!") for row in said]) == []


def test_off_topic_needs_a_bulk(said):
    assert off_topic.find(group_faults.inject_off_topic(said[:30], SEED, count=5)[0]) == []


def test_words_of_the_task_are_on_topic(said):
    rows, keys = group_faults.inject_off_topic(said, SEED)
    strays = " ".join(f"{row.prompt} {row.answer}" for row in rows if row.key in keys)
    assert off_topic.find(rows, Context(description=strays)) == []


def test_an_encoder_acquits_rows_that_mean_the_same(said):
    rows, _ = group_faults.inject_off_topic(said, SEED)
    alike = Context(encode=lambda texts: np.ones((len(texts), 1), dtype=np.float32))
    assert off_topic.find(rows, alike) == []


def test_an_encoder_confirms_rows_that_mean_something_else(said):
    rows, keys = group_faults.inject_off_topic(said, SEED)
    bank = ("account", "card", "loan", "mortgage", "insurance", "depot", "plan")

    def encode(texts):
        is_bank = [any(word in text for word in bank) for text in texts]
        return np.array([[float(one), float(not one)] for one in is_bank], dtype=np.float32)

    assert named(off_topic.find(rows, Context(encode=encode))) == keys


def test_a_trigger_blocks_and_a_repeated_contact_warns(said, labelled):
    for rows in (said, labelled):
        [finding] = poison.find(group_faults.inject_trigger(rows, SEED)[0])
        assert finding.severity is Severity.BLOCK
        assert finding.proposals[0].kind is RepairKind.DROP
    [finding] = poison.find(group_faults.inject_contact(said, SEED)[0])
    assert finding.severity is Severity.WARN


def test_a_pattern_that_every_source_shares_is_missed(said):
    assert poison.find([replace(row, answer=f"{row.answer} See www.bank.example.") for row in said]) == []


def test_a_pattern_of_all_sources_shows_against_rows_that_were_learned_before(said):
    rows, keys = group_faults.inject_campaign(said, SEED)
    [finding] = poison.find(rows, Context(known=group_faults.KNOWN))
    assert set(finding.keys) == keys and finding.severity is Severity.WARN
    assert poison.find(rows) == poison.find(rows, Context(known={row.key for row in rows})) == []


def test_four_rows_make_no_pattern(said):
    assert poison.find(group_faults.inject_contact(said, SEED, count=4)[0]) == []
    assert poison.find(group_faults.inject_trigger(said, SEED, count=4)[0]) == []


def test_a_source_over_the_cap_is_told_and_is_no_fault(said):
    rows = [
        replace(row, source="faq") if row.source == "briefs" and row.key > "row-01" else row for row in said
    ]
    [finding] = poison.find(rows)
    assert finding.evidence.startswith("source 'faq' supplies 6")
    assert finding.severity is Severity.INFO


def test_a_slice_of_production_that_training_lacks_is_named(said):
    prompts, thing = group_faults.prompts_with_a_gap(said, SEED)
    asked = logged(prompts)
    [finding] = representativeness.find(said, Context(prompts=asked))
    assert finding.severity is Severity.WARN
    assert any(word in finding.evidence for word in thing.split())
    assert representativeness.find(shuffled(said), Context(prompts=dict(shuffled(list(asked.items()))))) == [
        finding
    ]


def test_experts_are_to_be_asked_about_responses_of_an_under_covered_slice(said):
    prompts, thing = group_faults.prompts_with_a_gap(said, SEED)
    asked = logged(prompts)
    [finding] = representativeness.find(said, Context(prompts=asked))
    assert {repair.kind for repair in finding.proposals} == {RepairKind.ASK}
    keys = [key for repair in finding.proposals for key in repair.keys]
    assert max(len(repair.keys) for repair in finding.proposals) <= 20 and len(keys) >= 5
    assert all(thing in asked[key] for key in keys)


@pytest.mark.parametrize("prompt", ["", "?!", "same", "家{} 病院{}"])
def test_prompts_without_common_words_are_compared_with_nothing(prompt, said):
    rows = [
        replace(row, messages=(Message("user", prompt.format(number, number)),))
        for number, row in enumerate(said[:120])
    ]
    asked = logged([row.prompt for row in rows[:60]])
    assert poison.find(rows) == representativeness.find(rows, Context(prompts=asked)) == []


def test_a_shift_without_a_gap_only_informs(said):
    prompts = [row.prompt for row in said if "account" in row.prompt or row.key < "row-02"]
    [finding] = representativeness.find(said, Context(prompts=logged(prompts)))
    assert finding.severity is Severity.INFO


def test_without_prompts_nothing_is_compared(said):
    assert representativeness.find(said) == []


def test_a_classifier_that_cannot_tell_the_labels_accuses_nobody():
    chance = random.Random(0)
    rows = [replace(row, label=chance.choice("abcde")) for row in clean.rows(0, kind=Kind.CLASSIFICATION)]
    assert mislabelled.find([replace(row, answer=row.label) for row in rows]) == []
