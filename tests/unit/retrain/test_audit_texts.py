"""The audits of texts: duplicates, contradictions, boilerplate, noise, outdated, terminology, personal."""

import random
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.audit import (
    Severity,
    boilerplate,
    contradictions,
    duplicates,
    noise,
    outdated,
    personal,
    terminology,
)
from retrain.audit.context import NOTHING, Context, Validity
from retrain.audit.finding import RepairKind
from retrain.types import Example, Kind, Message, Split

CHECKS = (duplicates, contradictions, boilerplate, noise, outdated, terminology, personal)
TODAY = Context(today=date(2026, 9, 1))
ASK = "how long does a transfer to another country take on a public holiday"
SAY = "A transfer abroad takes 3 working days, and each holiday in between adds a day to that."
NOUNS = (
    *("lamp", "kettle", "window", "garden", "bridge", "violin", "carpet", "ladder"),
    *("mirror", "basket", "engine", "pillow", "candle", "hammer", "saddle"),
)
VERBS = (
    *("cleans", "repairs", "measures", "paints", "polishes", "moves", "lifts"),
    *("stores", "wraps", "sells", "inspects", "covers", "locks", "weighs"),
)


def row(key, prompt=ASK, answer=SAY, *, kind=Kind.GENERATION, **more):
    return Example(key=key, group=key, messages=(Message("user", prompt),), answer=answer, kind=kind, **more)


def answered(*answers):
    return [row(str(n), f"question {NOUNS[n % 15]} {n}", answer) for n, answer in enumerate(answers)]


def clean(count=60):
    chance = random.Random(1)
    rows = []
    for n in range(count):
        thing, verb, other = chance.choice(NOUNS), chance.choice(VERBS), chance.choice(NOUNS)
        answer = f"Somebody {verb} the {thing} with number {n} before the {other} {chance.choice(VERBS)} it."
        rows.append(
            row(f"{n:03}", f"Who {verb} my {thing} {n} {other}?", answer, source="faq", language="en")
        )
    return rows


def keys(findings):
    return {key for finding in findings for key in finding.keys}


@pytest.mark.parametrize("check", CHECKS)
def test_clean_rows_raise_nothing(check):
    assert check.find(clean(), TODAY) == []


@pytest.mark.parametrize("check", CHECKS)
def test_an_empty_set_raises_nothing(check):
    assert check.find([], TODAY) == []


@pytest.mark.parametrize("check", CHECKS)
def test_the_order_of_the_rows_changes_nothing(check):
    rows = [
        *clean(),
        *answered("", "N/A", "<p>Yes.</p>", "Call +49 30 1234567.", "Valid until 2015."),
        *(row(f"x{n}", answer=f"{SAY} Bye.") for n in range(3)),
        row("y", answer=SAY.replace("3", "5")),
    ]
    found = [check.find(order, TODAY) for order in (rows, rows[::-1])]
    assert sorted(found[0], key=str) == sorted(found[1], key=str)


def test_nearly_equal_rows_are_duplicates_and_all_but_one_are_dropped():
    rows = [row("a"), row("b", f"Hello, {ASK}?", SAY.upper()), row("c", split=Split.TEST)]
    [finding] = duplicates.find(rows)
    [drop] = finding.proposals
    assert finding.keys == ("a", "b", "c")
    assert drop.kind is RepairKind.DROP and len(drop.keys) == 2


def test_another_answer_is_no_duplicate():
    assert duplicates.find([row("a"), row("b", answer=SAY.replace("3", "5"))]) == []


def test_a_row_of_an_earlier_version_under_another_key_is_a_duplicate():
    [finding] = duplicates.find([row("a")], Context(earlier=[row("old")]))
    assert finding.keys == ("a",) and finding.proposals == ()


def test_a_row_is_no_duplicate_of_itself_in_an_earlier_version():
    assert duplicates.find([row("a")], Context(earlier=[row("a")])) == []


def test_a_duplicate_in_other_words_is_missed():
    assert duplicates.find([row("a"), row("b", "when does money sent abroad arrive")]) == []


@pytest.mark.parametrize(
    "answer",
    [SAY.replace("3", "5"), SAY.replace("takes", "never takes"), "Ask the branch; nobody here can say."],
    ids=["number", "negation", "other words"],
)
def test_materially_different_answers_contradict(answer):
    [finding] = contradictions.find([row("a"), row("b", f"Please, {ASK}?", answer)])
    assert finding.keys == ("a", "b") and finding.severity is Severity.WARN


