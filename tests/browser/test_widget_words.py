"""What readers write, mark and agree to in the panel, and in which language it is put to them."""

import re

import pytest
from example.server import ANSWER
from playwright.sync_api import expect

from tests.browser.stranger import BAD, GOOD, SHARED

LANGUAGES = ("en", "de", "fr", "es", "ar")
OWN = "() => customElements.get('errata-feedback').texts"
SELECT = """([start, end]) => {
    const range = document.createRange();
    const text = document.querySelector("#answer").firstChild;
    range.setStart(text, start);
    range.setEnd(text, end);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
}"""
BETTER = "The billing office sends it within four weeks, and your insurance pays."


def missing(texts: dict[str, dict[str, str]]) -> list[str]:
    """What a language lacks that English has, or has too much."""
    return [
        f"{lang} {key}"
        for lang, own in texts.items()
        for key in texts["en"].keys() | own.keys()
        if not own.get(key) or key not in texts["en"]
    ]


def test_no_language_lacks_a_text_and_none_speaks_for_another(reader):
    texts = reader.page.evaluate(OWN)
    assert tuple(texts) == LANGUAGES
    assert missing(texts) == []
    assert all(len({own[key] for own in texts.values()}) >= 4 for key in texts["en"])


@pytest.mark.parametrize("lacking", [{"up": "Gute Antwort"}, {"up": "Gute Antwort", "down": "", "sent": "?"}])
def test_a_missing_text_is_noticed(lacking):
    assert missing({"en": {"up": "Good answer", "down": "Bad answer"}, "de": lacking})


@pytest.mark.parametrize("lang", ["de", "ar"])
def test_the_page_s_language_is_spoken(reader, lang):
    reader.page.goto(f"{reader.url}?lang={lang}")
    text = reader.page.evaluate(OWN)[lang]
    reader.click(text["down"], text["recorded"])
    panel = reader.page.get_by_role("group", name=text["more"])
    expect(panel.get_by_role("textbox", name=text["correction"])).to_be_visible()
    widget = reader.widget.locator(".widget")
    expect(widget).to_have_attribute("lang", lang)
    expect(widget).to_have_attribute("dir", "rtl" if lang == "ar" else "ltr")


def test_the_host_may_bring_other_words(reader):
    for lang, texts, up in (
        ("de-AT", "", "Gute Antwort"),
        ("nl", "", "Good answer"),
        ("nl", '{"up": "Goed antwoord"}', "Goed antwoord"),
        ("de", '{"up": "<b>Passt</b>"}', "<b>Passt</b>"),
        ("de", "{up", "Gute Antwort"),
    ):
        reader.give("texts", texts)
        reader.give("lang", lang)
        expect(reader.thumb(up)).to_be_visible()
    assert reader.widget.locator("b").count() == 0


def test_the_project_s_own_reasons_are_offered_and_asked_for_once_a_page(reader):
    asked = []

    def answer(route):
        asked.append((route.request.url.rpartition("?")[2], route.request.headers.get("authorization")))
        reasons = [{"code": "late", "label": "Zu spät <b>"}, {"code": "too_long", "label": None}]
        route.fulfill(json={"version": 2, "reasons": reasons}, headers=SHARED)

    reader.page.route("**/v1/reasons?*", answer)
    reader.give("lang", "de")
    reader.click("Schlechte Antwort", "Vermerkt.")
    chips = reader.page.get_by_role("group", name="Was könnte besser sein?").locator("label")
    expect(chips).to_have_text(["Zu spät <b>", "Too long"])
    reader.page.get_by_label("Zu spät").check()
    reader.thumb("Schließen").click()
    reader.thumb("Mehr sagen").click()
    expect(reader.page.get_by_label("Zu spät")).to_be_checked()
    assert asked == [("language=de", f"Bearer {reader.key}")]


@pytest.mark.parametrize(("clicks", "consent"), [(0, None), (1, True), (2, False)])
def test_consent_is_what_the_reader_says_and_nothing_if_they_say_nothing(reader, clicks, consent):
    reader.click(BAD, "Recorded.")
    for _ in range(clicks):
        reader.page.get_by_label("My words may improve the assistant.").click()
    reader.click("Send", "Sent. Thank you.")
    assert reader.row().consent is consent


