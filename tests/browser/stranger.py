"""Someone who reads an answer in a stranger's page: what tests of the widget share."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from example.server import Site
from playwright.sync_api import Locator, Page, Route, expect
from sqlmodel import col, select

from service.runtime import Runtime
from service.tables import Feedback, KeyKind
from tests import builders
from tests.servers import free_port
from tests.waiting import eventually

GOOD, BAD = "Good answer", "Bad answer"
WAITING = "Will be sent when you are online."
SHARED = {"Access-Control-Allow-Origin": "*"}
STORED = """async () => {
    if (!(await indexedDB.databases()).length) return null;
    const heard = (asked) => new Promise((done, fail) => {
        asked.onsuccess = () => done(asked.result);
        asked.onerror = fail;
    });
    const asked = indexedDB.open("errata-feedback");
    asked.onupgradeneeded = () => asked.transaction.abort();
    const database = await heard(asked).catch(() => null);
    const rows = database && await heard(database.transaction("unsent").objectStore("unsent").getAll());
    database?.close();
    return rows;
}"""
STORE = """async (rows) => {
    const asked = indexedDB.open("errata-feedback");
    asked.onupgradeneeded = () => asked.result.createObjectStore("unsent", { keyPath: "id" });
    await new Promise((done) => { asked.onsuccess = done; });
    const change = asked.result.transaction("unsent", "readwrite");
    for (const row of rows) change.objectStore("unsent").put(row);
    await new Promise((done) => { change.oncomplete = done; });
    asked.result.close();
}"""


@dataclass(frozen=True, slots=True)
class Reader:
    """Someone who reads an answer in a host's page, which another origin serves."""

    page: Page
    runtime: Runtime
    url: str
    key: str

    @property
    def widget(self) -> Locator:
        return self.page.locator("errata-feedback")

    @property
    def reasons(self) -> Locator:
        return self.page.get_by_role("group", name="What could be better?").get_by_role("checkbox")

    @property
    def token(self) -> str:
        return self.widget.first.get_attribute("token")

    def thumb(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name)

    def click(self, name: str, told: str) -> None:
        """Click a button and wait until the widget tells what came of it."""
        self.thumb(name).click()
        self.hears(told)

    def hears(self, told: str, role: str = "status") -> None:
        expect(self.page.get_by_role(role).filter(has_text=re.compile("."))).to_have_text(told)

    def sees_pressed(self, name: str, pressed: str = "true") -> None:
        expect(self.thumb(name)).to_have_attribute("aria-pressed", pressed)

    def write(self, **texts: str) -> None:
        for label, text in texts.items():
            self.page.get_by_role("textbox", name=re.compile(label)).fill(text)

    def rows(self) -> list[Feedback]:
        with self.runtime.db.reading() as session:
            return session.exec(select(Feedback).order_by(col(Feedback.created_at))).all()

    def row(self) -> Feedback:
        (row,) = self.rows()
        return row

    def give(self, name: str, value: str) -> None:
        """Have the host give the widget another attribute."""
        script = "(widget, [name, value]) => widget.setAttribute(name, value)"
        self.widget.evaluate(script, [name, value])

    def listen(self) -> None:
        """Have the host keep what the widget tells it."""
        self.page.evaluate("""() => {
            window.heard = [];
            for (const name of ["recorded", "updated", "undone", "error"])
                document.addEventListener("errata:" + name, ({ type, detail }) => heard.push([type, detail]));
        }""")

    def heard(self) -> list:
        return self.page.evaluate("heard")

    def lose_service(self) -> None:
        """Have every request to the service fail from here on; the host's own page stays up."""
        self.page.context.route("**/v1/**", lambda route: route.abort())

    def answer(self, status: int) -> None:
        """Have the service answer so from here on."""
        self.page.context.unroute_all()
        told = {"status": status, "json": {"code": "busy"}, "headers": SHARED}
        self.page.context.route("**/v1/**", lambda route: route.fulfill(**told))

    def find_service(self) -> None:
        """Have the service back, and the browser notice."""
        self.page.context.unroute_all()
        self.notice()

    def notice(self) -> None:
        self.page.evaluate("() => dispatchEvent(new Event('online'))")

    def stored(self) -> list[dict] | None:
        """What the browser keeps; None for nothing at all, not even the place for it."""
        return self.page.evaluate(STORED)

    def keeps(self, count: int) -> list[dict]:
        """Wait until the browser keeps so many records, and return them; for none, not even the place for them."""
        eventually(lambda: (None if (rows := self.stored()) is None else len(rows)) == (count or None))
        return self.stored() or []

    def store(self, *rows: dict) -> None:
        self.page.evaluate(STORE, list(rows))


@contextmanager
def reading(page: Page, runtime: Runtime, errata: str) -> Iterator[Reader]:
    """Sit down before the example's page, before anything has been said."""
    port = free_port()
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        secret = builders.add_key(session, project)
        key = builders.add_key(session, project, KeyKind.PUBLIC, [f"http://127.0.0.1:{port}"])
    site = Site(port, errata=errata, secret=secret, key=key)
    thread = Thread(target=site.serve_forever)
    thread.start()
    try:
        reader = Reader(page, runtime, f"http://127.0.0.1:{port}/", key)
        page.route("**/v1/reasons?*", lambda route: route.abort())  # the script's own stand in tests
        page.goto(reader.url)
        yield reader
    finally:
        site.shutdown()
        thread.join()
        site.server_close()


def earlier(**said: object) -> dict:
    """What a service tells that knows what this reader said earlier."""
    row = {
        "event_id": "0191d1d0-0000-4000-8000-000000000001",
        "rating": "down",
        "reasons": ["wrong"],
        "comment": "A ward bills nobody.",
        "correction": None,
        "consent": True,
        "selection": None,
        "state": "received",
        "status_url": "https://errata.example/status",
    }
    return {"items": [{**row, **said}], "next_cursor": None}


def tell_readers(route: Route, told: dict) -> None:
    """Answer what is read so, and let all else go its way."""
    if route.request.method == "GET":
        route.fulfill(json=told, headers=SHARED)
    else:
        route.fallback()