@pytest.mark.parametrize(
    "answer",
    [SAY.upper(), f"{SAY} Have a good day.", SAY.replace("adds", "will add")],
    ids=["case", "more", "words"],
)
def test_answers_that_say_the_same_do_not_contradict(answer):
    assert contradictions.find([row("a"), row("b", answer=answer)]) == []


def test_a_difference_that_the_prompts_explain_is_no_contradiction():
    rows = [
        row(word, f"{ASK} for a {word}", f"For a {word} {n} days, as {SAY}")
        for n, word in enumerate(("firm", "child"))
    ]
    assert contradictions.find(rows) == []


def test_a_row_that_says_what_is_wrong_contradicts_nothing():
    assert contradictions.find([row("a"), row("b", answer="Ask the branch.", is_wanted=False)]) == []


def test_a_footer_is_boilerplate_and_can_be_taken_out():
    rows = [
        *clean(),
        *(row(f"f{n}", r.prompt + "!", f"{r.answer} Rate us on our page.") for n, r in enumerate(clean(12))),
    ]
    [finding] = boilerplate.find(rows)
    [cut] = finding.proposals
    assert finding.keys == tuple(sorted(f"f{n}" for n in range(12)))
    assert (cut.kind, cut.find, cut.put) == (RepairKind.REPLACE, "Rate us on our page.", "")


def test_boilerplate_with_a_number_in_it_is_one_passage_and_quotes_no_row():
    rows = [
        row(r.key, r.prompt, f"{r.answer} Your case has the number {n * 7919}.")
        for n, r in enumerate(clean())
    ]
    [finding] = boilerplate.find(rows)
    assert "number 0" in finding.evidence and finding.proposals == ()


def test_a_template_with_gaps_is_boilerplate():
    rows = [
        row(r.key, r.prompt, f"Mx {r.prompt[-9:-1]} we are very glad that you wrote to us today. {r.answer}")
        for r in clean()
    ]
    assert "very glad that you wrote" in boilerplate.find(rows)[0].evidence


def test_an_answer_to_one_kind_of_question_is_no_boilerplate():
    rows = [
        *clean(),
        *(row(f"r{n}", f"refund {NOUNS[n]} {n}", f"Item {n}. Refunds go to the card.") for n in range(15)),
    ]
    assert boilerplate.find(rows) == []


def test_an_answer_that_is_nothing_but_the_passage_is_no_boilerplate():
    rows = [*clean(), *(row(f"n{n}", f"{NOUNS[n]} {n}", "That is not known to us.") for n in range(15))]
    assert boilerplate.find(rows) == []


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        ("", "empty"),
        ("n/a", "empty"),
        ("Take the <br> lift to the top.", "mark-up"),
        ("See [[Bank|the bank]] first.", "mark-up"),
        ("Lorem ipsum dolor sit amet.", "placeholder"),
        ("It costs TODO euros.", "placeholder"),
        ("The GebÃ¼hr is low.", "encoding"),
        ("It costs 3 \ufffd today.", "encoding"),
    ],
)
def test_noise_is_told_by_its_kind(answer, evidence):
    [finding] = noise.find(answered(answer))
    assert evidence in finding.evidence


@pytest.mark.parametrize(
    "answer", ["No.", "Is 3 < 5 > 2?", "Das Café ist schön, auch für Élise.", "What to do: rest."]
)
def test_unusual_answers_are_no_noise(answer):
    assert noise.find(answered(answer)) == []


def test_a_cut_answer_is_noise_where_the_others_end():
    [finding] = noise.find([*clean(), row("cut", answer="The carpet must be", source="faq")])
    assert finding.keys == ("cut",)


def test_answers_without_full_stops_are_left_alone_where_that_is_usual():
    assert noise.find([row(r.key, r.prompt, r.answer.rstrip("."), source="faq") for r in clean()]) == []


def test_a_list_and_a_signature_may_end_without_a_full_stop():
    signed = [row(f"s{n}", r.prompt, f"{r.answer} Your team", source="faq") for n, r in enumerate(clean(3))]
    assert noise.find([*clean(), *signed, row("list", answer="Bring: - a key - a lamp", source="faq")]) == []


