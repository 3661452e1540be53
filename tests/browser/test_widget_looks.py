"""How the widget looks to those who see it otherwise: larger, mirrored, in other colours; and what is served of it."""

import gzip
import json

import pytest
from playwright.sync_api import expect

from service.web import widget
from tests.browser.stranger import BAD, GOOD, Reader

STYLE = """(widget, [selector, name]) =>
    getComputedStyle(widget.shadowRoot.querySelector(selector)).getPropertyValue(name)"""
HOST = """(css) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    document.adoptedStyleSheets = [sheet];
}"""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def look(reader: Reader, selector: str, name: str) -> str:
    return reader.widget.evaluate(STYLE, [selector, name])


@pytest.mark.parametrize(("scheme", "lang"), [("light", "en"), ("dark", "en"), ("light", "ar")])
def test_axe_finds_nothing_serious(reader, axe, scheme, lang):
    reader.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    reader.page.goto(f"{reader.url}?lang={lang}")
    reader.widget.locator(".down").click()
    expect(reader.widget.locator(".status")).not_to_be_empty()
    reader.widget.locator(".chip input").first.check()
    reader.widget.locator(".start").click()
    reader.widget.locator("#correction").fill("Billing.")
    assert axe(reader.page) == []


def test_every_target_is_large_enough_to_hit(reader):
    reader.click(BAD, "Recorded.")
    boxes = [button.bounding_box() for button in reader.page.get_by_role("button").all()]
    assert min(min(box["width"], box["height"]) for box in boxes) >= 32


@pytest.mark.parametrize(("lang", "width"), [("en", 320), ("ar", 640)])  # 1280 at 400 % and at 200 %
def test_nothing_is_cut_off_when_it_is_enlarged(reader, tmp_path, lang, width):
    reader.page.set_viewport_size({"width": width, "height": 512})
    reader.page.goto(f"{reader.url}?lang={lang}")
    reader.widget.locator(".down").click()
    expect(reader.widget.locator(".status")).not_to_be_empty()
    reader.page.screenshot(path=tmp_path / f"{lang}-{width}.png", full_page=True)
    assert reader.page.evaluate(OVERFLOW) <= 0
    up, down = (reader.widget.locator(name).bounding_box()["x"] for name in (".up", ".down"))
    assert (up > down) == (lang == "ar")


def test_forced_colours_leave_what_is_pressed_to_be_seen(reader):
    reader.page.emulate_media(forced_colors="active")
    reader.click(GOOD, "Recorded.")
    highlight = reader.page.evaluate("""() => {
        document.body.style.backgroundColor = "Highlight";
        document.body.style.forcedColorAdjust = "none";
        return getComputedStyle(document.body).backgroundColor;
    }""")
    assert look(reader, ".down", "background-color") != highlight == look(reader, ".up", "background-color")
    assert look(reader, ".more", "border-top-width") == "1px"


def test_nothing_moves(reader):
    reader.click(BAD, "Recorded.")
    moving = "widget => widget.shadowRoot.getAnimations().length + document.getAnimations().length"
    assert reader.widget.evaluate(moving) == 0
    durations = reader.widget.evaluate("""widget => [...widget.shadowRoot.querySelectorAll("*")].map((one) =>
        getComputedStyle(one).transitionDuration + getComputedStyle(one).animationName)""")
    assert set(durations) == {"0snone"}


def test_the_host_s_theme_is_worn(reader):
    reader.click(BAD, "Recorded.")
    assert look(reader, ".send", "background-color") == "rgb(31, 95, 196)"
    reader.page.evaluate(
        HOST,
        """errata-feedback { --errata-accent: rgb(1, 2, 3); --errata-surface: rgb(4, 5, 6) }
        errata-feedback { --errata-line: rgb(7, 8, 9) }
        errata-feedback::part(send) { border-radius: 3px } errata-feedback::part(chip) { border-style: dotted }
        .send { background: red } button { padding: 99px }""",
    )
    assert look(reader, ".send", "background-color") == "rgb(1, 2, 3)"
    assert look(reader, ".panel", "background-color") == "rgb(4, 5, 6)"
    assert look(reader, ".chip", "border-top-color") == "rgb(7, 8, 9)"
    assert look(reader, ".send", "border-top-left-radius") == "3px"
    assert look(reader, ".chip", "border-top-style") == "dotted"
    assert look(reader, ".thumb", "padding-top") == "7px"


def test_the_script_is_small(client):
    served = client.get(widget.script_path(), headers={"Accept-Encoding": "gzip"})
    assert served.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(served.data) == client.get(widget.script_path()).data
    assert len(served.data) <= 10_240


@pytest.mark.parametrize(
    ("written", "served"),
    [
        ("/* a */\nlet x = 1; // b\n", "\nlet x=1;\n"),
        ('x = "a // b,  c";', 'x="a // b,  c";'),
        ("x = `a ,  b`;\n    if (a && b) {\n  c();\n}\n", "x=`a ,  b`;if(a&&b){c();}\n"),
        ("a\n\n    .b(c)", "a\n.b(c)"),
        ("a - -b", "a - -b"),
        ('{\n    #said = "#fff";\n    x = a.#text.#said;', '{#a="#fff";x=a.#b.#a;'),
        ("`\n  a { color: light-dark(#fff, #a3242f); }\n`", "`\na{color:light-dark(#fff,#a3242f);}\n`"),
    ],
)
def test_a_browser_is_spared_what_only_authors_read(written, served):
    assert widget.shortened(written) == served


def test_the_script_is_served_to_pages_of_any_origin_for_ever_or_for_minutes(client):
    pinned, newest = client.get(widget.script_path()), client.get("/widget/errata-feedback.js")
    assert pinned.data == newest.data == widget.script()
    assert pinned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert newest.headers["Cache-Control"] == "public, max-age=300"
    for answer in (pinned, newest):
        assert answer.content_type == "text/javascript; charset=utf-8"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_a_page_that_pins_an_earlier_release_is_served_it(client, monkeypatch, tmp_path):
    earlier = "/widget/errata-feedback.d1a7fa2c2cbbd3c1.js"
    assert client.get(earlier).status_code == 404
    (tmp_path / "1.0.js").write_bytes(b"released")
    monkeypatch.setattr(widget, "RELEASED", tmp_path)
    widget.versions_by_digest.cache_clear()
    try:
        listed = json.loads(client.get("/widget/versions.json").data)["versions"]
        newest = {
            "path": widget.script_path(),
            "integrity": widget.integrity(),
            "bytes": len(widget.script()),
        }
        assert listed[0] == newest
        served = client.get(listed[1]["path"])
        assert (served.data, served.headers["Cache-Control"]) == (b"released", widget.FOR_EVER)
    finally:
        widget.versions_by_digest.cache_clear()
