"""People before the console, as a test's HTTP client sees it."""

import re
from html import unescape
from urllib.parse import urlsplit

from flask.testing import FlaskClient

from service import people
from service.runtime import Runtime
from service.tables import Project, Role, User, UserSession

PASSWORD = "correct horse battery"
_app: list = []  # takes longer to build than most tests, so they share it, each with a runtime of its own


class Person:
    """Somebody signed in with a browser of their own."""

    def __init__(self, runtime: Runtime, client: FlaskClient, user: User) -> None:
        self.runtime, self.client, self.user = runtime, client, user

    def get(self, path: str, **more):
        return self.client.get(path, headers={"Accept": "text/html"}, **more)

    def post(self, path: str, **fields: str):
        """Send a form as the page that holds it would."""
        return self.client.post(path, data={"csrf": self.csrf(), **fields})

    def csrf(self) -> str:
        page = self.get("/account").text
        return unescape(re.search(r'name="csrf" value="([^"]+)"', page)[1])


def person(
    runtime: Runtime, role: Role, *, name: str = "", project: Project | None = None, password: str = PASSWORD
) -> Person:
    """Sign somebody in; with a project they have the role there, and elsewhere none."""
    client = _client(runtime)
    with runtime.db.transaction() as session:
        everywhere = Role.ANNOTATOR if project else role
        user, link = people.add_user(session, name or role.value, everywhere, actor="test")
        if project:
            people.set_role(session, user, role, project=project, actor="test")
    assert client.post(f"/sign-in/{link}").status_code == 303
    if password:
        with runtime.db.transaction() as session:
            user = session.get_one(User, user.id)
            here = people.open_sessions(session, user)[0]
            people.set_password(session, user, password, here=here)
    return Person(runtime, client, user)


def open_browsers(runtime: Runtime, user: User) -> list[UserSession]:
    with runtime.db.reading() as session:
        return people.open_sessions(session, user)


def path_of(response) -> str:
    """Where a redirect leads."""
    return urlsplit(response.headers["Location"]).path


def _client(runtime: Runtime) -> FlaskClient:
    from service.web.app import create_app

    if not _app:
        _app.append(create_app(runtime))
    app = _app[0]
    app.extensions["runtime"], app.secret_key = runtime, runtime.secrets.session_key
    return app.test_client()