def test_an_answer_in_another_language_is_noise():
    german = "Bitte bringen Sie den Ausweis in die Filiale mit, dann wird Ihnen dort gerne weitergeholfen."
    assert keys(noise.find([*clean(), row("de", answer=german, language="en")])) == {"de"}
    assert noise.find([row("de", answer=german, language="de")]) == []


def test_plain_tags_are_taken_out_and_others_drop_their_rows():
    [finding] = noise.find(answered("One <br> two.", '<a href="mailto:x">Three</a>.'))
    assert [(repair.kind, repair.find, repair.keys) for repair in finding.proposals] == [
        (RepairKind.REPLACE, "<br>", ("0",)),
        (RepairKind.DROP, "", ("1",)),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "The fee applies from 1 January 2014.",
        "The voucher is valid until 2015.",
        "As of 2012, there are nine branches.",
        "The price will rise in March 2019.",
        "It expires on 31.12.2020.",
    ],
)
def test_a_past_date_spoken_of_as_present_or_to_come_is_outdated(answer):
    assert keys(outdated.find(answered(answer), TODAY)) == {"0"}
    assert outdated.find(answered(answer)) == []


@pytest.mark.parametrize(
    "answer",
    [
        "The bank was founded in 1950.",
        "The offer was valid until 2015.",
        "From 1963 to 1985 nobody paid it.",
        "The fee applies from 1 January 2026.",
        "The voucher is valid until 2030.",
        "The loan is 2015 euros.",
        "He has worked here since 2001.",
    ],
)
def test_history_and_dates_to_come_are_not_outdated(answer):
    assert outdated.find(answered(answer), TODAY) == []


def test_a_thing_named_outside_its_validity_is_outdated():
    things = (
        Validity("Flexi Saver", valid_to=date(2020, 1, 1)),
        Validity("Green bond", valid_from=date(2020, 1, 1)),
    )
    rows = answered(
        "Take the FLEXI SAVER.", "Take the Green bond.", "Flexi Savers.", "The Flexi Saver was withdrawn."
    )
    [finding] = outdated.find(rows, Context(today=date(2026, 9, 1), validity=things))
    assert finding.keys == ("0",)


def test_the_last_day_of_a_validity_counts():
    context = Context(today=date(2026, 9, 1), validity=(Validity("Flexi Saver", valid_to=date(2026, 9, 1)),))
    assert outdated.find(answered("Take the Flexi Saver."), context) == []


def test_rows_of_a_source_outside_its_validity_are_outdated():
    today = TODAY.today
    spans = {
        "memos": (None, today - timedelta(1)),
        "drafts": (today + timedelta(1), None),
        "faq": (today, today),
        "wiki": (None, None),
    }
    rows = [row(name, kind=Kind.CLASSIFICATION, source=name) for name in spans]
    sources = [Validity(name, *span) for name, span in spans.items()]
    found = outdated.find(rows, replace(TODAY, sources=sources))
    assert [finding.keys for finding in found] == [("memos",), ("drafts",)]
    assert [finding.proposals[0].kind for finding in found] == [RepairKind.DROP] * 2


def test_of_two_contradicting_answers_the_older_is_outdated():
    rows = [
        row("old", written=date(2024, 1, 1)),
        row("new", answer=SAY.replace("3", "5"), written=date(2026, 1, 1)),
    ]
    assert keys(outdated.find(rows)) == {"old"}


def test_answers_of_one_month_are_a_disagreement_and_not_outdated():
    rows = [
        row("old", written=date(2026, 1, 1)),
        row("new", answer=SAY.replace("3", "5"), written=date(2026, 1, 9)),
    ]
    assert outdated.find(rows) == []


def test_a_glossarys_other_names_are_replaced():
    rows = answered("Open a giro account.", "Open a current account.", "Open a Cheque Account.")
    [finding] = terminology.find(
        rows, Context(glossary={"current account": ("giro account", "cheque account")})
    )
    assert finding.severity is Severity.WARN and finding.keys == ("0", "2")
    assert [(r.find, r.put, r.keys) for r in finding.proposals] == [
        ("giro account", "current account", ("0",)),
        ("cheque account", "current account", ("2",)),
    ]


