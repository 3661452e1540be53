"""People sign in, stay signed in only as long as they should, and do only what their role in a project allows."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from sqlmodel import select

from service import ledger, people
from service.cli import users as commands
from service.clock import utcnow
from service.errors import NotFound, WrongState
from service.runtime import Runtime, build
from service.tables import (
    AcceptedRepair,
    AuditFinding,
    Bisection,
    DocumentKind,
    Erasure,
    Evaluation,
    GuidelineQuestion,
    Job,
    JobKind,
    KeyKind,
    LedgerEntry,
    Notice,
    NoticeKind,
    NoticeState,
    NoticeTarget,
    Project,
    Quarantine,
    Role,
    ServingKind,
    ServingTarget,
    TrainingRun,
    Tuning,
    User,
    UserSession,
    UserToken,
)
from service.tokens import hashed
from service.web.app import create_app
from service.web.auth import PEOPLE, Access
from service.web.endpoint import Endpoint
from tests import builders
from tests.console import PASSWORD, Person, open_browsers, path_of, person

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ANOTHER = "another horse battery"
ELSEWHERE = (
    "https://evil.example/",
    "http:evil.example",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example/",
    "\\\\evil.example",
    "/\t/evil.example/",
    "/\t\\evil.example/",
    "\t//evil.example",
    " //evil.example",
    "javascript:alert(1)",
    "data:text/html,hi",
    "evil.example",
)


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch) -> None:
    """Passwords are hashed as they are elsewhere, but in no time."""
    monkeypatch.setattr(people, "_hasher", QUICK)
    people._nobodys_hash.cache_clear()


def change_sessions(runtime: Runtime, **values: Any) -> None:
    with runtime.db.transaction() as session:
        for row in session.exec(select(UserSession)):
            row.sqlmodel_update(values)


def with_password(client: Any, name: str, password: str, **more: str):
    return client.post("/sign-in", data={"name": name, "password": password, **more})


def is_inside(who: Person) -> bool:
    return who.get("/account").status_code == 200


def actions(runtime: Runtime) -> list[str]:
    with runtime.db.reading() as session:
        assert not list(ledger.broken(session))
        return list(session.exec(select(LedgerEntry.action).order_by(LedgerEntry.seq)))


class TestLinks:
    def test_looking_at_a_link_does_not_use_it_up(self, runtime, client):
        path = self.invite(runtime)
        for _ in range(2):
            page = client.get(path)
            assert (page.status_code, page.mimetype) == (200, "text/html")
            assert "olga" in page.text
        assert client.head(path).status_code == 200
        assert client.post(path).status_code == 303

    def test_a_link_works_once(self, runtime, client):
        path = self.invite(runtime)
        assert client.post(path).status_code == 303
        for again in (client.post(path), client.get(path)):
            assert again.status_code == 404
            assert "Set-Cookie" not in again.headers

    def test_of_two_who_use_a_link_at_once_one_comes_in(self, any_runtime):
        path, start = self.invite(any_runtime), Barrier(2)
        clients = [create_app(any_runtime).test_client() for _ in range(2)]

        def use(client: Any) -> int:
            start.wait()
            return client.post(path).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(use, clients)) == [303, 404]

    def test_a_link_expires(self, runtime, client):
        path = self.invite(runtime)
        with runtime.db.transaction() as session:
            session.exec(select(UserToken)).one().expires_at = utcnow()
        assert client.get(path).status_code == client.post(path).status_code == 404

    def test_a_link_of_somebody_disabled_is_none(self, runtime, client):
        path = self.invite(runtime, Role.OPERATOR)
        with runtime.db.transaction() as session:
            people.disable(session, people.find(session, "olga"), actor="test")
        assert client.get(path).status_code == client.post(path).status_code == 404

    def test_a_link_is_no_bearer_token(self, runtime, client):
        secret = self.invite(runtime).rpartition("/")[2]
        headers = {"Authorization": f"Bearer {secret}"}
        assert client.get("/v1/models/champion?project=clinic", headers=headers).status_code == 401

    def test_a_link_that_another_site_s_page_uses_stays_unused(self, runtime, client):
        path = self.invite(runtime)
        assert client.post(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.post(path).status_code == 303

    def test_who_has_no_password_is_led_to_choose_one(self, runtime, client):
        assert path_of(client.post(self.invite(runtime))) == "/account"

    def test_a_fresh_link_lets_in_who_forgot_their_password(self, runtime, client):
        person(runtime, Role.OPERATOR, name="olga")
        with runtime.db.transaction() as session:
            older = people.invite_again(session, people.find(session, "olga"), actor="test")
            link = people.invite_again(session, people.find(session, "olga"), actor="test")
        assert client.post(f"/sign-in/{older}").status_code == 404
        assert path_of(client.post(f"/sign-in/{link}")) == "/account"
        assert 'name="password"' not in client.get("/account").text

    def test_only_a_link_s_hash_is_kept(self, runtime):
        secret = self.invite(runtime).rpartition("/")[2]
        with runtime.db.reading() as session:
            assert session.exec(select(UserToken.sha256)).one() == hashed(secret)

    @staticmethod
    def invite(runtime: Runtime, role: Role = Role.ADMIN) -> str:
        with runtime.db.transaction() as session:
            _, secret = people.add_user(session, "olga", role, actor="test")
        return f"/sign-in/{secret}"


class TestPasswords:
    def test_a_name_and_its_password_let_in(self, runtime, client):
        person(runtime, Role.OPERATOR, name="olga")
        answer = with_password(client, "olga", PASSWORD, next="/account?x=1")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/account?x=1")
        assert client.get("/account").status_code == 200

    def test_a_wrong_password_and_an_unknown_name_are_told_the_same(self, runtime, client):
        person(runtime, Role.OPERATOR, name="olga")
        person(runtime, Role.OPERATOR, name="without", password="")
        told = {
            (answer.status_code, answer.text.replace(name, "NAME"))
            for name, password in (("olga", ANOTHER), ("nobody", ANOTHER), ("without", ANOTHER))
            for answer in [with_password(client, name, password)]
        }
        ((status, page),) = told
        assert status == 403 and "name and password do not belong together" in page

    def test_an_unknown_name_takes_as_long_as_a_known_one(self, runtime, monkeypatch):
        verified = []
        monkeypatch.setattr(people, "_hasher", Counting(verified))
        people.is_password(None, ANOTHER)
        people.is_password(User(name="olga", role=Role.ADMIN, password=QUICK.hash(PASSWORD)), ANOTHER)
        assert len(verified) == 2

    def test_a_disabled_person_s_password_is_none(self, runtime, client):
        olga = person(runtime, Role.OPERATOR, name="olga")
        with runtime.db.transaction() as session:
            people.disable(session, session.get_one(User, olga.user.id), actor="test")
        assert with_password(client, "olga", PASSWORD).status_code == 403

    def test_after_ten_failures_even_the_right_password_waits(self, runtime, client):
        person(runtime, Role.OPERATOR, name="olga")
        for _ in range(10):
            assert with_password(client, "olga", ANOTHER).status_code == 403
        assert with_password(client, "olga", PASSWORD).status_code == 429
        assert with_password(client, "boris", ANOTHER).status_code == 403

    def test_successes_are_not_limited(self, runtime, client):
        person(runtime, Role.OPERATOR, name="olga")
        assert {with_password(client, "olga", PASSWORD).status_code for _ in range(12)} == {303}

    def test_passwords_are_kept_as_argon2id_hashes_at_the_strength_that_owasp_asks_for(
        self, runtime, monkeypatch
    ):
        monkeypatch.undo()
        olga = person(runtime, Role.OPERATOR, name="olga")
        with runtime.db.reading() as session:
            kept = session.get_one(User, olga.user.id).password
        _, kind, _, strength, _, _ = kept.split("$")
        memory, passes, _ = (int(part.partition("=")[2]) for part in strength.split(","))
        assert kind == "argon2id"
        assert memory >= 19 * 1024 and passes >= 2
        assert PASSWORD not in kept

    @pytest.mark.parametrize(
        ("password", "why"),
        [
            ("short", "it has 5 characters, not 12 to 200"),
            ("x" * 12, "it has 1 different character, not 6"),
            ("Olga olga is here", "your name is in it"),
            ("y" * 201, "it has 201 characters"),
            ("", "New password: "),
        ],
    )
    def test_a_password_that_is_easy_to_guess_is_refused_with_rule_and_reason(self, runtime, password, why):
        olga = person(runtime, Role.OPERATOR, name="olga")
        assert people.PASSWORD_RULE in olga.get("/account").text
        answer = olga.post("/account/password", password=PASSWORD, new_password=password)
        assert answer.status_code == 422
        assert why in answer.text and people.PASSWORD_RULE in answer.text
        with runtime.db.reading() as session:
            assert people.is_password(session.get_one(User, olga.user.id), PASSWORD)

    def test_another_password_needs_the_present_one(self, runtime):
        olga = person(runtime, Role.OPERATOR, name="olga")
        for wrong in ("", ANOTHER):
            assert olga.post("/account/password", password=wrong, new_password=ANOTHER).status_code == 403
        assert olga.post("/account/password", password=PASSWORD, new_password=ANOTHER).status_code == 303

    def test_another_password_signs_other_browsers_out(self, runtime, client):
        olga = person(runtime, Role.OPERATOR, name="olga")
        with_password(client, "olga", PASSWORD)
        olga.post("/account/password", password=PASSWORD, new_password=ANOTHER)
        assert is_inside(olga)
        assert client.get("/account").status_code == 303
        assert with_password(client, "olga", PASSWORD).status_code == 403

    def test_a_refused_password_is_never_shown(self, runtime):
        olga = person(runtime, Role.OPERATOR, name="olga")
        answer = olga.post("/account/password", password="mistyped as well", new_password=ANOTHER)
        assert answer.status_code == 403
        assert ANOTHER not in answer.text and "mistyped" not in answer.text
        for name in ("password", "new_password"):
            assert f'type="password" name="{name}"' in answer.text

    def test_a_password_is_not_kept_on_the_page_that_asks_who_it_is(self, runtime, client):
        answer = client.post("/account/password", data={"password": PASSWORD, "new_password": ANOTHER})
        assert answer.status_code == 401
        assert PASSWORD not in answer.text and ANOTHER not in answer.text


class Counting:
    """A hasher that tells how often it was asked."""

    def __init__(self, verified: list[str]) -> None:
        self.verified = verified

    def hash(self, password: str) -> str:
        return QUICK.hash(password)

    def verify(self, kept: str, password: str) -> bool:
        self.verified.append(kept)
        return QUICK.verify(kept, password)


class TestSessions:
    def test_the_cookie_is_for_this_host_s_pages_alone(self, runtime, client):
        cookie = client.post(TestLinks.invite(runtime)).headers["Set-Cookie"]
        assert cookie.startswith("errata=ess_")
        for attribute in ("HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"):
            assert attribute in cookie
        assert "Secure" not in cookie and "Domain" not in cookie

    def test_behind_tls_the_cookie_stays_there(self, runtime, secured):
        client = create_app(secured).test_client()
        cookie = client.post(TestLinks.invite(runtime)).headers["Set-Cookie"]
        assert cookie.startswith("__Host-errata=ess_")
        for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            assert attribute in cookie
        assert "Domain" not in cookie
        assert create_app(secured).config["SESSION_COOKIE_SECURE"]

    @pytest.fixture
    def secured(self, settings, runtime) -> Iterator[Runtime]:
        built = build(settings.model_copy(update={"public_url": "https://errata.example"}))
        yield built
        built.db.close()
        built.queue.redis.close()

    def test_only_the_cookie_s_hash_is_kept(self, runtime, client):
        cookie = client.post(TestLinks.invite(runtime)).headers["Set-Cookie"]
        secret = cookie.partition("=")[2].partition(";")[0]
        with runtime.db.reading() as session:
            assert session.exec(select(UserSession.sha256)).one() == hashed(secret)

    def test_a_session_ends_when_nobody_is_there(self, runtime):
        olga = person(runtime, Role.OPERATOR, password="")
        idle = timedelta(minutes=runtime.settings.session_idle_minutes)
        change_sessions(runtime, last_seen_at=utcnow() - idle + timedelta(seconds=30))
        assert is_inside(olga)
        change_sessions(runtime, last_seen_at=utcnow() - idle)
        assert not is_inside(olga)

    def test_a_session_that_is_used_goes_on(self, runtime):
        olga = person(runtime, Role.OPERATOR, password="")
        change_sessions(runtime, last_seen_at=utcnow() - timedelta(minutes=20))
        is_inside(olga)
        (here,) = open_browsers(runtime, olga.user)
        assert utcnow() - here.last_seen_at < timedelta(minutes=1)

    def test_a_session_ends_after_its_hours_however_busy(self, runtime):
        olga = person(runtime, Role.OPERATOR, password="")
        (here,) = open_browsers(runtime, olga.user)
        hours = timedelta(hours=runtime.settings.session_hours)
        assert abs(here.expires_at - here.created_at - hours) < timedelta(seconds=5)
        change_sessions(runtime, expires_at=utcnow())
        assert not is_inside(olga)

    def test_a_disabled_person_is_out_at_once(self, runtime):
        olga, ada = person(runtime, Role.OPERATOR, password=""), person(runtime, Role.ADMIN, password="")
        assert is_inside(olga)
        assert ada.post(f"/users/{olga.user.id}/disable").status_code == 303
        assert not is_inside(olga)

    def test_signing_out_forgets_the_browser_on_both_sides(self, runtime):
        olga = person(runtime, Role.OPERATOR, password="")
        kept = olga.client.get_cookie("errata").value
        answer = olga.post("/sign-out")
        assert path_of(answer) == "/sign-in"
        assert olga.client.get_cookie("errata") is None
        olga.client.set_cookie("errata", kept)
        assert not is_inside(olga)

    def test_a_person_sees_their_browsers_and_signs_one_out(self, runtime):
        olga = person(runtime, Role.OPERATOR, name="olga")
        other = create_app(runtime).test_client()
        other.post(
            "/sign-in", data={"name": "olga", "password": PASSWORD}, headers={"User-Agent": "Tablet/7"}
        )
        assert "Tablet/7" in olga.get("/account").text
        there = open_browsers(runtime, olga.user)[0]
        assert olga.post(f"/account/sessions/{there.id}/revoke").status_code == 303
        assert other.get("/account").status_code == 303
        assert is_inside(olga)

    def test_browsers_are_listed_and_signed_out_by_command(self, runtime, client, monkeypatch, capsys):
        monkeypatch.setattr(commands, "connect", lambda: runtime)
        olga, pia = person(runtime, Role.OPERATOR, name="olga"), person(runtime, Role.AUDITOR, name="pia")
        with_password(client, "olga", PASSWORD)
        commands.sessions("olga", as_json=True)
        newest, first = json.loads(capsys.readouterr().out)["items"]
        commands.sign_out("olga", browser=UUID(newest["id"]))
        assert (client.get("/account").status_code, is_inside(olga)) == (303, True)
        with pytest.raises(NotFound):
            commands.sign_out("pia", browser=UUID(first["id"]))
        commands.sign_out("olga", browser=None)
        assert (is_inside(olga), is_inside(pia)) == (False, True)

    def test_nobody_signs_out_another_s_browser(self, runtime):
        olga, boris = (person(runtime, Role.ADMIN, name=name, password="") for name in ("olga", "boris"))
        (here,) = open_browsers(runtime, olga.user)
        assert boris.post(f"/account/sessions/{here.id}/revoke").status_code == 404
        assert is_inside(olga)

    def test_an_unknown_cookie_is_nobody_s(self, runtime, client):
        for value in ("ess_guessed", "", "\u00e4"):
            client.set_cookie("errata", value)
            assert client.get("/account").status_code == 303


class TestWhereTo:
    def test_who_is_not_signed_in_comes_back_to_the_page_they_wanted(self, runtime, client):
        answer = client.get("/p/clinic/feedback?reason=wrong&sort=oldest")
        assert answer.headers["Location"] == "/sign-in?next=/p/clinic/feedback?reason%3Dwrong%26sort%3Doldest"

    @pytest.mark.parametrize("path", ELSEWHERE)
    def test_a_link_to_another_site_leads_home(self, runtime, client, path):
        person(runtime, Role.OPERATOR, name="olga")
        shown = client.get("/sign-in", query_string={"next": path}).text
        assert 'name="next" value="/"' in shown
        answer = with_password(client, "olga", PASSWORD, next=path)
        assert answer.headers["Location"] == "/"

    def test_what_was_typed_outlives_the_session(self, runtime):
        ada = self.expired(runtime)
        sent = {"document": '[{"metric": "accuracy"}]\n<b>"mine"</b>'}
        asked = ada.client.post("/p/clinic/settings/criteria", data=sent)
        assert asked.status_code == 401
        assert 'name="typed.document"' in asked.text and "<b>" not in asked.text
        again = with_password(
            ada.client,
            "ada",
            PASSWORD,
            next="/p/clinic/settings/criteria",
            **{f"typed.{name}": text for name, text in sent.items()},
        )
        assert again.status_code == 200
        assert "&lt;b&gt;&#34;mine&#34;&lt;/b&gt;" in again.text
        assert 'action="/p/clinic/settings/criteria"' in again.text
        assert f'name="csrf" value="{ada.csrf()}"' in again.text  # it can be sent at once

    def test_a_wrong_password_meanwhile_loses_nothing(self, runtime):
        ada = self.expired(runtime)
        more = {"next": "/p/clinic/settings/criteria", "typed.document": "mine"}
        answer = with_password(ada.client, "ada", ANOTHER, **more)
        assert answer.status_code == 403
        assert 'name="typed.document" value="mine"' in answer.text
        assert 'name="next" value="/p/clinic/settings/criteria"' in answer.text

    def test_a_button_pressed_too_late_leads_back_to_its_page(self, runtime):
        ada = self.expired(runtime)
        answer = ada.client.post(
            "/p/clinic/sets",
            data={"csrf": "old"},
            headers={"Referer": "http://localhost/p/clinic/sets?sort=oldest"},
        )
        assert answer.status_code == 401
        assert 'name="next" value="/p/clinic/sets"' in answer.text

    def test_a_button_without_a_known_page_leads_home(self, runtime):
        answer = self.expired(runtime).client.post("/sign-out", data={"csrf": "old"})
        assert 'name="next" value="/"' in answer.text

    @staticmethod
    def expired(runtime: Runtime) -> Person:
        who = person(runtime, Role.ADMIN, name="ada")
        change_sessions(runtime, expires_at=utcnow())
        return who


class TestStrangers:
    @pytest.fixture
    def ada(self, runtime) -> Person:
        return person(runtime, Role.ADMIN, name="ada", password="")

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "odd"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:81"},
        ],
        ids=str,
    )
    def test_another_site_s_form_does_nothing_even_with_the_right_token(self, runtime, ada, headers):
        sent = {"csrf": ada.csrf(), "name": "mallory", "role": "admin"}
        assert ada.client.post("/users", data=sent, headers=headers).status_code == 403
        assert not self.is_there(runtime, "mallory")

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "http://localhost"},
            {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        ],
        ids=str,
    )
    def test_our_own_page_s_form_does(self, runtime, ada, headers):
        sent = {"csrf": ada.csrf(), "name": "boris", "role": "auditor"}
        assert ada.client.post("/users", data=sent, headers=headers).status_code == 200
        assert self.is_there(runtime, "boris")

    @pytest.mark.parametrize("token", [None, "", "wrong", "\u00e4"])
    def test_a_form_without_its_token_does_nothing_and_is_shown_again(self, runtime, ada, token):
        sent = {"name": "mallory <b>", "role": "admin"} | ({} if token is None else {"csrf": token})
        answer = ada.client.post("/users", data=sent)
        assert answer.status_code == 409
        assert "mallory &lt;b&gt;" in answer.text
        assert f'name="csrf" value="{ada.csrf()}"' in answer.text
        assert not self.is_there(runtime, "mallory <b>")

    def test_another_person_s_token_is_wrong(self, runtime, ada):
        eve = person(runtime, Role.OPERATOR, name="eve", password="")
        sent = {"csrf": eve.csrf(), "name": "mallory", "role": "admin"}
        assert ada.client.post("/users", data=sent).status_code == 409
        assert not self.is_there(runtime, "mallory")

    def test_the_sign_in_form_is_refused_from_another_site(self, runtime, client):
        person(runtime, Role.OPERATOR, name="olga")
        answer = client.post(
            "/sign-in",
            data={"name": "olga", "password": PASSWORD},
            headers={"Sec-Fetch-Site": "cross-site"},
        )
        assert answer.status_code == 403 and "Set-Cookie" not in answer.headers

    @staticmethod
    def is_there(runtime: Runtime, name: str) -> bool:
        with runtime.db.reading() as session:
            return session.exec(select(User).where(User.name == name)).first() is not None


class TestEverybody:
    @pytest.fixture
    def ada(self, runtime) -> Person:
        with runtime.db.transaction() as session:
            builders.add_project(session)
        return person(runtime, Role.ADMIN, name="ada", password="")

    def test_an_invitation_is_a_link_that_works(self, runtime, ada, client):
        answer = ada.post("/users", name="boris", role="approver")
        path = answer.text.partition(f"{runtime.settings.own_url}/sign-in/")[2].partition('"')[0]
        assert client.post(f"/sign-in/{path}").status_code == 303
        assert client.get("/p/clinic/models").status_code == 200

    def test_a_role_in_one_project_is_none_elsewhere(self, runtime, ada):
        with runtime.db.transaction() as session:
            builders.add_project(session, "other")
        ada.post("/users", name="boris", role="approver", project="clinic")
        with runtime.db.reading() as session:
            boris = people.find(session, "boris")
            here, there = (
                people.role_in(
                    session, boris, session.exec(select(Project.id).where(Project.slug == slug)).one()
                )
                for slug in ("clinic", "other")
            )
        assert (boris.role, here, there) == (Role.ANNOTATOR, Role.APPROVER, Role.ANNOTATOR)

    def test_a_role_can_be_taken_away_in_one_project(self, runtime, ada):
        boris = person(runtime, Role.OPERATOR, name="boris", password="")
        assert boris.get("/p/clinic/tasks").status_code == 200
        ada.post("/users/role", name="boris", role="annotator", project="clinic")
        assert boris.get("/p/clinic/tasks").status_code == 403

    def test_a_name_is_given_once(self, runtime, ada):
        ada.post("/users", name="boris", role="auditor")
        again = ada.post("/users", name="boris", role="admin")
        assert again.status_code == 409 and "boris" in again.text

    def test_nobody_of_that_name(self, runtime, ada):
        assert ada.post("/users/role", name="nobody", role="admin").status_code == 404
        assert ada.post("/users", name="x", role="auditor", project="nowhere").status_code == 404

    @pytest.mark.parametrize("sent", [{"name": ""}, {"name": "x" * 101}, {"role": "god"}, {"more": "x"}])
    def test_a_form_that_does_not_fit_is_shown_again(self, runtime, ada, sent):
        answer = ada.post("/users", **{"name": "boris", "role": "auditor"} | sent)
        assert answer.status_code == 422
        assert next(iter(sent)) in answer.text

    def test_the_last_admin_stays(self, runtime, ada):
        assert ada.post(f"/users/{ada.user.id}/disable").status_code == 409
        answer = ada.post("/users/role", name="ada", role="auditor")
        assert answer.status_code == 409 and "the last one" in answer.text
        assert is_inside(ada) and ada.get("/users").status_code == 200

    def test_the_last_admin_but_one_may_go(self, runtime, ada):
        person(runtime, Role.ADMIN, name="boris", password="")
        assert ada.post("/users/role", name="ada", role="auditor").status_code == 303
        assert ada.get("/users").status_code == 403

    def test_a_disabled_admin_does_not_count(self, runtime, ada):
        boris = person(runtime, Role.ADMIN, name="boris", password="")
        ada.post(f"/users/{boris.user.id}/disable")
        assert ada.post(f"/users/{ada.user.id}/disable").status_code == 409

    def test_of_two_admins_who_disable_each_other_at_once_one_stays(self, any_runtime):
        with any_runtime.db.transaction() as session:
            names = [people.add_user(session, name, Role.ADMIN, actor="test")[0].name for name in ("a", "b")]
        start = Barrier(2)

        def disable(name: str) -> str:
            start.wait()
            try:
                with any_runtime.db.transaction() as session:
                    people.disable(session, people.find(session, name), actor="test")
            except WrongState:
                return "stays"
            return "gone"

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(disable, names)) == ["gone", "stays"]

    def test_everything_done_to_people_is_in_the_ledger(self, runtime, ada):
        before = len(actions(runtime))
        ada.post("/users", name="boris", role="operator", project="clinic")
        with runtime.db.reading() as session:
            boris = people.find(session, "boris")
        ada.post(f"/users/{boris.id}/invite")
        ada.post(f"/users/{boris.id}/disable")
        ada.post("/account/password", new_password=PASSWORD)
        with_password(ada.client, "ada", PASSWORD)
        ada.post("/sign-out")
        assert actions(runtime)[before:] == [
            "user_added",
            "role_set",
            "link_added",
            "user_disabled",
            "password_set",
            "signed_in",
            "signed_out",
        ]

    def test_no_secret_is_in_the_ledger(self, runtime, ada):
        page = ada.post("/users", name="boris", role="operator").text
        secret = page.partition("/sign-in/")[2].partition('"')[0]
        ada.post("/account/password", new_password=PASSWORD)
        with runtime.db.reading() as session:
            kept = repr([entry.model_dump() for entry in session.exec(select(LedgerEntry))])
        assert secret and secret not in kept and PASSWORD not in kept


class Api:
    """What programs of people reach, with a row of each kind in the project `clinic`."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.client = runtime, create_app(runtime).test_client()
        with runtime.db.transaction() as session:
            clinic = builders.add_project(session)
            self.projects = {"clinic": clinic, "other": builders.add_project(session, "other")}
            builders.add_criteria(session, clinic)
            model = builders.add_challenger(session, clinic)
            evaluation = builders.add_evaluation(session, clinic, model)
            finding = AuditFinding(
                training_set_id=evaluation.training_set_id,
                check="noise",
                check_version="1",
                severity="block",
                keys=["k"],
                evidence="",
                repair="",
                name="n",
                proposals=[{"kind": "drop", "keys": ["k"]}, {"kind": "drop", "keys": ["k"]}],
            )
            session.add(finding)
            session.flush()
            ada, _ = builders.add_person(session, Role.ANNOTATOR, "ada of repairs")
            repair = AcceptedRepair(
                project_id=clinic.id, finding_id=finding.id, place=1, user_id=ada.id, reason=""
            )
            wish = Erasure(project_id=clinic.id, salted="", actor="test")
            session.add(wish)
            held = Quarantine(project_id=clinic.id, subject="sam", user_id=ada.id, reason="")
            searched = Bisection(project_id=clinic.id, good_id=model.id, bad_id=model.id, metric="accuracy")
            tuned = Tuning(
                project_id=clinic.id,
                training_set_id=evaluation.training_set_id,
                metric="accuracy",
                plan={"budget": {}},
            )
            asked = GuidelineQuestion(
                project_id=clinic.id,
                guidelines_id=builders.newest(session, clinic, DocumentKind.GUIDELINES),
                user_id=ada.id,
                text="?",
            )
            session.add_all([repair, held, searched, tuned, asked])
            session.flush()
            response = builders.add_response(session, clinic)
            self.job = runtime.queue.ask(session, JobKind.CURATE, clinic.id, project_id=clinic.id)
            self.rows: dict[str, UUID] = {
                "run_id": session.exec(select(TrainingRun.id)).one(),
                "evaluation_id": evaluation.id,
                "bisection_id": searched.id,
                "tuning_id": tuned.id,
                "job_id": self.job,
                "finding_id": finding.id,
                "repair_id": repair.id,
                "quarantine_id": held.id,
                "question_id": asked.id,
                **self._noticed(session, clinic),
                "response_id": response.id,
                "feedback_id": builders.add_flag(session, clinic, response).id,
                "model_id": model.id,
                "erasure_id": wish.id,
            }
            self.approval = {
                "evaluation": str(evaluation.id),
                "model_version": model.number,
                "adapter_sha256": model.adapter_sha256,
                "training_set": session.get_one(Evaluation, evaluation.id).model_dump(mode="json")["training_set_id"],
                "decision": "approved",
                "reason": "good",
            }  # fmt: skip

    def _noticed(self, session, project) -> dict[str, UUID]:
        """A target, a notice that died and an answer that was settled."""
        target = NoticeTarget(project_id=project.id, url="https://hooks.example/x", kinds=["alarm"])
        session.add(target)
        session.flush()
        dead = {"kind": NoticeKind.ALARM, "state": NoticeState.DEAD, "facts": {"event": "x"}}
        notice = Notice(project_id=project.id, target_id=target.id, **dead)
        session.add(notice)
        task = builders.add_task(session, project, builders.add_response(session, project))
        settled = builders.add_settlement(session, task)
        served = ServingTarget(project_id=project.id, kind=ServingKind.DIRECTORY, place="memory://adapters")
        session.add(served)
        return {
            "serving_id": served.id,
            "target_id": target.id,
            "notice_id": notice.id,
            "settlement_id": settled.id,
        }

    def member(self, role: Role, slug: str) -> dict[str, str]:
        """Headers of somebody whose role is in one project only."""
        with self.runtime.db.transaction() as session:
            user, token = builders.add_person(session, Role.ANNOTATOR, f"{role} of {slug}")
            people.set_role(session, user, role, project=self.projects[slug], actor="test")
        return {"Authorization": f"Bearer {token}"}

    def bodies(self) -> dict[str, dict[str, Any]]:
        """What is sent where a project's name is not enough."""
        corpus, clinic = {"source": "faq", "licence": "CC0"}, {"project": "clinic"}
        labels = {"kind": "classification", "labels": ["a", "b"]}
        return {
            "loop.approve": self.approval,
            "audits.waive": {"reason": "known", "until": utcnow().date().isoformat()},
            "audits.accept_repair": {"place": 0},
            "loop.waive_effort": {"reason": "known", "until": utcnow().date().isoformat()},
            "corpus.add": clinic | corpus | {"rows": [{"question": "x", "label": "y"}]},
            "corpus.import_corpus": clinic | corpus | {"place": "label-studio:7"},
            "notices.add": clinic | {"url": "https://hooks.example/x", "kinds": ["alarm"]},
            "notices.set_ticket": {"ticket_url": None},
            "serving.add": clinic | {"kind": "directory", "place": "memory://adapters"},
            "quarantines.impose": clinic | {"subject": "pat", "reason": "known"},
            "rights.erase": clinic | {"subject": "pat"},
            "rights.export": clinic | {"subject": "pat"},
            "rights.hold": clinic | {"subject": "pat", "reason": "a court"},
            "rights.lift": clinic | {"subject": "pat"},
            "bisections.bisect": clinic | {"good": "1", "bad": "1", "metric": "accuracy"},
            "annotators.invite": clinic | {"name": "mia"},
            "annotators.change_pool": clinic | {"pool": "doctors"},
            "annotators.answer": {"answer": "!"},
            "reports.report": clinic | {"question": "x", "complaint": "y", "channel": "phone"},
            "suites.put": clinic | {"suites": {"behaviour": ["typos"]}},
            "questions.set_label_schema": clinic | {"label_schema": labels},
        }

    def calls(self) -> Iterator[tuple[str, str, dict[str, Any] | None, Access]]:
        """Every call that is for people, each about `clinic`."""
        app = self.client.application
        for rule in app.url_map.iter_rules():
            view = app.view_functions[rule.endpoint]
            if not isinstance(view, Endpoint) or view.access not in PEOPLE:
                continue
            path = rule.build({name: self.rows[name] for name in rule.arguments})[1]
            for method in sorted(rule.methods - {"OPTIONS", "HEAD"}):
                body = self.bodies().get(rule.endpoint, {"project": "clinic"}) if view.body else None
                yield method, path + ("?project=clinic" if view.query else ""), body, view.access

    def answers(self, headers: dict[str, str]) -> dict[tuple[str, str], tuple[int, Access]]:
        return {
            (method, path): (
                self.client.open(path, method=method, json=body, headers=headers).status_code,
                access,
            )
            for method, path, body, access in self.calls()
        }


