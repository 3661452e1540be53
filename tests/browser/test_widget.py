"""End users rate answers in a page of the strictest policy; a breach of it or an error in the page fails the test."""

import re
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import expect

from service import tokens
from service.client import signing
from service.tables import Rating
from tests.browser.stranger import BAD, GOOD, WAITING

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
HOSTILE = "<img src=x onerror=alert(1)> '\"; --\n</textarea>{{ 7*7 }} \u202e🙂"


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
    expect(reader.page.get_by_role("status").first).to_have_text(re.compile("."))
    standing = [row.rating for row in reader.rows() if not row.withdrawn_at]
    assert standing == [Rating.DOWN]


def test_what_the_panel_sends_joins_what_the_click_recorded(reader):
    reader.click(BAD, "Recorded.")
    clicked = reader.row()
    reader.page.get_by_label("Wrong", exact=True).check()
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
    expect(reader.page.get_by_role("group", name="Say more")).to_be_hidden()
    reader.thumb("Say more").click()
    reader.write(Comment="Short and right.")
    reader.click("Send", "Sent. Thank you.")
    assert (reader.row().rating, reader.row().comment) == (Rating.UP, "Short and right.")


def test_the_other_thumb_changes_the_rating_and_drops_the_reasons(reader):
    reader.click(BAD, "Recorded.")
    reader.page.get_by_label("Wrong", exact=True).check()
    reader.click("Send", "Sent. Thank you.")
    reader.click(GOOD, "Recorded.")
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
    expect(reader.page.get_by_role("heading", name="Say more")).to_be_focused()
    press("Tab")
    press("Space")
    for _ in range(7):
        press("Tab")
    kind("That is a ward.")
    press("Escape")
    expect(reader.thumb(BAD)).to_be_focused()
    reader.hears("Recorded.")
    press("Tab")
    press("Tab")
    press("Enter")
    expect(reader.page.get_by_role("heading", name="Say more")).to_be_focused()
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
    expect(reader.widget).to_match_aria_snapshot("""
        - group "Rate this answer":
          - button "Good answer"
          - button "Bad answer" [pressed]
        - status: Recorded.
        - button "Undo"
        - button "Say more" [expanded]
        - link "Your feedback's status"
        - group "Say more":
          - heading "Say more" [level=3]
          - group "What could be better?":
            - checkbox "Wrong"
            - checkbox "Unsafe"
            - checkbox "Incomplete"
            - checkbox "Off topic"
            - checkbox "Style"
            - checkbox "Other"
          - status
          - button "Mark the wrong part"
          - text: Comment
          - textbox "Comment"
          - text: What should it have said?
          - button "Start from the answer"
          - textbox "What should it have said?"
          - checkbox "My words may improve the assistant."
          - text: My words may improve the assistant.
          - paragraph:
            - text: All of this is optional. It goes, with the conversation, to the team behind this assistant.
            - link "Privacy"
          - button "Send"
          - button "Close"
        - alert
    """)


def test_near_its_end_the_room_for_a_comment_is_shown_at_each_letter_and_told_now_and_then(reader):
    reader.click(BAD, "Recorded.")
    comment = reader.page.get_by_label("Comment")
    shown, told = reader.widget.locator(".field .note").first, reader.widget.locator(".heard")
    assert told.get_attribute("role") == "status"
    for written, last_told in ((2999, None), (3010, 3010), (3011, 3010), (4000, 4000)):
        comment.fill("x" * written)
        expect(shown).to_have_text(f"{written} / 4000" if last_told else "")
        expect(told).to_have_text(f"{last_told} / 4000" if last_told else "")


def test_hostile_texts_are_stored_as_written_and_shown_as_text(reader):
    reasons = '{"<b>x</b>": "<img src=x onerror=alert(1)>"}'
    reader.give("reasons", reasons)
    reader.click(BAD, "Recorded.")
    reader.page.get_by_label("<img src=x onerror=alert(1)>").check()
    reader.write(Comment=HOSTILE, should=HOSTILE)
    reader.click("Send", "Sent. Thank you.")
    row = reader.row()
    assert (row.reasons, row.comment, row.correction) == (["<b>x</b>"], HOSTILE, HOSTILE)
    assert reader.widget.locator("img, b").count() == 0