def test_a_part_of_the_preferred_term_is_not_its_other_name():
    glossary = {"current account": ("account",)}
    assert terminology.find(answered("Open a current account."), Context(glossary=glossary)) == []


def mixed():
    terms = ("home loan", "mortgage", "mortgage", "mortgage")
    return [
        row(
            f"m{n:02}",
            f"Who {VERBS[n % 14]} a mortgage at {NOUNS[n % 15]} {n}?",
            f"The {terms[n % 4]} is with {NOUNS[n % 13]}.",
        )
        for n in range(24)
    ]


def test_a_term_that_answers_put_in_the_prompts_place_is_mined():
    [finding] = terminology.find([*clean(), *mixed()])
    assert finding.severity is Severity.INFO
    assert [(r.kind, r.find, r.put) for r in finding.proposals] == [
        (RepairKind.TERM, "home loan", "mortgage")
    ]
    assert finding.keys == tuple(f"m{n:02}" for n in range(0, 24, 4))


def test_an_encoder_refuses_terms_that_are_not_akin():
    context = Context(encode=lambda texts: np.eye(len(texts), dtype=np.float32))
    assert terminology.find([*clean(), *mixed()], context) == []


@pytest.mark.parametrize(
    ("text", "form", "severity"),
    [
        ("My key is sk-abcdefghijklmnop1234.", "key", Severity.BLOCK),
        ("-----BEGIN RSA PRIVATE KEY-----", "key", Severity.BLOCK),
        ("password: xyz", "password", Severity.BLOCK),
        ("The PIN is 4711.", "password", Severity.BLOCK),
        ("Pay to DE89 3704 0044 0532 0130 00 today.", "account", Severity.BLOCK),
        ("Card 4111 1111 1111 1111.", "card", Severity.BLOCK),
        ("It is 123-45-6789.", "identity", Severity.BLOCK),
        ("Write to anna.b@mail.example.com.", "e-mail", Severity.WARN),
        ("From 84.12.7.200 last night.", "IP", Severity.WARN),
        ("From 2001:db8:0:1:1:1:1:1 last night.", "IP", Severity.WARN),
        ("Call +49 30 1234567.", "telephone", Severity.WARN),
        ("Call (415) 555-2671.", "telephone", Severity.WARN),
        ("Call 0171/1234567.", "telephone", Severity.WARN),
        ("Write to [EMAIL].", "placeholder", Severity.WARN),
    ],
)
def test_personal_text_is_told_by_its_form(text, form, severity):
    [finding] = personal.find(answered(text))
    assert form in finding.evidence and finding.severity is severity
    assert [repair.kind for repair in finding.proposals] == [RepairKind.DROP]


@pytest.mark.parametrize(
    "text",
    [
        "It costs 1,250,000.00 euros or 12.500 a year.",
        "On 01.01.2014, 2014-05-12 and 12/31/2019 at 10:30.",
        "Card 4111 1111 1111 1112.",
        "Pay to DE88 3704 0044 0532 0130 00 today.",
        "Use version 1.2.3.4 of 300.1.1.1.",
        "Your password is case-sensitive; the PIN is secret.",
        "Order 12345678901 of 0.25 percent.",
        "Meet me @ noon in room 12-34-5.",
    ],
)
def test_ordinary_numbers_and_words_are_not_personal(text):
    assert personal.find(answered(text)) == []


def test_contact_data_in_many_answers_is_published():
    assert personal.find(answered(*[f"Line {n}: call +49 30 1234567." for n in range(5)])) == []


def test_placeholders_in_prompts_are_fine():
    assert personal.find([row("a", "I wrote to [EMAIL].")]) == []


def test_the_rejected_answer_is_searched_too():
    assert keys(personal.find([row("a", rejected="Mail bob@mail.example.com.")])) == {"a"}


@given(st.from_regex(r"[a-z]{3,8}\.[a-z]{3,8}@[a-z]{3,8}\.(com|org)", fullmatch=True))
def test_findings_never_quote_what_they_found(mail):
    for check in CHECKS:
        assert all(
            mail not in str(finding) for finding in check.find(answered(f"Write to {mail}. N/A"), NOTHING)
        )


@given(st.text(max_size=80))
def test_no_text_breaks_a_check(text):
    for check in CHECKS:
        check.find([row("a", text, text), row("b", text, f"{text} 1")], TODAY)
