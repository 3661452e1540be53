"""One page of the console: who is signed in, what they may see here, and what becomes of their forms."""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from flask import Blueprint, Response, flash, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlmodel import Session, SQLModel

from annotation.errors import AnnotationError
from retrain.errors import RetrainError
from service import people, projects, text_reads, tokens
from service.clock import utcnow
from service.errors import Forbidden, NotFound, ServiceError
from service.queue import JobQueue
from service.tables import JobKind, Project, Role, User, UserSession
from service.web.auth import PEOPLE, Access
from service.web.body import check_text
from service.web.problems import InvalidRequest, status_of
from service.web.state import runtime

bp = Blueprint("console", __name__, template_folder="templates")
MAX_FORM_BYTES = 300_000
OURS = frozenset({"csrf", "password", "back"})  # fields that any form may have
PASSWORDS = ("password", "new_password", "second_token")  # never shown again
T = TypeVar("T", bound=SQLModel)


class Form(BaseModel):
    """What a page's form may carry; an empty field is one that was left out."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


F = TypeVar("F", bound=Form)


@dataclass(frozen=True, slots=True)
class Desk:
    """Who sits before a page, and in which project; rows are read, and for a POST written, in `session`."""

    session: Session
    user: User
    browser: UserSession
    role: Role
    found: Project | None = None
    sent: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Project:
        """The project whose page this is."""
        if self.found is None:
            raise NotFound("this page belongs to no project")
        return self.found

    def may(self, access: Access) -> bool:
        """Say whether a page or button of this kind is for this person."""
        return self.role in PEOPLE[access]

    def row(self, table: type[T], row_id: UUID) -> T:
        """Return a row of this page's project.

        Raises:
            NotFound: there is none, or it is another project's.
        """
        row = self.session.get(table, row_id)
        if row is None or getattr(row, "project_id", None) != self.project.id:
            raise NotFound(f"no {table.__tablename__} {row_id} here")
        return row

    def confirm(self) -> None:
        """Make sure by the form's password that the person themselves sits there."""
        people.confirm(self.user, self.sent.get("password", ""))

    def ask(self, kind: JobKind, row_id: UUID, *, options: Mapping[str, Any] | None = None) -> UUID:
        """Ask for a job in this person's name; one without options is asked for once while it waits."""
        return runtime().queue.ask(
            self.session,
            kind,
            row_id,
            project_id=self.project.id,
            unique_key=None if options else f"{kind}:{row_id}",
            options=options,
            actor=self.user.name,
        )

    def let_go(self) -> None:
        """End this page's transaction, with nothing written, before something that takes long or opens its own."""
        self.session.expunge_all()
        self.session.rollback()

    def queue(self) -> JobQueue:
        """Return the queue for what it does in transactions of its own."""
        self.let_go()
        return runtime().queue

    def show(self, template: str, **facts: Any) -> str:
        """Render a page."""
        return render_template(template, desk=self, **facts)

    def done(self, said: str, endpoint: str, **arguments: Any) -> Response:
        """Say what was done, on the page where it shows."""
        if said:
            flash(said)
        if self.found:
            arguments.setdefault("slug", self.found.slug)
        return see_other(url_for(endpoint, **arguments))


class Page:
    """A view `(desk, form?, **path)`: it runs once the person behind the session cookie may see the page.

    A POST must come from our own page, in its session; one that cannot be done as sent is shown again with
    everything that was typed.
    """

    def __init__(
        self, view: Callable[..., Any], *, access: Access, form: type[Form] | None, shows_text: bool
    ) -> None:
        self.view, self.access, self.form, self.shows_text = view, access, form, shows_text
        update_wrapper(self, view)

    def __call__(self, slug: str | None = None, **arguments: Any) -> ResponseReturnValue:
        here = who_is_here()
        is_post = request.method == "POST"
        sent = read_form() if is_post else {}
        if here is None:
            return _sign_in_first(sent)
        if is_post and not _is_own(here[1], sent):
            why = "This form is from an earlier visit. Look it over and send it again."
            return self._again(why, 409, here, slug, sent)
        try:
            with runtime().db.transaction() if is_post else runtime().db.reading() as session:
                desk = self._desk(session, *here, slug, sent)
                if self.form:
                    arguments["form"] = parsed(self.form, sent)
                answer = make_response(self.view(desk, **arguments))
            self._note_reading(desk, arguments.get("row_id"))
        except (ServiceError, AnnotationError, RetrainError, InvalidRequest) as error:
            if not is_post or isinstance(error, NotFound):
                raise
            status = 422 if isinstance(error, InvalidRequest) else status_of(error)
            return self._again(_sentence(error), status, here, slug, sent)
        return answer

    def _note_reading(self, desk: Desk, row_id: UUID | None) -> None:
        if self.shows_text and desk.found:
            text_reads.note(
                runtime().db,
                user_id=desk.user.id,
                project_id=desk.found.id,
                page=self.view.__name__,
                row_id=row_id,
                now=utcnow(),
            )

    def _desk(
        self, session: Session, user: User, browser: UserSession, slug: str | None, sent: dict[str, str]
    ) -> Desk:
        project = projects.find(session, slug) if slug else None
        role = people.role_in(session, user, project.id) if project else user.role
        if role not in PEOPLE[self.access]:
            raise Forbidden(f"the role {role} is not for this page")
        return Desk(session, user, browser, role, project, sent)

    def _again(
        self, why: str, status: int, here: tuple[User, UserSession], slug: str | None, sent: dict[str, str]
    ) -> Response:
        """Show a form again, in the frame of its page if that is for this person."""
        with runtime().db.reading() as session:
            try:
                desk = self._desk(session, *here, slug, sent)
            except (NotFound, Forbidden):
                desk = None
            return shown_again(why, status, sent, action=request.path, desk=desk)


