"""End users rate answers in a page of the strictest policy; a breach of it or an error in the page fails the test."""

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from playwright.sync_api import Locator, Page, expect
from sqlmodel import col, select

from service import tokens
from service.client import signing
from service.runtime import Runtime
from service.tables import Feedback, KeyKind, Rating
from service.web import widget
from tests import builders
from tests.browser.conftest import served
from tests.servers import free_port

GOOD, BAD = "Good answer", "Bad answer"
ANSWER = {"messages": [{"role": "user", "content": "who bills me?"}], "response": "Cardiology"}
HOSTILE = "<img src=x onerror=alert(1)> '\"; --\n</textarea>{{ 7*7 }} \u202e🙂"
POLICY = (
    "default-src 'none'; script-src {site}; connect-src {site}; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Clinic</title>
<meta name="color-scheme" content="light dark"><meta name="viewport" content="width=device-width">
<script src="{site}{path}" integrity="{integrity}" crossorigin="anonymous" defer></script>
<main><h1>Who bills me?</h1><p>Cardiology</p><errata-feedback token="{token}" key="{key}"></errata-feedback></main>"""


@dataclass(frozen=True, slots=True)
class Reader:
    """Someone who reads an answer in a host's page, which another origin serves."""

    page: Page
    runtime: Runtime
    token: str
    key: str

    def thumb(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def click(self, name: str, told: str) -> None:
        """Click a button and wait until the widget tells what came of it."""
        self.thumb(name).click()
        self.hears(told)

    def hears(self, told: str, role: str = "status") -> None:
        expect(self.page.get_by_role(role).filter(has_text=re.compile("."))).to_have_text(told)

    def write(self, **texts: str) -> None:
        for label, text in texts.items():
            self.page.get_by_label(re.compile(label)).fill(text)

    def rows(self) -> list[Feedback]:
        with self.runtime.db.reading() as session:
            return session.exec(select(Feedback).order_by(col(Feedback.created_at))).all()

    def row(self) -> Feedback:
        (row,) = self.rows()
        return row

    def give(self, name: str, value: str) -> None:
        """Have the host give the widget another attribute."""
        script = "(widget, [name, value]) => widget.setAttribute(name, value)"
        self.page.locator("errata-feedback").evaluate(script, [name, value])


@pytest.fixture
def reader(page, site, runtime, client) -> Iterator[Reader]:
    """A reader before they have said anything."""
    app, port = Flask("host"), free_port()
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        secret = builders.add_key(session, project)
        key = builders.add_key(session, project, KeyKind.PUBLIC, [f"http://127.0.0.1:{port}"])
    token = log(client, secret)

    @app.get("/")
    def show() -> Response:
        text = PAGE.format(
            site=site, path=widget.script_path(), integrity=widget.integrity(), token=token, key=key
        )
        return Response(text, headers={"Content-Security-Policy": POLICY.format(site=site)})

    with served(app, port) as url:
        page.goto(url)
        yield Reader(page, runtime, token, key)


def log(client: FlaskClient, secret: str) -> str:
    """Log an answer and return its feedback token."""
    logged = client.post("/v1/responses", json=ANSWER, headers={"Authorization": f"Bearer {secret}"})
    return logged.json["feedback_token"]


@pytest.mark.parametrize(("name", "rating"), [(GOOD, Rating.UP), (BAD, Rating.DOWN)])
def test_the_click_is_the_record(reader, name, rating):
    reader.click(name, "Recorded.")
    assert (reader.row().rating, reader.row().reasons, reader.row().comment) == (rating, [], None)


def test_the_record_can_be_followed(reader, site):
    reader.click(GOOD, "Recorded.")
    link = reader.page.get_by_role("link", name="Your feedback's status")
    expect(link).to_have_attribute("href", re.compile(f"^{site}/v1/feedback/{reader.row().id}/status/"))
    expect(link).to_have_attribute("rel", "noopener")


@pytest.mark.parametrize("taking_back", [BAD, "Undo"])
def test_a_second_click_takes_it_back_and_a_third_is_another_feedback(reader, taking_back):
    reader.click(BAD, "Recorded.")
    reader.click(taking_back, "Taken back.")
    expect(reader.thumb(BAD)).to_have_attribute("aria-pressed", "false")
    assert reader.row().withdrawn_at
    reader.click(BAD, "Recorded.")
    first, second = reader.rows()
    assert first.event_id != second.event_id
    assert (first.withdrawn_at is None, second.withdrawn_at is None) == (False, True)


def test_a_double_click_is_one_click(reader):
    reader.thumb(GOOD).dblclick()
    reader.hears("Recorded.")
    assert reader.row().withdrawn_at is None


def test_clicks_that_overtake_their_answers_come_to_what_was_clicked_last(reader):
    for name in (GOOD, BAD, GOOD, GOOD, BAD):
        reader.thumb(name).click()
    expect(reader.page.get_by_role("status")).to_have_text(re.compile("."))
    standing = [row.rating for row in reader.rows() if not row.withdrawn_at]
    assert standing == [Rating.DOWN]


def test_what_the_panel_sends_joins_what_the_click_recorded(reader):
    reader.click(BAD, "Recorded.")
    clicked = reader.row()
    reader.page.get_by_label("Factually wrong").check()
    reader.page.get_by_label("Incomplete").check()
    reader.write(Comment="That is a ward.", should="Billing")
    reader.click("Send", "Sent. Thank you.")
    row = reader.row()
    assert (row.id, row.event_id, row.rating) == (clicked.id, clicked.event_id, Rating.DOWN)
    assert (row.reasons, row.comment, row.correction) == (
        ["wrong", "incomplete"],
        "That is a ward.",
        "Billing",
    )


def test_a_good_answer_can_be_said_more_about(reader):
    reader.click(GOOD, "Recorded.")
    expect(reader.page.get_by_role("group", name="Tell us more")).to_be_hidden()
    reader.thumb("Say more").click()
    reader.write(Comment="Short and right.")
    reader.click("Send", "Sent. Thank you.")
    assert (reader.row().rating, reader.row().comment) == (Rating.UP, "Short and right.")


def test_the_other_thumb_changes_the_rating_and_drops_the_reasons(reader):
    reader.click(BAD, "Recorded.")
    reader.page.get_by_label("Factually wrong").check()
    reader.click("Send", "Sent. Thank you.")
    reader.click(GOOD, "Changed.")
    assert (reader.row().rating, reader.row().reasons) == (Rating.UP, [])


def test_closing_loses_nothing(reader):
    reader.click(BAD, "Recorded.")
    reader.write(Comment="unfinished")
    reader.thumb("Close").click()
    reader.thumb("Say more").click()
    expect(reader.page.get_by_label("Comment")).to_have_value("unfinished")
    assert reader.row().comment is None


def test_the_keyboard_alone_does_all_of_it(reader):
    press, kind = reader.page.keyboard.press, reader.page.keyboard.type
    press("Tab")
    expect(reader.thumb(GOOD)).to_be_focused()
    press("Tab")
    press("Space")
    expect(reader.page.get_by_role("heading", name="Tell us more")).to_be_focused()
    press("Tab")
    press("Space")
    for _ in range(6):
        press("Tab")
    kind("That is a ward.")
    press("Escape")
    expect(reader.thumb(BAD)).to_be_focused()
    reader.hears("Recorded.")
    press("Tab")
    press("Tab")
    press("Enter")
    expect(reader.page.get_by_role("heading", name="Tell us more")).to_be_focused()
    reader.thumb("Send").focus()
    press("Enter")
    reader.hears("Sent. Thank you.")
    expect(reader.thumb("Say more")).to_be_focused()
    assert (reader.row().reasons, reader.row().comment) == (["wrong"], "That is a ward.")


def test_a_click_with_a_mouse_leaves_the_focus_where_it_is(reader):
    reader.click(BAD, "Recorded.")
    expect(reader.thumb(BAD)).to_be_focused()


def test_names_and_states_are_told_to_assistive_technology(reader):
    reader.click(BAD, "Recorded.")
    expect(reader.page.locator("errata-feedback")).to_match_aria_snapshot("""
        - group "Rate this answer":
          - button "Good answer"
          - button "Bad answer" [pressed]
        - status: Recorded.
        - alert
        - button "Undo"
        - button "Say more" [expanded]
        - link "Your feedback's status"
        - group "Tell us more":
          - heading "Tell us more" [level=3]
          - group "What is wrong with it?":
            - checkbox "Factually wrong"
            - checkbox "Unsafe or biased"
            - checkbox "Incomplete"
            - checkbox "Did not answer the question"
            - checkbox "Tone or style"
            - checkbox "Something else"
          - text: Comment
          - textbox "Comment"
          - text: What should it have said?
          - textbox "What should it have said?"
          - paragraph
          - alert
          - button "Send"
          - button "Close"
    """)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(reader, axe, scheme):
    reader.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    reader.click(BAD, "Recorded.")
    reader.page.get_by_label("Factually wrong").check()
    assert axe(reader.page) == []


def test_every_target_is_large_enough_to_hit(reader):
    reader.click(BAD, "Recorded.")
    boxes = [button.bounding_box() for button in reader.page.get_by_role("button").all()]
    assert min(min(box["width"], box["height"]) for box in boxes) >= 32


def test_hostile_texts_are_stored_as_written_and_shown_as_text(reader):
    reasons = '{"<b>x</b>": "<img src=x onerror=alert(1)>"}'
    reader.give("reasons", reasons)
    reader.click(BAD, "Recorded.")
    reader.page.get_by_label("<img src=x onerror=alert(1)>").check()
    reader.write(Comment=HOSTILE, should=HOSTILE)
    reader.click("Send", "Sent. Thank you.")
    row = reader.row()
    assert (row.reasons, row.comment, row.correction) == (["<b>x</b>"], HOSTILE, HOSTILE)
    assert reader.page.locator("errata-feedback").locator("img, b").count() == 0


@pytest.mark.parametrize(
    "reasons", ["wrong, too_long", '["wrong", "too_long"]', '{"wrong": "Wrong", "too_long": "Far too long"}']
)
def test_reasons_are_the_projects_own(reader, reasons):
    reader.give("reasons", reasons)
    reader.click(BAD, "Recorded.")
    expect(reader.page.get_by_role("checkbox")).to_have_count(2)
    reader.page.get_by_label("too long").check()
    reader.click("Send", "Sent. Thank you.")
    assert reader.row().reasons == ["too_long"]


def test_reasons_that_nobody_can_read_leave_the_usual_ones(reader):
    reader.give("reasons", "{wrong")
    reader.click(BAD, "Recorded.")
    expect(reader.page.get_by_role("checkbox")).to_have_count(6)


def test_an_answer_that_is_too_old_says_so(reader):
    expired = replace(signing.read(reader.token), exp=1)
    key = tokens.signing_key(expired.project, expired.kid, reader.runtime.secrets)
    reader.give("token", signing.seal(expired, key))
    reader.thumb(BAD).click()
    reader.hears("This answer is too old to rate.", role="alert")
    expect(reader.thumb(BAD)).to_have_attribute("aria-pressed", "false")
    assert reader.rows() == []


def test_a_token_that_the_service_refuses_is_not_tried_again(reader):
    reader.give("token", "v1.x.y")
    reader.thumb(GOOD).click()
    reader.hears("Not sent: the service did not accept it.", role="alert")


def test_a_service_that_is_down_is_told_and_what_was_written_stays(reader):
    reader.page.context.set_offline(offline=True)
    reader.thumb(BAD).click()
    reader.hears("Not sent: try again.", role="alert")
    expect(reader.thumb(BAD)).to_have_attribute("aria-pressed", "false")
    reader.write(Comment="That is a ward.")
    reader.page.context.set_offline(offline=False)
    reader.click("Send", "Sent. Thank you.")
    expect(reader.thumb(BAD)).to_have_attribute("aria-pressed", "true")
    assert (reader.row().rating, reader.row().comment) == (Rating.DOWN, "That is a ward.")


def test_a_record_whose_answer_was_lost_is_not_made_twice(reader):
    reader.page.route("**/v1/feedback", lambda route: (route.fetch(), route.abort()), times=1)
    reader.thumb(GOOD).click()
    reader.hears("Not sent: try again.", role="alert")
    reader.click(BAD, "Changed.")
    assert reader.row().rating is Rating.DOWN


def test_what_was_withdrawn_elsewhere_is_recorded_anew(reader, client):
    reader.click(GOOD, "Recorded.")
    credentials = {"key": reader.key, "feedback_token": reader.token}
    origin = {"Origin": reader.page.evaluate("location.origin")}
    client.delete(f"/v1/feedback/{reader.row().event_id}", json=credentials, headers=origin)
    reader.click(BAD, "Recorded.")
    assert [row.rating for row in reader.rows() if not row.withdrawn_at] == [Rating.DOWN]


def test_the_host_hears_what_happened_and_nothing_personal(reader):
    reader.page.evaluate("""() => {
        window.heard = [];
        for (const name of ["recorded", "updated", "undone", "error"])
            document.addEventListener("errata:" + name, ({ type, detail }) => heard.push([type, detail]));
    }""")
    reader.click(GOOD, "Recorded.")
    reader.click(BAD, "Changed.")
    reader.click("Undo", "Taken back.")
    reader.page.context.set_offline(offline=True)
    reader.thumb(GOOD).click()
    reader.hears("Not sent: try again.", role="alert")
    heard = reader.page.evaluate("heard")
    event_id = str(reader.row().event_id)
    assert heard[:3] == [
        ["errata:recorded", {"event_id": event_id, "state": "received"}],
        ["errata:updated", {"event_id": event_id, "state": "received"}],
        ["errata:undone", {"event_id": event_id, "state": "withdrawn"}],
    ]
    assert (heard[3][0], heard[3][1].keys(), heard[3][1]["state"]) == (
        "errata:error",
        {"event_id", "state"},
        "unreachable",
    )


def test_two_widgets_do_not_disturb_each_other(reader):
    reader.page.locator("errata-feedback").evaluate("widget => document.body.append(widget.cloneNode())")
    first, second = reader.page.locator("errata-feedback").all()
    second.get_by_role("button", name=GOOD).click()
    expect(second.get_by_role("status")).to_have_text("Recorded.")
    expect(first.get_by_role("button", name=GOOD)).to_have_attribute("aria-pressed", "false")
    assert reader.row().rating is Rating.UP


def test_attaching_twice_makes_one_widget(reader):
    reader.page.locator("errata-feedback").evaluate("widget => widget.remove()")
    attach = "([token, key]) => customElements.get('errata-feedback').attach(document.body, { token, key }).localName"
    for _ in range(2):
        assert reader.page.evaluate(attach, [reader.token, reader.key]) == "errata-feedback"
    reader.click(GOOD, "Recorded.")
    assert reader.row().rating is Rating.UP


def test_a_widget_that_is_moved_keeps_what_was_said_and_another_token_forgets_it(reader):
    reader.click(BAD, "Recorded.")
    reader.write(Comment="unfinished")
    reader.page.locator("errata-feedback").evaluate("widget => document.body.append(widget)")
    expect(reader.thumb(BAD)).to_have_attribute("aria-pressed", "true")
    expect(reader.page.get_by_label("Comment")).to_have_value("unfinished")
    reader.give("token", "another")
    expect(reader.thumb(BAD)).to_have_attribute("aria-pressed", "false")
    expect(reader.page.get_by_label("Comment", exact=True)).to_have_value("")


def test_a_page_without_tls_makes_good_ids_too(reader):
    reader.page.evaluate("() => delete Crypto.prototype.randomUUID")
    reader.click(GOOD, "Recorded.")
    assert UUID(str(reader.row().event_id)).version == 4


def test_nothing_is_kept_in_the_browser(reader):
    reader.click(BAD, "Recorded.")
    reader.write(Comment="That is a ward.")
    reader.click("Send", "Sent. Thank you.")
    assert reader.page.context.cookies() == []
    kept = "async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length]"
    assert reader.page.evaluate(kept) == [0, 0, 0]


def test_the_script_is_small():
    assert len(gzip.compress(widget.SCRIPT.read_bytes())) <= 10_240


def test_the_script_is_served_to_pages_of_any_origin_for_ever_or_for_minutes(client):
    pinned, newest = client.get(widget.script_path()), client.get("/widget/errata-feedback.js")
    assert pinned.data == newest.data == widget.SCRIPT.read_bytes()
    assert pinned.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert newest.headers["Cache-Control"] == "public, max-age=300"
    for answer in (pinned, newest):
        assert answer.content_type == "text/javascript; charset=utf-8"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_another_hash_is_no_script_of_ours(client):
    assert client.get("/widget/errata-feedback.0123456789abcdef.js").status_code == 404
