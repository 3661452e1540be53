"""The console in a real browser: what people do there, by mouse and by keyboard, and what no page may ever do."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from annotation.types import Cause
from service import people
from service.runtime import Runtime
from service.tables import (
    AttackSession,
    Decision,
    Job,
    Promotion,
    PromotionKind,
    Role,
    RunState,
    Settlement,
    TrainingRun,
    User,
)
from tests import builders
from tests.browser.clinic import EMPTY, Clinic, open_clinic
from tests.chromium import SIZE

PASSWORD = "correct horse battery"
WHY = "better on what users ask"
BACK = "users complain about bills"
ATTACKS = (
    "<svg/onload=alert(2)>",
    "<a href='javascript:alert(3)'>here</a> [here](javascript:alert(3))",
    "\" onmouseover=alert(4) x=' onfocus=alert(4) autofocus y='",
    "</script></textarea></title></style><script>alert(5)</script>",
    "<div hx-post='/p/clinic/models/rollback' hx-trigger='load'>",
    "{% for x in ().__class__.__base__.__subclasses__() %}",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(6)&gt;'>",
    "__proto__ constructor",
    "<style>* {display: none}</style> <p style='position:fixed;inset:0'>",
    "![x](http://evil.example/x.png) <img src=http://evil.example/y.png> <link rel=prefetch href=//evil.example>",
)
HOSTILE = (
    "<script>alert(1)</script> \"><img src=x onerror=alert(1)> {{7*7}} \u202e\u200b '; DROP TABLE user; -- "
    + " ".join((*ATTACKS, "w" * 400))
)
# Where each hostile text must be readable: every page that shows what somebody wrote.
SHOWS = {
    "annotators",
    "audit",
    "conversation",
    "corpora",
    "corpus_rows",
    "evaluation",
    "feedback",
    "models",
    "overview",
    "playground",
    "set_diff",
    "settings",
    "story_of",
    "task",
    "tasks",
    "users",
}
FOCUSED = "one => one === document.activeElement"
FITS = "document.documentElement.scrollWidth <= innerWidth"
PHONE = {"width": 360, "height": 740}
ACTING = (
    "img[src='x'], body script:not([src]), [onerror], [onload], [onmouseover], [onfocus], [href^='javascript:'], "
    "[hx-post*='rollback'], math, style, [src*='evil'], [href*='evil']"
)


@pytest.fixture
def clinic(runtime, client) -> Clinic:
    """A project with a settled flag and a challenger that nobody has decided on."""
    return open_clinic(runtime, client)


@pytest.fixture
def hostile(runtime, client) -> Clinic:
    """The same, where everything that anybody could write is meant to do harm, and was approved and promoted."""
    clinic = open_clinic(runtime, client, HOSTILE)
    with runtime.db.reading() as session:
        writer = people.find(session, HOSTILE[:100])
    clinic.decide(writer, goes_live=True)
    return clinic


class Visitor:
    """Somebody before a browser of their own; links and buttons are named as they read them."""

    def __init__(self, page: Page, runtime: Runtime, site: str, name: str, role: Role) -> None:
        self.page, self.runtime, self.site, self.name = page, runtime, site, name
        page.set_default_timeout(8000)
        with runtime.db.transaction() as session:
            self.user, self.link = people.add_user(session, name, role, actor="test")

    def is_signed_in(self, *, browser: str = "Firefox") -> "Visitor":
        """Sign in without the pages for it, with a password for later."""
        with self.runtime.db.transaction() as session:
            user = session.get_one(User, self.user.id)
            secret = people.sign_in(session, user, browser=browser, hours=1)
            people.set_password(session, user, PASSWORD, here=people.open_sessions(session, user)[0])
        self.page.context.add_cookies([{"name": "errata", "value": secret, "url": self.site}])
        return self

    def go(self, path: str) -> None:
        self.page.goto(f"{self.site}{path}")

    def click(self, role: str, name: str) -> None:
        self.page.get_by_role(role, name=name).first.click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label).fill(text)

    def open(self, summary: str) -> None:
        self.page.get_by_text(summary).click()

    def reads(self, text: str) -> None:
        expect(self.page.locator("main")).to_contain_text(text)

    def press(self, *keys: str) -> None:
        self.page.wait_for_load_state()  # the script that hears them comes last
        for key in keys:
            self.page.keyboard.press(key)

    def write(self, text: str) -> None:
        self.page.keyboard.type(text)

    def reach(self, wanted: Locator) -> None:
        """Go on by the Tab key until something has the focus."""
        expect(wanted).to_be_visible()
        for _ in range(80):
            if wanted.evaluate(FOCUSED):
                return
            self.press("Tab")
        pytest.fail(f"the Tab key does not reach {wanted}")

    def enter(self, role: str, name: str) -> None:
        """Reach a link or button and press Enter."""
        self.reach(self.page.get_by_role(role, name=name).first)
        self.press("Enter")

    def type_into(self, label: str, text: str) -> None:
        self.reach(self.page.get_by_label(label))
        self.write(text)


@pytest.fixture
def visitor(page, runtime, site) -> Iterator[Callable[..., Visitor]]:
    """Make somebody who sits before the page; no page may ask anybody but the server that it came from."""
    asked: list[str] = []

    def sit_down(name: str, role: Role = Role.APPROVER, page: Page = page) -> Visitor:
        page.on("request", lambda request: asked.append(request.url))
        return Visitor(page, runtime, site, name, role)

    yield sit_down
    assert [url for url in asked if not url.startswith(f"{site}/")] == []


def test_a_flag_is_followed_to_a_new_champion_and_back_by_mouse(clinic, visitor):
    olga = visitor("olga")
    olga.go(f"/sign-in/{olga.link}")
    olga.click("button", "Sign in")
    olga.fill("The new one", PASSWORD)
    olga.click("button", "Set it")
    olga.click("button", "Sign out")
    olga.fill("Name", "olga")
    olga.fill("Password", PASSWORD)
    olga.click("button", "Sign in")

    # From what users said to what experts settled on.
    olga.click("link", "clinic")
    olga.click("link", "Feedback")
    olga.page.locator("tbody tr", has_text="corrected").get_by_role("link").first.click()
    olga.reads("Settled: incorrect, Billing")
    olga.click("link", "Chosen for experts")
    olga.reads("What it comes to")

    # From there to what a model learned.
    olga.page.go_back()
    olga.click("link", "Version 1: passed")
    olga.reads("Only the challenger is right")
    olga.fill("Why", WHY)
    olga.click("button", "Approve version 1")
    olga.reads("Version 1 is approved.")
    olga.open("Promote…")
    olga.fill("Your password, again", PASSWORD)
    olga.click("button", "Put version 1 live")
    olga.reads("Version 1 is live.")
    olga.open("Roll back version 1…")
    olga.fill("Why", BACK)
    olga.fill("Your password, again", PASSWORD)
    olga.click("button", "Roll back")
    olga.reads("Version 0 is live again.")
    assert clinic.approvals() == [(Decision.APPROVED, WHY)]
    assert what_was_live(clinic) == [("first", ""), ("promotion", WHY), ("rollback", BACK)]


def test_a_flag_is_followed_to_a_new_champion_and_back_by_keyboard_alone(clinic, visitor):
    olga = visitor("olga")
    olga.go(f"/sign-in/{olga.link}")
    olga.enter("button", "Sign in")
    olga.type_into("The new one", PASSWORD)
    olga.press("Enter")
    olga.reads("Your password is set")
    olga.enter("button", "Sign out")
    expect(olga.page.get_by_label("Name")).to_be_focused()
    olga.write("olga")
    olga.press("Tab")
    olga.write(PASSWORD)
    olga.press("Enter")

    olga.reads("Projects")
    olga.press("j", "Enter")
    olga.reads("Intake")
    olga.press("g", "f")
    olga.reads("Feedback")
    olga.press("/")
    expect(olga.page.get_by_label("Search")).to_be_focused()
    olga.write("bills me")
    olga.press("Enter")
    expect(olga.page).to_have_url(re.compile(r"q=bills"))
    olga.press("j", "j", "k", "j", "j", "Enter")
    olga.reads("Settled: incorrect, Billing")
    olga.enter("link", "Chosen for experts")
    olga.reads("What it comes to")

    olga.press("g", "e")
    olga.reads("Evaluations")
    olga.press("j", "Enter")
    olga.reads("Only the challenger is right")
    olga.type_into("Why", WHY)
    olga.enter("button", "Approve version 1")
    olga.reads("Version 1 is approved.")
    olga.reach(olga.page.get_by_text("Promote…"))
    olga.press("Enter")
    olga.type_into("Your password, again", PASSWORD)
    olga.press("Enter")
    olga.reads("Version 1 is live.")
    olga.reach(olga.page.get_by_text("Roll back version 1…"))
    olga.press("Enter")
    olga.type_into("Why", BACK)
    olga.type_into("Your password, again", PASSWORD)
    olga.enter("button", "Roll back")
    olga.reads("Version 0 is live again.")
    assert clinic.approvals() == [(Decision.APPROVED, WHY)]
    assert what_was_live(clinic) == [("first", ""), ("promotion", WHY), ("rollback", BACK)]


def test_axe_finds_nothing_serious_where_something_is_refused_shown_once_or_not_there(clinic, visitor, axe):
    ada = visitor("ada", Role.ADMIN)
    found = {}
    ada.go("/sign-in")
    ada.fill("Name", "ada")
    ada.fill("Password", "a wrong one")
    ada.click("button", "Sign in")
    found["refused"] = in_both_themes(ada.page, axe)
    ada.is_signed_in()
    ada.go(clinic.url_of("settings"))
    ada.click("button", "Make a key")
    found["a key"] = in_both_themes(ada.page, axe)
    ada.go(clinic.url_of("evaluation"))
    change_criteria(clinic)
    ada.fill("Why", WHY)
    ada.click("button", "Approve")
    found["not done yet"] = in_both_themes(ada.page, axe)
    ada.go(clinic.url_of("notices"))
    ada.page.get_by_text("Let somebody hear of it").click()
    ada.fill("Where to", "https://hooks.clinic.test/x")
    ada.page.get_by_role("checkbox", name="promoted").check()
    ada.click("button", "Add it")
    found["a secret"] = in_both_themes(ada.page, axe)
    clinic.change(Settlement, cause=Cause.PRODUCT, ticket_url="https://tickets.clinic.test/7")
    ada.go(clinic.url_of("task"))
    found["a ticket"] = in_both_themes(ada.page, axe)
    ada.go("/p/nowhere/")
    found["not there"] = in_both_themes(ada.page, axe)
    assert found == {name: [] for name in found}
    assert len(found) == 6


def test_the_question_mark_opens_the_list_of_keys(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    olga.go(clinic.url_of("overview"))
    olga.press("?")
    dialog = olga.page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Training sets")
    olga.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_key_does_nothing_while_somebody_types_or_has_switched_keys_off(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    olga.go(clinic.url_of("feedback"))
    olga.press("/")
    olga.write("?gf")
    expect(olga.page.get_by_label("Search")).to_have_value("?gf")
    olga.reach(olga.page.get_by_role("button", name="Show"))
    olga.press("?")
    olga.page.get_by_label("Keys work on this browser").uncheck()
    olga.press("Escape", "?")
    expect(olga.page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_a_job_that_goes_on_is_shown_as_it_goes_on_without_loading_its_page_again(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    olga.go(clinic.url_of("job"))
    olga.page.evaluate("window.mark = 'the same page'")
    clinic.change(Job, progress={"step": 3, "asking": "challenger"})
    expect(olga.page.locator("#job")).to_contain_text("challenger")
    clinic.change(Job, progress={"step": 4})
    expect(olga.page.locator("#job dl")).to_have_text("Step4")
    assert olga.page.evaluate("window.mark") == "the same page"


def test_a_runs_loss_curve_appears_and_grows_while_it_trains(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    running = clinic.rows(TrainingRun)[-1]
    olga.go(clinic.url_of("runs") + f"/{running.id}")
    olga.reads("The first steps are on their way.")
    curve = olga.page.get_by_role("img", name="Loss from")
    clinic.change(Job, progress={"step": 2, "steps": 10, "losses": [2.0, 1.5], "tokens_per_second": 120})
    expect(curve.locator("canvas")).to_be_visible()
    expect(curve).to_have_accessible_name("Loss from 2.000 at step 1 to 1.500 at step 2")
    drawn = pixels(curve)
    clinic.change(Job, progress={"step": 4, "steps": 10, "losses": [2.0, 1.5, 1.9, 0.5]})
    expect(curve).to_have_accessible_name("Loss from 2.000 at step 1 to 0.500 at step 4")
    expect(curve.locator("canvas")).to_be_visible()
    assert pixels(curve) != drawn
    olga.reads("4 of 10")


def test_an_unhealthy_run_says_why_marks_when_and_fills_the_next_form(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    health = {"name": "diverging", "step": 3, "sentence": "The run is diverging.", "learning_rate": 0.001}
    report = {"losses": [2.0, 1.5, 4.0], "probes": [[0, 2.0]], "health": health, "tokens": 9, "seconds": 1.0}
    run = clinic.rows(TrainingRun)[0]
    clinic.change(TrainingRun, state=RunState.FAILED, report=report, spec={"rank": 4})
    olga.go(clinic.url_of("runs") + f"/{run.id}")
    olga.reads("The run is diverging.")
    curve = olga.page.get_by_role("img", name="Loss from")
    expect(curve).to_have_accessible_name(
        "Loss from 2.000 at step 1 to 4.000 at step 3, on validation rows from 2.000 to 2.000, diverging since step 3"
    )
    canvas = curve.locator("canvas")
    expect(canvas).to_be_visible()
    assert canvas.evaluate(COUNT_PIXELS, [163, 42, 34]) > 20
    olga.click("link", "Train again at 0.001")
    expect(olga.page.get_by_label("Learning rate")).to_have_value("0.001")
    expect(olga.page.get_by_label("Rank")).to_have_value("4")


@pytest.mark.parametrize(("theme", "accent"), [("light", [31, 99, 132]), ("dark", [124, 193, 224])])
def test_the_loss_curve_has_the_accent_colour_of_the_theme(clinic, visitor, theme, accent):
    olga = visitor("olga").is_signed_in()
    olga.page.emulate_media(color_scheme=theme)
    clinic.change(Job, progress={"step": 2, "steps": 10, "losses": [2.0, 1.5], "tokens_per_second": 120})
    olga.go(clinic.url_of("runs") + f"/{clinic.rows(TrainingRun)[-1].id}")
    canvas = olga.page.get_by_role("img", name="Loss from").locator("canvas")
    expect(canvas).to_be_visible()
    assert canvas.evaluate(COUNT_PIXELS, accent) > 100


def test_of_two_who_decide_at_once_the_second_is_told_and_keeps_what_they_typed(
    clinic, visitor, another_page
):
    olga = visitor("olga").is_signed_in()
    otto = visitor("otto", page=another_page).is_signed_in()
    for each in (olga, otto):
        each.go(clinic.url_of("evaluation"))
    olga.fill("Why", WHY)
    otto.fill("Why", BACK)
    olga.click("button", "Approve version 1")
    olga.reads("Version 1 is approved.")
    with otto.page.expect_navigation() as navigation:
        otto.click("button", "Reject it")
    assert navigation.value.status == 409
    expect(otto.page.get_by_role("alert")).to_have_text("version 1 was approved by olga already")
    expect(otto.page.get_by_label("Why")).to_have_value(BACK)
    assert clinic.approvals() == [(Decision.APPROVED, WHY)]


def test_a_page_whose_criteria_changed_says_so_and_approves_nothing(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    olga.go(clinic.url_of("evaluation"))
    change_criteria(clinic)
    olga.fill("Why", WHY)
    with olga.page.expect_navigation() as navigation:
        olga.click("button", "Approve version 1")
    assert navigation.value.status == 409
    expect(olga.page.get_by_role("alert")).to_contain_text("criteria: changed since")
    expect(olga.page.get_by_label("Why")).to_have_value(WHY)
    assert clinic.approvals() == []


def test_a_session_that_ends_in_mid_form_loses_nothing_typed(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    olga.go(clinic.url_of("evaluation"))
    typed = f"{WHY}\n<b>and</b> \u202e more"
    olga.fill("Why", typed)
    with clinic.runtime.db.transaction() as session:
        for each in people.open_sessions(session, olga.user):
            people.sign_out(session, each, actor="test")
    with olga.page.expect_navigation() as navigation:
        olga.click("button", "Approve version 1")
    assert navigation.value.status == 401
    expect(olga.page.get_by_role("alert")).to_contain_text("Your session is over.")
    olga.fill("Name", "olga")
    olga.fill("Password", "not this one")
    olga.click("button", "Sign in")
    olga.fill("Password", PASSWORD)
    olga.click("button", "Sign in")
    expect(olga.page.get_by_label("Why")).to_have_value(typed)
    assert clinic.approvals() == []
    olga.click("button", "Send it")
    olga.reads("Version 1 is approved.")
    assert clinic.approvals() == [(Decision.APPROVED, typed)]


def test_every_page_shows_hostile_texts_as_text_fits_a_phone_and_bars_nobody_in_either_theme(
    hostile, visitor, axe
):
    ada = visitor("ada", Role.ADMIN).is_signed_in(browser=HOSTILE[:200])
    hostile.change(AttackSession, user_id=ada.user.id)
    shown, acting, hidden, wide, barring = set(), set(), set(), set(), {}
    for name in visit_all(ada, hostile):
        text = ada.page.locator("body").inner_text()
        if all(part in text for part in ("<script>alert(1)</script>", "{{7*7}}", "⟦U+202E⟧⟦U+200B⟧")):
            shown.add(name)
        if ada.page.locator(ACTING).count():
            acting.add(name)
        if {"\u202e", "\u200b"} & set(text + ada.page.title()):
            hidden.add(name)
        if found := in_both_themes(ada.page, axe):
            barring[name] = found
        ada.page.set_viewport_size(PHONE)
        if not ada.page.evaluate(FITS):
            wide.add(name)
        ada.page.set_viewport_size(SIZE)
    assert shown >= SHOWS
    assert (acting, hidden, wide, barring) == (set(), set(), set(), {})


def test_hostile_texts_in_a_form_that_is_shown_again_are_text_and_stay_what_they_are(clinic, visitor):
    olga = visitor("olga").is_signed_in()
    olga.go(clinic.url_of("evaluation"))
    change_criteria(clinic)
    olga.fill("Why", HOSTILE)
    olga.click("button", "Reject it")
    expect(olga.page.get_by_label("Why")).to_have_value(HOSTILE)
    expect(olga.page.locator(ACTING)).to_have_count(0)


def visit_all(visitor: Visitor, clinic: Clinic) -> Iterator[str]:
    """Open every page, and of a project in which nothing has happened each that it has; yield what it is."""
    for slug in (clinic.project.slug, EMPTY):
        for name, path in clinic.pages(slug):
            answer = visitor.page.goto(f"{visitor.site}{path}")
            assert answer.status == 200, path
            yield name if slug != EMPTY else f"{name}, empty"


def in_both_themes(page: Page, axe: Callable[..., list[str]]) -> list[str]:
    """Return what axe finds in the page as it is, in the light theme and, of its colours, in the dark one."""
    found = []
    for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found += [f"{scheme}: {each}" for each in axe(page, rules)]
    return found


def change_criteria(clinic: Clinic) -> None:
    with clinic.runtime.db.transaction() as session:
        builders.add_criteria(session, clinic.project, margin=0.2)


def what_was_live(clinic: Clinic) -> list[tuple[PromotionKind, str]]:
    mine = [each for each in clinic.rows(Promotion) if each.project_id == clinic.project.id]
    return [(each.kind, each.reason) for each in mine]


def pixels(curve: Locator) -> str:
    return curve.locator("canvas").evaluate("canvas => canvas.toDataURL()")


COUNT_PIXELS = """(canvas, colour) => {
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let at = 0; at < all.length; at += 4) count += colour.every((part, i) => Math.abs(all[at + i] - part) < 4);
  return count;
}"""
