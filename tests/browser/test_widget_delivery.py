"""What a reader said arrives once, whatever the network does; until then, and only then, the browser keeps it."""

import time

import pytest
from playwright.sync_api import expect

from service.tables import Rating
from tests.browser.stranger import BAD, GOOD, WAITING, earlier, tell_readers
from tests.waiting import eventually

WEEK, SECOND = 7 * 24 * 3600, 1000
TAKEN_FROM_BROWSERS = {
    "random UUIDs": "delete Crypto.prototype.randomUUID",
    "storage": "IDBFactory.prototype.open = () => { throw new DOMException('refused', 'SecurityError'); }",
    "locks": "delete Navigator.prototype.locks",
    "observers": "delete window.IntersectionObserver",
}


@pytest.mark.parametrize(("outbox", "arrived"), [("on", [Rating.DOWN]), ("off", [])])
def test_what_was_said_offline_arrives_once_the_network_is_back(reader, outbox, arrived):
    reader.give("outbox", outbox)
    reader.page.context.set_offline(offline=True)
    reader.thumb(BAD).click()
    if outbox == "on":
        reader.hears(WAITING)
        reader.write(Comment="That is a ward.")
        reader.click("Send", WAITING)
    else:
        reader.hears("Not sent: try again.", role="alert")
    reader.sees_pressed(BAD, "true" if arrived else "false")
    reader.page.context.set_offline(offline=False)
    reader.keeps(0)
    reader.page.wait_for_timeout(200)
    assert [row.rating for row in reader.rows()] == arrived
    assert [row.comment for row in reader.rows()] == ["That is a ward."] * len(arrived)


def test_a_reader_who_leaves_at_once_is_heard(reader):
    reader.give("outbox", "off")
    reader.widget.evaluate("""widget => {
        widget.shadowRoot.querySelector(".down").click();
        location.href = "about:blank";
    }""")
    eventually(lambda: [row.rating for row in reader.rows()] == [Rating.DOWN])


def test_a_page_that_is_loaded_again_shows_what_waits_and_sends_it(reader):
    reader.lose_service()
    reader.click(BAD, WAITING)
    reader.keeps(1)
    reader.page.reload()
    reader.sees_pressed(BAD)
    reader.hears(WAITING)
    assert reader.rows() == []
    reader.find_service()
    reader.hears("Recorded.")
    assert reader.row().rating is Rating.DOWN
    reader.keeps(0)


@pytest.mark.parametrize(("browser_has_locks", "sent"), [(True, 1), (False, 2)])
def test_two_tabs_send_what_waits_once(reader, browser_has_locks, sent):
    if not browser_has_locks:
        reader.page.context.add_init_script(TAKEN_FROM_BROWSERS["locks"])
        reader.page.reload()
    reader.lose_service()
    reader.click(BAD, WAITING)
    reader.keeps(1)
    other = reader.page.context.new_page()
    other.goto(reader.url)
    expect(other.get_by_role("status").first).to_have_text(WAITING)
    posts = []

    def answer(route):
        if route.request.method == "POST":
            posts.append(route.request.url)
            time.sleep(0.1)
        route.continue_()

    reader.page.context.unroute_all()
    reader.page.context.route("**/v1/feedback", answer)
    for page in (reader.page, other):
        page.evaluate("() => void dispatchEvent(new Event('online'))")
    for page in (reader.page, other):
        expect(page.get_by_role("status").first).not_to_have_text(WAITING)
        expect(page.get_by_role("button", name=BAD)).to_have_attribute("aria-pressed", "true")
    assert len(posts) == sent
    assert reader.row().rating is Rating.DOWN


def test_what_is_taken_back_before_it_was_sent_is_never_recorded(reader):
    reader.lose_service()
    reader.click(BAD, WAITING)
    reader.click(BAD, "Taken back.")
    reader.find_service()
    reader.keeps(0)
    reader.sees_pressed(BAD, "false")
    assert reader.rows() == []


@pytest.mark.parametrize(("status", "kept"), [(401, 0), (422, 0), (408, 1), (429, 1), (503, 1)])
def test_what_the_service_refuses_for_good_is_dropped_and_told(reader, status, kept):
    reader.listen()
    reader.answer(status)
    reader.thumb(BAD).click()
    if kept:
        reader.hears(WAITING)
    else:
        reader.hears("The service did not accept it.", role="alert")
    reader.sees_pressed(BAD, "true" if kept else "false")
    reader.keeps(kept)
    assert [name for name, _ in reader.heard()] == ["errata:error"] * (1 - kept)


