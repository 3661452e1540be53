"""The application factory."""

from collections.abc import Iterator
from threading import BoundedSemaphore
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, request
from structlog.contextvars import bind_contextvars, clear_contextvars

from service import logs, migrations
from service.runtime import Runtime, from_environment
from service.web import console, problems
from service.web.api import feedback, hooks, loop, models, operation, responses
from service.web.auth import Access
from service.web.endpoint import declared, openapi

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = structlog.get_logger()


class App(Flask):
    """Flask, whose own line about an unforeseen error would name the path: a path may hold a secret."""

    def log_exception(self, exc_info: Any) -> None:
        log.error("request_failed", route=str(request.url_rule), exc_info=exc_info)


def create_app(runtime: Runtime) -> Flask:
    """Build the web application around an already wired runtime.

    Raises:
        RuntimeError: a route does not declare who may call it.
    """
    app = App(__name__, static_folder=None)
    app.secret_key = runtime.secrets.session_key
    app.config.update(
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=runtime.settings.own_url.startswith("https:"),
    )
    app.extensions["runtime"] = runtime
    app.extensions["chat_places"] = BoundedSemaphore(max(1, runtime.settings.web_threads // 2))
    problems.init_app(app)
    for blueprint in (responses.bp, feedback.bp, hooks.bp, loop.bp, models.bp, operation.bp, console.bp):
        app.register_blueprint(blueprint)

    @declared(Access.ANYONE)
    def describe() -> dict[str, object]:
        return document

    app.add_url_rule("/openapi.json", "openapi", describe)
    document = openapi(app, title="Errata", version="1")
    if undeclared := sorted(undeclared_routes(app)):
        raise RuntimeError(f"routes without an access declaration: {', '.join(undeclared)}")
    app.before_request(_numbered)
    app.after_request(_secured)
    return app


def undeclared_routes(app: Flask) -> Iterator[str]:
    """Yield every route whose view does not say who may call it."""
    for rule in app.url_map.iter_rules():
        if not isinstance(getattr(app.view_functions[rule.endpoint], "access", None), Access):
            yield rule.rule


def from_environment_app() -> Flask:
    """Build the application of this process's environment; the server calls it."""
    logs.configure()
    runtime = from_environment()
    migrations.check(runtime.db)
    return create_app(runtime)


def _numbered() -> None:
    clear_contextvars()
    bind_contextvars(request_id=uuid4().hex)


def _secured(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    log.info("request", method=request.method, route=str(request.url_rule), status=response.status_code)
    return response