def test_a_correction_starts_from_the_answer_and_shows_what_it_changes(reader):
    reader.click(BAD, "Recorded.")
    reader.thumb("Start from the answer").click()
    correction = reader.page.get_by_role("textbox", name="What should it have said?")
    expect(correction).to_have_value(ANSWER)
    expect(correction).to_be_focused()
    changes = reader.page.get_by_role("group", name="What should it have said?")
    expect(changes).to_be_hidden()
    correction.fill(BETTER)
    expect(changes.locator("del")).to_have_text(["cardiology", "ward", "six"])
    expect(changes.locator("ins")).to_have_text(["billing", "office", "four"])
    told = changes.evaluate("""(changes) => ["ins", "del"].map((left_out) => {
        const copy = changes.cloneNode(true);
        for (const one of copy.querySelectorAll(left_out)) one.remove();
        return copy.textContent;
    })""")
    assert told == [ANSWER, BETTER]
    reader.click("Send", "Sent. Thank you.")
    assert reader.row().correction == BETTER


def test_changes_are_shown_word_by_word_and_as_text(reader):
    reader.click(BAD, "Recorded.")
    reader.thumb("Start from the answer").click()
    hostile, long = "<img src=x onerror=alert(1)>", "Ω " * 3900
    for written, deleted, inserted in (
        ("", [], []),
        (ANSWER, [], []),
        (f"{ANSWER} Ask.", [], [" Ask."]),
        (ANSWER.replace("sends it ", ""), ["sends it "], []),
        (hostile + ANSWER, [], [hostile]),
        (long + ANSWER, [], [long]),
    ):
        reader.write(should=written)
        changes = reader.widget.locator(".diff")
        assert changes.locator("del").all_text_contents() == deleted
        assert changes.locator("ins").all_text_contents() == inserted
    assert reader.widget.locator("img").count() == 0


def test_an_answer_that_nobody_changed_is_no_correction(reader):
    reader.click(BAD, "Recorded.")
    reader.thumb("Start from the answer").click()
    reader.click("Send", "Sent. Thank you.")
    assert reader.row().correction is None


def test_the_wrong_part_of_the_answer_can_be_marked(reader):
    reader.click(BAD, "Recorded.")
    mark = reader.thumb("Mark the wrong part")
    mark.click()
    quote = reader.widget.locator(".quote")
    expect(quote).to_have_text("First select it in the answer.")
    start = ANSWER.index("cardiology ward")
    reader.page.evaluate(SELECT, [start, start + 15])
    mark.click()
    expect(quote).to_have_text("cardiology ward")
    reader.thumb("Send").click()
    expect(reader.page.get_by_role("status").first).to_have_text("Sent. Thank you.")
    marked = {"start": start, "end": start + 15, "quote": "cardiology ward"}
    assert reader.row().selection == marked
    reader.thumb("Say more").click()
    reader.page.get_by_role("group", name="Say more").get_by_role("button", name="Undo").click()
    expect(quote).to_be_empty()
    reader.thumb("Send").click()
    expect(reader.page.get_by_role("status").first).to_have_text("Sent. Thank you.")
    assert reader.row().selection is None


def test_without_an_answer_to_look_at_nothing_of_it_is_offered(reader):
    reader.widget.evaluate("widget => widget.removeAttribute('for')")
    reader.click(BAD, "Recorded.")
    for name in ("Mark the wrong part", "Start from the answer"):
        expect(reader.thumb(name)).to_be_hidden()
    reader.give("for", "nowhere")
    reader.thumb("Start from the answer").click()
    reader.thumb("Mark the wrong part").click()
    reader.click("Send", "Sent. Thank you.")


def test_a_reader_without_scripts_sends_a_plain_form(browser, reader):
    sent = []

    def answer(route):
        sent.append((route.request.method, route.request.url, route.request.post_data))
        route.fulfill(status=200, body="thanks")

    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        context.route(re.compile("/f/"), answer)
        page.goto(reader.url)
        token = page.locator("errata-feedback").get_attribute("token")
        page.get_by_label("What should be better?").fill("a ward & <b>")
        page.get_by_label("My words may improve").check()
        page.get_by_role("button", name=BAD).click()
        expect(page.get_by_text("thanks")).to_be_visible()
    ((method, url, body),) = sent
    assert (method, url.partition("/f/")[2]) == ("POST", token)
    assert body == f"key={reader.key}&comment=a+ward+%26+%3Cb%3E&consent=true&rating=down"
    expect(reader.page.get_by_role("textbox", name="What should be better?")).to_be_hidden()
    expect(reader.thumb(GOOD)).to_be_visible()