def test_tries_become_rarer_up_to_one_an_hour(reader):
    reader.lose_service()
    reader.click(BAD, WAITING)
    pauses = []
    for tries in (1, 2, 40):
        if tries > 1:
            reader.store({**reader.stored()[0], "tries": tries - 1})
            reader.notice()
        eventually(lambda tries=tries: reader.stored()[0]["tries"] == tries)
        pauses.append(reader.stored()[0]["due"] / SECOND - time.time())
    first, second, last = pauses
    assert (2 < first <= 10, 7 < second <= 20, 3000 < last <= 3600) == (True, True, True)


def test_a_busy_service_says_when_to_come_back(reader):
    shared = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
    reader.page.context.route(
        "**/v1/**", lambda route: route.fulfill(status=503, json={}, headers={**shared, "Retry-After": "900"})
    )
    reader.click(BAD, WAITING)
    assert 800 < reader.keeps(1)[0]["due"] / SECOND - time.time() <= 900


def test_the_newest_fifty_are_kept_for_a_week(reader):
    reader.lose_service()
    reader.click(BAD, WAITING)
    (row,) = reader.keeps(1)
    now = round(time.time())
    reader.store(*({**row, "id": f"{(now - 60 + n) * SECOND}-{n}"} for n in range(50)))
    reader.click(GOOD, WAITING)
    reader.keeps(50)
    reader.listen()
    reader.store(*({**row, "id": f"{(now - WEEK - 60) * SECOND}-{n}"} for n in range(3)))
    reader.notice()
    eventually(lambda: len(reader.heard()) >= 3)
    assert {(name, detail["state"]) for name, detail in reader.heard()} == {("errata:error", "unsent")}
    assert row["id"] in {one["id"] for one in reader.stored()}


def test_a_browser_without_adopted_style_sheets_takes_the_script_s_nonce(reader):
    def answer(route):
        page = route.fetch()
        policy = page.headers["content-security-policy"].replace("'self'", "'self' 'nonce-n1'")
        text = page.text().replace("<script ", '<script nonce="n1" ')
        route.fulfill(body=text, content_type="text/html", headers={"content-security-policy": policy})

    reader.page.add_init_script("""Object.defineProperty(ShadowRoot.prototype, "adoptedStyleSheets", {
        set() { throw new TypeError(); }
    })""")
    reader.page.context.grant_permissions(
        ["local-network-access"]
    )  # no address is known of a page made up here
    reader.page.route(reader.url, answer)
    reader.page.reload()
    assert reader.thumb(BAD).bounding_box()["width"] == 36
    reader.click(BAD, "Recorded.")


@pytest.mark.parametrize("missing", TAKEN_FROM_BROWSERS)
def test_a_browser_that_lacks_something_loses_nothing_else(reader, missing):
    reader.page.add_init_script(TAKEN_FROM_BROWSERS[missing])
    reader.page.reload()
    reader.lose_service()
    reader.click(BAD, WAITING)
    reader.find_service()
    reader.hears("Recorded.")
    assert reader.row().rating is Rating.DOWN


def test_what_was_said_earlier_is_shown_once_it_is_seen_and_asked_for_once(reader):
    asked = []

    def answer(route):
        asked.append(route.request.headers.get("errata-feedback-token"))
        tell_readers(route, earlier())

    reader.page.goto("about:blank")
    reader.page.context.route("**/v1/feedback", answer)
    reader.page.goto(reader.url)
    reader.sees_pressed(BAD)
    reader.widget.evaluate("""widget => {
        const [silent, space, far] = [widget.cloneNode(), document.createElement("p"), widget.cloneNode()];
        silent.setAttribute("token", "silent");
        silent.setAttribute("restore", "off");
        space.style.height = "5000px";
        far.setAttribute("token", "another");
        document.body.append(silent, space, far);
    }""")
    token = reader.widget.first.get_attribute("token")
    reader.page.wait_for_timeout(100)
    assert asked == [token]
    reader.widget.last.scroll_into_view_if_needed()
    expect(reader.widget.last.get_by_role("button", name=BAD)).to_have_attribute("aria-pressed", "true")
    assert asked == [token, "another"]
    for _ in range(2):
        reader.widget.last.evaluate("widget => widget.remove()")
    expect(reader.page.get_by_role("link", name="Your feedback's status")).to_be_visible()
    reader.thumb("Say more").click()
    expect(reader.page.get_by_role("textbox", name="Comment")).to_have_value("A ward bills nobody.")
    expect(reader.page.get_by_label("Wrong", exact=True)).to_be_checked()
    expect(reader.page.get_by_label("My words may improve")).to_be_checked()


def test_a_fresh_token_for_the_same_answer_keeps_what_is_being_written(reader):
    reader.click(BAD, "Recorded.")
    reader.write(Comment="unfinished")
    first = reader.token
    head, payload, mac = first.split(".")
    reader.give("token", f"{head}.{payload}.{mac[:-1]}")
    reader.sees_pressed(BAD)
    expect(reader.page.get_by_role("textbox", name="Comment")).to_have_value("unfinished")
