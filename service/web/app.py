"""The application factory."""

import time
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from secrets import token_urlsafe
from threading import BoundedSemaphore
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from retrain.amounts import how_many
from service import logs, migrations
from service.runtime import Runtime, from_environment
from service.web import assets, console, problems, state, watching, widget
from service.web.api import (
    annotators,
    audits,
    bisections,
    corpus,
    feedback,
    forms,
    hooks,
    lineage,
    loop,
    models,
    notices,
    operation,
    outcomes,
    quarantines,
    questions,
    reasons,
    reports,
    responses,
    rights,
    serving,
    signals,
    status,
    suites,
    tunings,
)
from service.web.auth import Access, note_use
from service.web.console import text
from service.web.console.page import MAX_FORM_BYTES
from service.web.endpoint import declared, openapi
from service.web.limits import limiter, tell
from service.web.rates import BehindProxies, Rates

# htmx alone may parse HTML, and only elements that carry the page's nonce may ask it to.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self' 'nonce-{nonce}'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types htmx"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

# A request that waited longer for its turn to write would keep a thread from others; its sender tries again.
PATIENCE_SECONDS = 3.0

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
    earlier = runtime.secrets.earlier_session_key
    app.config.update(
        SECRET_KEY_FALLBACKS=[earlier] if earlier else None,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=runtime.settings.own_url.startswith("https:"),
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,  # bodies of JSON have limits of their own
        MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES,
    )
    app.extensions["runtime"] = runtime
    app.jinja_env.finalize = text.finalize
    app.jinja_env.globals.update(
        asset=assets.asset,
        how_many=how_many,
        shown_url=_shown_url,
        widget_script_path=widget.script_path,
        widget_integrity=widget.integrity,
    )
    app.jinja_env.filters.update(exact=text.exact, line=text.line, moment=text.moment, age=text.age)
    app.jinja_env.tests["moment"] = lambda value: isinstance(value, datetime)
    limiter.init_app(app)
    app.extensions["rates"] = Rates(time.monotonic)
    app.wsgi_app = BehindProxies(app.wsgi_app, runtime.settings.trusted_proxies)  # type: ignore[method-assign]
    app.extensions["chat_places"] = BoundedSemaphore(max(1, runtime.settings.web_threads // 2))
    problems.init_app(app)
    watching.init_app(app)
    for blueprint in (
        responses.bp,
        feedback.bp,
        status.bp,
        forms.bp,
        reasons.bp,
        reports.bp,
        hooks.bp,
        loop.bp,
        audits.bp,
        questions.bp,
        annotators.bp,
        corpus.bp,
        quarantines.bp,
        suites.bp,
        lineage.bp,
        bisections.bp,
        tunings.bp,
        rights.bp,
        signals.bp,
        outcomes.bp,
        models.bp,
        notices.bp,
        serving.bp,
        operation.bp,
        assets.bp,
        console.bp,
        widget.bp,
    ):
        app.register_blueprint(blueprint)

    @declared(Access.ANYONE)
    @cache
    def describe() -> dict[str, object]:
        return openapi(app, title="Errata", version="1")

    app.add_url_rule("/openapi.json", "openapi", describe)
    app.add_url_rule("/favicon.ico", "favicon", assets.favicon)
    if undeclared := sorted(undeclared_routes(app)):
        raise RuntimeError(f"routes without an access declaration: {', '.join(undeclared)}")
    app.before_request(_numbered)
    app.after_request(_secured)
    app.after_request(note_use)
    app.after_request(tell)
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
    runtime.db.busy_seconds = PATIENCE_SECONDS
    migrations.check(runtime.db)
    return create_app(runtime)


def _shown_url() -> str:
    """Return the address that people copy: the one that is set, for a request's may be anybody's word."""
    return (state.runtime().settings.public_url or request.host_url).rstrip("/")


def _numbered() -> None:
    g.nonce = token_urlsafe(16)
    clear_contextvars()
    bind_contextvars(request_id=uuid4().hex)


def _secured(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", POLICY.format(nonce=g.nonce))
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = str(get_contextvars()["request_id"])
    log.info(
        "request",
        method=request.method,
        route=str(request.url_rule),
        status=response.status_code,
        seconds=round(watching.seconds_so_far(), 4),
    )
    return response
