"""Exports: each format has the columns its trainer reads, and nothing gets out that must stay in."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.export import (
    FORMATS,
    TRAINING_SPLITS,
    BrokenEntities,
    Format,
    LeftOut,
    MixedSplits,
    NothingToExport,
    canonical_entities,
    export,
    has_placeholder,
    to_jsonl,
)
from retrain.types import Example, Form, Kind, Message, Split

PROMPT = Message("user", "Where is my parcel?")
SFT = Example("s1", "g1", (PROMPT,), "On its way.", Kind.GENERATION)
PREFERENCE = replace(SFT, key="s2", rejected="No idea.")
SINGLE = replace(SFT, key="s3", answer="Go away.", is_wanted=False)
LABELLED = replace(SFT, key="s4", answer="shipping", kind=Kind.CLASSIFICATION, label="shipping")
ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is my parcel?"}]
ANY_FORM = {Format.KTO, Format.PARQUET}
ANSWERED = {Format.SFT, Format.OPENAI}
COMPARED = {Format.PREFERENCE, Format.OPENAI_PREFERENCE}
ALLOWED = {
    Form.SFT: ANY_FORM | ANSWERED,
    Form.PREFERENCE: ANY_FORM | ANSWERED | COMPARED,
    Form.SINGLE: ANY_FORM,
}


def said(answer):
    return [{"role": "assistant", "content": answer}]


def rows(example, wanted):
    return list(export([example], wanted, system_prompt="Be kind.").rows)


@st.composite
def sets(draw):
    """Rows of all forms, kinds and splits, some without weight and some with a placeholder."""
    answer = draw(st.sampled_from(["yes", "ask [EMAIL]", "no"]))
    label = draw(st.sampled_from([None, "yes"]))
    return replace(
        SFT,
        key=draw(st.uuids().map(str)),
        answer=label or answer,
        label=label,
        kind=Kind.CLASSIFICATION if label else Kind.GENERATION,
        split=draw(st.sampled_from(Split)),
        weight=draw(st.sampled_from([0.0, 0.5, 1.0])),
        rejected=draw(st.sampled_from([None, "maybe"])),
        is_wanted=draw(st.booleans()),
    )


def test_sft_is_a_conversational_prompt_and_completion():
    assert rows(SFT, Format.SFT) == [{"prompt": ASKED, "completion": said("On its way.")}]


def test_a_preference_has_a_better_and_a_worse_answer():
    assert rows(PREFERENCE, Format.PREFERENCE) == [
        {"prompt": ASKED, "chosen": said("On its way."), "rejected": said("No idea.")}
    ]


def test_a_preference_is_two_unpaired_answers():
    assert rows(PREFERENCE, Format.KTO) == [
        {"prompt": ASKED, "completion": said("On its way."), "label": True},
        {"prompt": ASKED, "completion": said("No idea."), "label": False},
    ]


def test_a_verdict_alone_is_one_unpaired_answer():
    assert rows(SINGLE, Format.KTO) == [{"prompt": ASKED, "completion": said("Go away."), "label": False}]


def test_a_classifier_reads_text_and_label():
    assert rows(LABELLED, Format.CLASSIFICATION) == [{"text": "Where is my parcel?", "label": "shipping"}]


def test_openai_reads_the_whole_conversation():
    assert rows(SFT, Format.OPENAI) == [{"messages": [*ASKED, *said("On its way.")]}]


def test_openai_reads_preferences_in_its_own_words():
    assert rows(PREFERENCE, Format.OPENAI_PREFERENCE) == [
        {
            "input": {"messages": ASKED},
            "preferred_output": said("On its way."),
            "non_preferred_output": said("No idea."),
        }
    ]


def test_parquet_holds_the_whole_content_as_it_is():
    assert rows(PREFERENCE, Format.PARQUET) == [PREFERENCE.content]


def test_a_conversations_own_system_turn_stays_the_only_one():
    own = replace(SFT, messages=(Message("system", "Be brief."), PROMPT))
    assert [turn["role"] for turn in rows(own, Format.SFT)[0]["prompt"]] == ["system", "user"]


def test_without_a_system_prompt_none_is_made_up():
    (row,) = export([SFT], Format.SFT).rows
    assert row["prompt"] == [{"role": "user", "content": "Where is my parcel?"}]


@given(st.lists(sets(), max_size=12), st.sampled_from(Format))
def test_every_row_is_in_exactly_the_formats_of_its_form(examples, wanted):
    expected = [
        example
        for example in examples
        if example.split in TRAINING_SPLITS
        and example.weight > 0
        and not (example.is_wanted and "[EMAIL]" in example.answer)
        and (
            wanted in ALLOWED[example.form]
            or (wanted is Format.CLASSIFICATION and example.label is not None and example.is_wanted)
        )
    ]
    if not expected:
        with pytest.raises(NothingToExport):
            export(examples, wanted)
        return
    made = export(examples, wanted)
    doubled = sum(row.form is Form.PREFERENCE for row in expected) if wanted is Format.KTO else 0
    assert made.examples == len(expected)
    assert len(made.rows) == len(expected) + doubled
    assert made.examples + sum(made.left_out.values()) == len(examples)


@pytest.mark.parametrize("wanted", Format)
@pytest.mark.parametrize("split", [Split.TEST, Split.REGRESSION])
def test_what_models_are_judged_by_is_in_no_file_unless_asked_for(wanted, split):
    held_out = replace(LABELLED, rejected="billing", split=split)
    with pytest.raises(NothingToExport, match="split 1"):
        export([held_out], wanted)
    assert export([held_out], wanted, splits=[split]).examples == 1


def test_what_models_are_judged_by_is_never_beside_what_they_learn_from():
    with pytest.raises(MixedSplits, match="train and test"):
        export([SFT], Format.SFT, splits=[Split.TRAIN, Split.TEST])


@pytest.mark.parametrize("wanted", Format)
def test_a_placeholder_is_never_said_as_an_answer(wanted):
    asking = replace(LABELLED, key="s5", answer="Write to [EMAIL].", label=None, rejected="No.")
    made = export([asking, replace(LABELLED, rejected="billing")], wanted)
    assert made.left_out == {LeftOut.PLACEHOLDER: 1}
    assert "[EMAIL]" not in to_jsonl(made.rows).decode()


def test_a_placeholder_may_stand_in_the_prompt_and_in_the_worse_answer():
    about = replace(PREFERENCE, messages=(Message("user", "I am [NAME]."),), rejected="Call [PHONE_NUMBER].")
    assert len(rows(about, Format.PREFERENCE)) == 1


@pytest.mark.parametrize(
    "text",
    ["[EMAIL]", "call [PHONE_NUMBER]!", "<PERSON>", "<<NAME>>", "[[EMAIL]]", "{IBAN}", "{{IBAN}}", "[PERSON_1]",
     "Dr.[NAME]", "Dear [NAME]: yes", "[PATIENT_NAME]", "[ORG]", "[URL]", "<DATE>", "[CUSTOMER ID 7]", "[ORDER_NUMBER]",
     "[NAME][EMAIL]", "a < b <NAME>",
     "[email]", "[Name]", "[Your Name]", "[customer_name]", "{{name}}", "{{ user.email }}", "{{Date}}", "家[NAME]"],
)  # fmt: skip
def test_a_placeholder_is_a_kind_of_thing_in_brackets(text):
    assert has_placeholder(text)


@pytest.mark.parametrize(
    "text",
    ["[a]", "A[I]", "x < Y > z", '["EMAIL"]', "see [3]", "row[0]", "row[NAME]", "data[user_id]", "${NAME}",
     "grid[x][NAME]",     "\\textbf{NAME}", "[email](mailto:team@example.com)", "[Name][1]",
     "[name]: https://example.com", "[[Name]]",
     "<p>", "<address>", "<date>2014-12-31</date>", "<NAME>Bob</NAME>", "<a name='x'>", "{name}", "/users/{id}",
     "{{ item.price }}", "{{cite}}", "[the company]", "[date]", "[sic]", "[NAMES]", "[X]", "[UPDATED]"],
)  # fmt: skip
def test_links_places_and_elements_are_no_placeholders(text):
    assert not has_placeholder(text)


def test_a_format_without_a_row_is_an_error_and_no_empty_file():
    with pytest.raises(NothingToExport, match=r"preference.*form 1"):
        export([SFT], Format.PREFERENCE)
    with pytest.raises(NothingToExport, match="the set is empty"):
        export([], Format.SFT)


def test_equal_sets_give_equal_files_whatever_their_order():
    examples = [SFT, PREFERENCE, SINGLE]
    made = export(examples, Format.KTO)
    mirrored = export([replace(row, key="k") for row in reversed(examples)], Format.KTO)
    assert to_jsonl(made.rows) == to_jsonl(mirrored.rows)
    assert len(to_jsonl(made.rows).splitlines()) == 4


def test_entities_are_canonical_whatever_their_order():
    entities = '[{"text": "Köln", "label": "place"}, {"label": "day", "text": "Monday"}]'
    turned = (
        '[{"label":"day","text":"Monday"}, {"label":"place","text":"Köln"}, {"label":"place","text":"Köln"}]'
    )
    assert canonical_entities(entities) == canonical_entities(turned)
    assert canonical_entities(entities) == '[{"label":"day","text":"Monday"},{"label":"place","text":"Köln"}]'


@given(st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers() | st.text("ab"))))
def test_canonical_entities_are_a_fixed_point(entities):
    once = canonical_entities(json.dumps(entities))
    assert canonical_entities(once) == once


@pytest.mark.parametrize(
    "text", ["", "Köln", '{"a": 1}', "[1]", '[{"a": NaN}]', '[{"a": "\\ud800"}]', "[" * 100_000]
)
def test_what_is_no_list_of_entities_is_refused(text):
    with pytest.raises(BrokenEntities, match="array of objects"):
        canonical_entities(text)


def test_extraction_answers_are_canonical_in_every_format():
    extracted = replace(SFT, kind=Kind.EXTRACTION, answer='[ {"b": 1, "a": 2} ]')
    assert rows(extracted, Format.SFT)[0]["completion"] == said('[{"a":2,"b":1}]')
    with pytest.raises(BrokenEntities, match="settlement s1"):
        export([replace(extracted, answer="none")], Format.PARQUET)


def test_every_format_has_a_transformer():
    assert set(FORMATS) == set(Format)


@pytest.mark.parametrize(("wanted", "lost"), [(Format.SFT, 1), (Format.KTO, 1), (Format.PARQUET, 0)])
def test_weights_that_a_format_cannot_hold_are_counted(wanted, lost):
    heavy, left_out = replace(SFT, key="s5", weight=2.0), replace(SFT, key="s6", weight=0.0)
    assert export([SFT, heavy, left_out], wanted).weights_lost == lost