def page(
    access: Access, *, form: type[Form] | None = None, shows_text: bool = False
) -> Callable[[Callable[..., Any]], Page]:
    """Make a view a page of the console for people with a role; who reads what end users said there is noted."""
    return lambda view: Page(view, access=access, form=form, shows_text=shows_text)


def who_is_here() -> tuple[User, UserSession] | None:
    """Return who the session cookie belongs to, and note once a minute that they are there."""
    secret = request.cookies.get(cookie_name())
    if not secret:
        return None
    idle_minutes = runtime().settings.session_idle_minutes
    with runtime().db.reading() as session:
        here = people.signed_in(session, secret, idle_minutes=idle_minutes)
    if here and not is_part() and people.is_unseen(here[1]):
        with runtime().db.transaction() as session:
            people.seen(session, here[1])
    if here:
        g.csrf = tokens.form_token(here[1].sha256, runtime().secrets)
    return here


def is_part() -> bool:
    """Say whether a page refreshes itself: nobody needs to sit before it."""
    return "HX-Request" in request.headers


def let_in(user: User, session: Session, to: str) -> Response:
    """Sign a person in with this browser and go on; a single sign-on would end here too."""
    chosen = runtime().settings
    secret = people.sign_in(session, user, browser=request.user_agent.string, hours=chosen.session_hours)
    g.csrf = tokens.form_token(tokens.hashed(secret), runtime().secrets)
    response = see_other(to)
    response.set_cookie(
        cookie_name(),
        secret,
        max_age=int(chosen.session_hours * 3600),
        secure=is_secure(),
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return response


def cookie_name() -> str:
    """Name the session's cookie; browsers take one with `__Host-` from this host over TLS only."""
    return "__Host-errata" if is_secure() else "errata"


def is_secure() -> bool:
    """Say whether browsers reach us over TLS."""
    return runtime().settings.own_url.startswith("https:")


def see_other(to: str) -> Response:
    """Send the browser on with a GET."""
    return make_response(redirect(to, 303))


def inside(path: str | None) -> str:
    """Return a path of ours, or the first page: whoever made a link may not send people elsewhere."""
    parts = _parts(path or "")
    is_ours = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    # Browsers take a backslash for a slash, and leave tabs and line ends out.
    is_plain = path and path.isprintable() and "\\" not in path and not path.startswith("//")
    return path if path and is_ours and is_plain else "/"


def refuse_strangers() -> None:
    """Refuse a form that another site's page sends.

    Raises:
        Forbidden: the browser says that it is one.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site not in (None, "same-origin", "none"):
        raise Forbidden("this form was sent by another site")
    if site is None and origin and _parts(origin).netloc != request.host:
        raise Forbidden("this form was sent by another site")


def read_form() -> dict[str, str]:
    """Return a form's fields as they were sent.

    Raises:
        Forbidden: another site's page sent it.
        Malformed: it holds what no database keeps.
    """
    refuse_strangers()
    sent = {name: "\n".join(request.form.getlist(name)) for name in request.form}
    for text in (*sent, *sent.values()):
        check_text(text)
    return {name: text.replace("\r\n", "\n") for name, text in sent.items()}


def shown_again(
    why: str, status: int, sent: Mapping[str, str], *, action: str, desk: Desk | None = None
) -> Response:
    """Show what was typed, to be corrected and sent again: nothing that a person wrote is lost."""
    page = render_template(
        "again.html",
        desk=desk,
        why=why.split("\n"),
        typed=_typed(sent),
        passwords=[name for name in PASSWORDS if name in sent],
        password_rule=people.PASSWORD_RULE,
        action=action,
        back=_came_from(sent),
    )
    return make_response(page, status)


def _sign_in_first(sent: Mapping[str, str]) -> Response:
    """Ask who it is, and keep where they were going and what they had typed."""
    if is_part():
        return make_response("", 401, {"HX-Refresh": "true"})
    if request.method != "POST":
        return see_other(url_for("console.sign_in", next=request.full_path.rstrip("?")))
    # A password is asked for again; that there was one, and the page it was on, must not be lost.
    asked = {name: "" for name in PASSWORDS if name in sent} | {"back": _came_from(sent)}
    typed = _typed(sent)
    page = render_template(
        "sign_in.html",
        next=request.path if typed else _came_from(sent),
        typed=typed and typed | asked,
        is_expired=True,
    )
    return make_response(page, 401)


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # brackets that hold no address
        return urlsplit("")


def _typed(sent: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in sent.items() if name not in (*OURS, *PASSWORDS)}


def _came_from(sent: Mapping[str, str]) -> str:
    """Return the page whose form this is; its query is not worth a second look."""
    return inside(sent.get("back") or _parts(request.headers.get("Referer", "")).path)


def _is_own(browser: UserSession, sent: Mapping[str, str]) -> bool:
    expected = tokens.form_token(browser.sha256, runtime().secrets)
    return hmac.compare_digest(expected.encode(), sent.get("csrf", "").encode())


def parsed(form: type[F], sent: Mapping[str, str]) -> F:
    """Read what a page's form sends.

    Raises:
        InvalidRequest: a field does not fit.
    """
    said = {name: text for name, text in sent.items() if name not in OURS and text.strip()}
    try:
        return form.model_validate_strings(said)
    except ValidationError as error:
        raise InvalidRequest(error) from error


def _sentence(error: Exception) -> str:
    if isinstance(error, InvalidRequest):
        return "\n".join(f"{field.pointer.strip('/') or 'form'}: {field.detail}" for field in error.errors)
    return str(error)
