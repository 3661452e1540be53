"""A text of a user's hides nothing and does nothing, wherever it is shown."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from annotation.visible import places, visible
from service.clock import utcnow
from service.web.console.listing import FORMULA, Badge, Link, _harmless, plain
from service.web.console.text import (
    MAX_LINE,
    MAX_WORDS,
    age,
    exact,
    finalize,
    line,
    moment,
    word_diff,
)

texts = st.text(st.characters(codec="utf-8"), max_size=60)
words = st.lists(
    st.sampled_from(["the", "cat", "Ärzte", "42", " ", "  ", "\n", ",", ".", "\u2013", "家"]), max_size=30
)
sentences = words.map("".join)


@pytest.mark.parametrize(
    ("letter", "shown"),
    [
        ("\u202e", "⟦U+202E⟧"),  # turns the direction of what follows
        ("\u2066", "⟦U+2066⟧"),
        ("\u200b", "⟦U+200B⟧"),  # no width
        ("\ufeff", "⟦U+FEFF⟧"),
        ("\u00ad", "⟦U+00AD⟧"),  # soft hyphen
        ("\x1b", "⟦U+001B⟧"),  # begins a terminal's commands
        ("\r", "⟦U+000D⟧"),
        ("\x00", "⟦U+0000⟧"),
        ("\u2028", "⟦U+2028⟧"),
        ("\ue000", "⟦U+E000⟧"),  # private use: nobody knows what it looks like
        ("\U000e0041", "⟦U+E0041⟧"),  # a tag, invisible everywhere
        ("\U000e0101", "⟦U+E0101⟧"),  # variation selectors, in which whole texts can hide
        ("\u3164", "⟦U+3164⟧"),  # fillers: letters that look like nothing
        ("\u115f", "⟦U+115F⟧"),
        ("\u034f", "⟦U+034F⟧"),
        ("\ufe00", "⟦U+FE00⟧"),
    ],
)
def test_a_character_that_hides_is_told_by_its_number(letter, shown):
    assert visible(f"pay{letter}ment") == f"pay{shown}ment"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two\nlines\tand a tab",
        "Ärztin, 家, שלום",
        "👩‍⚕️",
        "می\u200cکنم",
        "👍🏽",
        "e\u0301",
        "1\ufe0f\u20e3",
        "❤\ufe0f\u200d🔥",
    ],
)
def test_what_people_write_stays_as_it_is(text):
    assert visible(text) == text


def test_a_joiner_between_ascii_letters_is_shown():
    assert visible("pay\u200dpal") == "pay⟦U+200D⟧pal"


def test_a_text_that_hides_in_an_emoji_s_selectors_is_shown():
    assert visible("👍\ufe0f\ufe01\ufe02") == "👍\ufe0f⟦U+FE01⟧⟦U+FE02⟧"


@given(texts)
def test_each_character_shown_tells_where_it_comes_from(text):
    origins = places(text)
    assert len(origins) == len(visible(text)) and sorted(origins) == origins
    assert sorted(set(origins)) == list(range(len(text)))


@given(texts)
def test_nothing_that_is_shown_hides(text):
    hidden = {letter for letter in visible(text) if unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs")}
    assert hidden <= {"\n", "\t", "\u200c", "\u200d"}


@given(texts)
def test_what_is_shown_can_be_read_back(text):
    read = re.sub("⟦U\\+([0-9A-F]{4,6})⟧", lambda found: chr(int(found[1], 16)), visible(text))
    assert read == re.sub("⟦U\\+([0-9A-F]{4,6})⟧", lambda found: chr(int(found[1], 16)), text)


def test_templates_show_every_text_that_way_and_nothing_as_a_dash():
    assert finalize("a\u202eb") == "a⟦U+202E⟧b"
    assert finalize(None) == "\u2013"
    assert finalize(7) == 7
    assert finalize(Markup("<b>\u202e</b>")) == "<b>\u202e</b>"


def test_a_field_of_a_form_keeps_every_character():
    assert exact("\u202e<\"'&") == Markup("\u202e&lt;&#34;&#39;&amp;")


@given(sentences, sentences)
def test_a_diff_is_made_of_both_texts(old, new):
    pieces = word_diff(old, new)
    assert "".join(text for kind, text in pieces if kind != "removed") == new
    assert "".join(text for kind, text in pieces if kind != "added") == old


@given(texts, texts)
def test_a_diff_loses_no_character_of_any_script(old, new):
    pieces = word_diff(old, new)
    assert "".join(text for kind, text in pieces if kind != "removed") == new
    assert "".join(text for kind, text in pieces if kind != "added") == old


@given(sentences)
def test_equal_texts_differ_nowhere(text):
    assert {kind for kind, _ in word_diff(text, text)} <= {"same"}


def test_a_diff_names_the_word_that_changed():
    assert word_diff("take 20 mg daily", "take 40 mg daily") == [
        ("same", "take "),
        ("removed", "20"),
        ("added", "40"),
        ("same", " mg daily"),
    ]


def test_a_diff_of_endless_texts_stops():
    shown = "".join(text for _, text in word_diff("", "word " * MAX_WORDS))
    assert shown == "word " * (MAX_WORDS // 2) + " […]"


@pytest.mark.parametrize("first", FORMULA)
def test_a_formula_is_only_text_in_a_spreadsheet(first):
    assert _harmless(f"{first}1+1") == f"'{first}1+1"


@given(texts)
def test_no_text_of_an_export_begins_a_formula(text):
    assert not str(_harmless(text)).startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("value", ["plain", "", -1, -0.5, None, "'=1"])
def test_what_begins_no_formula_is_exported_as_it_is(value):
    assert _harmless(value) == value


def test_programs_read_cells_without_their_links():
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert [plain(cell) for cell in (Link("a", "/b"), Badge("live"), at, 3, None)] == [
        "a",
        "live",
        "2026-01-02T00:00:00+00:00",
        3,
        None,
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days"), (8_640_000, "100 days")],
)
def test_a_duration_is_told_in_its_natural_unit(seconds, told):
    assert age(seconds) == told


def test_a_moment_is_told_as_people_count_it():
    assert " ago<" in moment(utcnow() - timedelta(hours=3))
    assert ">in 3 h<" in moment(utcnow() + timedelta(hours=3, seconds=5))
    assert moment(None) == "\u2013"


def test_a_list_shows_a_texts_beginning_on_one_line_and_a_hash_by_its_own():
    assert line("one\n two") == "one two"
    assert line("x" * 200) == "x" * MAX_LINE + "…"
    assert line(f"of sha256:{'ab' * 32}, not {'ab' * 32}") == f"of sha256:abababab…, not {'ab' * 32}"
    assert line(3.5) == 3.5 and line(None) is None