class TestApi:
    @pytest.fixture
    def api(self, runtime) -> Api:
        return Api(runtime)

    @pytest.mark.parametrize("role", list(Role))
    def test_a_role_in_a_project_opens_what_it_is_for(self, api, role):
        for call, (status, access) in api.answers(api.member(role, "clinic")).items():
            assert (status not in (401, 403)) == (role in PEOPLE[access]), (call, status)

    def test_a_role_in_one_project_opens_nothing_in_another(self, runtime, api):
        answers = api.answers(api.member(Role.ADMIN, "other"))
        assert len(answers) >= 10
        assert {status for status, _ in answers.values()} == {403}
        with runtime.db.reading() as session:
            assert session.get_one(Job, api.job).finished_at is None
            assert len(session.exec(select(Job)).all()) == 1

    def test_it_is_the_check_of_the_project_that_keeps_them_out(self, api, monkeypatch):
        monkeypatch.setattr("service.web.auth.Caller.check", lambda *_: None)
        assert 403 not in {status for status, _ in api.answers(api.member(Role.ADMIN, "other")).values()}

    def test_a_role_everywhere_is_overruled_by_a_lesser_one_in_a_project(self, runtime, api):
        with runtime.db.transaction() as session:
            user, token = builders.add_person(session, Role.ADMIN, "ada")
            people.set_role(session, user, Role.AUDITOR, project=api.projects["clinic"], actor="test")
        headers = {"Authorization": f"Bearer {token}"}
        for slug, status in (("clinic", 403), ("other", 202)):
            answer = api.client.post("/v1/training-sets", json={"project": slug}, headers=headers)
            assert answer.status_code == status

    def test_a_disabled_person_s_token_is_none(self, runtime, api):
        headers = api.member(Role.OPERATOR, "clinic")
        with runtime.db.transaction() as session:
            people.disable(session, people.find(session, "operator of clinic"), actor="test")
        answer = api.client.get("/v1/training-sets?project=clinic", headers=headers)
        assert answer.status_code == 401

    def test_a_browser_s_cookie_is_no_credential_there(self, runtime, api):
        ada = person(runtime, Role.ADMIN, name="ada", password="")
        assert ada.client.get("/v1/training-sets?project=clinic").status_code == 401
        secret = ada.client.get_cookie("errata").value
        headers = {"Authorization": f"Bearer {secret}"}
        assert api.client.get("/v1/training-sets?project=clinic", headers=headers).status_code == 401

    def test_a_key_opens_no_page(self, runtime, client):
        with runtime.db.transaction() as session:
            project = builders.add_project(session)
            keys = [builders.add_key(session, project, kind) for kind in KeyKind]
        for key in keys:
            headers = {"Authorization": f"Bearer {key}"}
            assert path_of(client.get("/p/clinic/feedback", headers=headers)) == "/sign-in"
            client.set_cookie("errata", key)
            assert path_of(client.get("/p/clinic/feedback")) == "/sign-in"