@pytest.mark.parametrize(
    "reasons", ["wrong, too_long", '["wrong", "too_long"]', '{"wrong": "Wrong", "too_long": "Far too long"}']
)
def test_reasons_are_the_projects_own(reader, reasons):
    reader.give("reasons", reasons)
    reader.click(BAD, "Recorded.")
    expect(reader.reasons).to_have_count(2)
    reader.page.get_by_label("too long").check()
    reader.click("Send", "Sent. Thank you.")
    assert reader.row().reasons == ["too_long"]


def test_reasons_that_nobody_can_read_leave_the_usual_ones(reader):
    reader.give("reasons", "{wrong")
    reader.click(BAD, "Recorded.")
    expect(reader.reasons).to_have_count(6)


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
    reader.hears("The service did not accept it.", role="alert")


def test_without_an_outbox_a_service_that_is_down_is_told_and_what_was_written_stays(reader):
    reader.give("outbox", "off")
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
    def lose(route):
        if route.request.method != "POST" or lost:
            return route.fallback()
        lost.append(route.fetch().status)
        return route.abort()

    lost = []
    reader.page.route("**/v1/feedback", lose)
    reader.click(GOOD, WAITING)
    reader.click(BAD, "Recorded.")
    assert reader.row().rating is Rating.DOWN


def test_what_was_withdrawn_elsewhere_is_recorded_anew(reader, client):
    reader.click(GOOD, "Recorded.")
    credentials = {"key": reader.key, "feedback_token": reader.token}
    origin = {"Origin": reader.page.evaluate("location.origin")}
    client.delete(f"/v1/feedback/{reader.row().event_id}", json=credentials, headers=origin)
    reader.click(BAD, "Recorded.")
    assert [row.rating for row in reader.rows() if not row.withdrawn_at] == [Rating.DOWN]


def test_the_host_hears_what_happened_and_nothing_personal(reader):
    reader.give("outbox", "off")
    reader.listen()
    reader.click(GOOD, "Recorded.")
    reader.click(BAD, "Recorded.")
    reader.click("Undo", "Taken back.")
    reader.page.context.set_offline(offline=True)
    reader.thumb(GOOD).click()
    reader.hears("Not sent: try again.", role="alert")
    heard = reader.heard()
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
    reader.widget.evaluate("widget => document.body.append(widget.cloneNode())")
    first, second = reader.widget.all()
    second.get_by_role("button", name=GOOD).click()
    expect(second.get_by_role("status")).to_have_text("Recorded.")
    expect(first.get_by_role("button", name=GOOD)).to_have_attribute("aria-pressed", "false")
    assert reader.row().rating is Rating.UP


def test_attaching_twice_makes_one_widget(reader):
    token = reader.token
    reader.widget.evaluate("widget => widget.remove()")
    attach = "([token, key]) => customElements.get('errata-feedback').attach(document.body, { token, key }).localName"
    for _ in range(2):
        assert reader.page.evaluate(attach, [token, reader.key]) == "errata-feedback"
    reader.click(GOOD, "Recorded.")
    assert reader.row().rating is Rating.UP


def test_a_widget_that_is_moved_keeps_what_was_said_and_another_token_forgets_it(reader):
    reader.click(BAD, "Recorded.")
    reader.write(Comment="unfinished")
    reader.widget.evaluate("widget => document.body.append(widget)")
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
    reader.keeps(0)
    assert reader.page.context.cookies() == []
    assert reader.page.evaluate("() => localStorage.length + sessionStorage.length") == 0


def test_five_lines_of_the_readme_embed_it_in_a_page_of_another_origin(reader, site):
    (lines,) = re.findall(r"```html\n(.*?)```", README, re.DOTALL)
    assert len(lines.strip().splitlines()) <= 5
    own = {"https://errata.example.org": site, "epk_...": reader.key, "FEEDBACK_TOKEN": reader.token}
    for example, real in own.items():
        lines = lines.replace(example, real)
    reader.page.route(
        f"{reader.url}copied", lambda route: route.fulfill(body=lines, content_type="text/html")
    )
    reader.page.context.grant_permissions(
        ["local-network-access"]
    )  # no address is known of a page made up here
    reader.page.goto(f"{reader.url}copied")
    reader.click(BAD, "Recorded.")
    assert reader.row().rating is Rating.DOWN
