"""What somebody wrote stays text on every page, no GET changes anything, and no address comes from a request."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
from sqlmodel import SQLModel
from werkzeug.test import TestResponse

from service.runtime import build
from service.settings import Settings
from service.tables import Role
from service.web.app import create_app
from tests.browser.clinic import Clinic, open_clinic
from tests.console import Person, person

MARK = "zq9"
ADDRESS = "http://errata.example"
PAYLOADS = (
    f"<script>alert('{MARK}')</script>",
    f"<img src=x onerror=alert('{MARK}')>",
    f"<svg/onload=alert('{MARK}')>",
    f"[{MARK}](javascript:alert('{MARK}'))",
    f"\" onmouseover=alert('{MARK}') x=\"",
    f"' autofocus onfocus='{MARK}",
    f"</script><script>{MARK}</script>",
    f"</textarea></pre></title><iframe srcdoc='{MARK}'>",
    f'<div hx-post="/p/clinic/models/1/promote" hx-trigger="load" class="{MARK}">',
    "{{7*191}} {% for x in ''.__class__.__mro__ %} ${7*191} #{7*191}",
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={MARK}&gt;">',
    f'<noscript><p title="</noscript><img src=x onerror={MARK}>">',
    f"<style>*{{background:url(//evil.example/{MARK})}}</style>",
    f"![{MARK}](https://evil.example/{MARK}.png)",
    f"<img src=//evil.example/{MARK}.png>",
    f"{MARK}\u202egnp.exe\u200b\u2066\U000e0061",
    f"{MARK}\r\nSet-Cookie: errata={MARK}",
    "a" + "\u0301" * 300,
)
TOGETHER = " ".join(PAYLOADS)
SAFE = {"value", "title", "aria-label", "alt", "data-label", "datetime", "content", "placeholder"}
OURS = re.compile(r"^(/|#|\?|$)")
LOOKED = {"text_read", "user_session", "api_key", "user_token"}  # that and when somebody looked is noted


class Marked(HTMLParser):
    """Where a page's mark-up holds the mark, but in places that are only text, and what it loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.elsewhere: list[str] = []
        self.shown = ""
        self._typed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._typed = tag == "textarea"  # where every character stays what it is
        for name, value in attrs:
            if MARK in name or (MARK in (value or "") and (name not in SAFE or name.startswith("on"))):
                self.found.append(f"<{tag} {name}={value!r}>")
            if name in ("src", "srcset", "poster", "data") and not OURS.match(value or ""):
                self.elsewhere.append(f"<{tag} {name}={value!r}>")
        if tag in ("script", "style", "iframe") and not {"src", "nonce"} & {name for name, _ in attrs}:
            self.found.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self._typed = False

    def handle_data(self, data: str) -> None:
        self.shown += "" if self._typed else data


def read(page: str) -> Marked:
    parser = Marked()
    parser.feed(page)
    parser.close()
    return parser


@dataclass(frozen=True, slots=True)
class Looked:
    """What each page answered, and each table's digest before and after."""

    answers: dict[str, TestResponse]
    before: dict[str, str]
    after: dict[str, str]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, migrated_sqlite, cache_dir, valkey_url) -> Iterator[Clinic]:
    """Rows of every kind, made once: they take seconds."""
    home = tmp_path_factory.mktemp("attacked")
    shutil.copy(migrated_sqlite, home / "errata.db")
    runtime = build(Settings(data_dir=home, cache_dir=cache_dir, redis_url=valkey_url, public_url=ADDRESS))
    yield open_clinic(runtime, create_app(runtime).test_client(), TOGETHER)
    runtime.db.close()
    runtime.queue.redis.close()


@pytest.fixture(scope="module")
def ada(clinic) -> Person:
    return person(clinic.runtime, Role.ADMIN, password="")


@pytest.mark.parametrize("payload", [each for each in PAYLOADS[:9] if not each.startswith("[")])
def test_a_page_that_took_it_for_mark_up_would_be_found_out(payload):
    page = read(f"<p title=\"{payload}\">{payload}</p><p title='{payload}'></p>")
    assert page.found or page.elsewhere


@pytest.fixture(scope="module")
def looked(clinic, ada) -> Looked:
    """All pages, looked at once each, after what the first look makes was made, such as the playground's key."""
    pages = dict(clinic.pages())
    ada.get(pages["playground"])
    before = rows_of(clinic)
    return Looked({name: ada.get(path) for name, path in pages.items()}, before, rows_of(clinic))


def test_whatever_was_written_is_text_on_every_page(looked):
    showing = 0
    for name, answer in looked.answers.items():
        page = read(answer.text)
        assert answer.status_code < 500, name
        assert (page.found, page.elsewhere) == ([], []), name
        assert not re.search("1337|\u202e|\u200b", page.shown), name
        assert not any(MARK in str(value) for value in answer.headers.values()), name
        showing += MARK in answer.text
    assert showing > 10


def test_no_page_that_is_only_looked_at_changes_anything(looked, clinic, ada):
    assert looked.before == looked.after
    ada.post("/users", name="boris", role="approver")
    assert rows_of(clinic) != looked.after


def rows_of(clinic: Clinic) -> dict[str, str]:
    """Digest each table's rows."""
    with clinic.runtime.db.reading() as session:
        return {
            table.name: hashlib.sha256(
                json.dumps(sorted(map(str, session.execute(table.select()).all()))).encode()
            ).hexdigest()
            for table in SQLModel.metadata.sorted_tables
            if table.name not in LOOKED
        }


def test_no_link_or_line_to_copy_leads_where_a_request_says_it_came_from(clinic, ada):
    told = list(_what_is_told(clinic, ada))
    assert len(told) == 2
    for page in told:
        assert ADDRESS in page and "evil.example" not in page


def _what_is_told(clinic: Clinic, ada: Person) -> Iterator[str]:
    csrf, cookie = ada.csrf(), ada.client.get_cookie("errata")
    browser = ada.client.application.test_client(use_cookies=False)
    headers = {"Host": "evil.example", "Cookie": f"errata={cookie.value}"}
    asked = {
        "/users": {"name": "bertha", "role": "approver"},
        "/p/clinic/settings/keys": {"kind": "secret", "name": "x"},
    }
    for path, fields in asked.items():
        answer = browser.post(path, data={"csrf": csrf, **fields}, headers=headers)
        assert answer.status_code == 200, answer.text
        yield answer.text.partition("<main")[2]
