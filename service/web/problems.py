"""Errors as RFC 9457 problem documents: the only place where an error meets a status code."""

import sqlite3
from http import HTTPStatus

import psycopg
import structlog
from flask import Flask, Response, render_template, request
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from annotation.errors import AnnotationError, InvalidHook, ToolUnavailable
from retrain.errors import RetrainError
from service import errors

PROBLEM = "application/problem+json"
STATUS: dict[type[Exception], HTTPStatus] = {
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AddressRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ResponseMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ResponderUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TryAgain: HTTPStatus.SERVICE_UNAVAILABLE,
    ToolUnavailable: HTTPStatus.BAD_GATEWAY,
    InvalidHook: HTTPStatus.UNPROCESSABLE_ENTITY,
    AnnotationError: HTTPStatus.CONFLICT,
    RetrainError: HTTPStatus.CONFLICT,
    errors.ServiceError: HTTPStatus.CONFLICT,
}

# What may be over when the same is asked again.
PASSING = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY, HTTPStatus.INSUFFICIENT_STORAGE)

log = structlog.get_logger()


class FieldProblem(BaseModel):
    """Where a request does not fit, as a JSON pointer, and why."""

    pointer: str
    detail: str


class Problem(BaseModel):
    """An RFC 9457 problem document; `code` is stable, `detail` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] = []


class Malformed(Exception):
    """The request is not the JSON that was asked for; `status` says in which way."""

    def __init__(self, status: HTTPStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


class InvalidRequest(Exception):
    """The request does not fit its schema. Raised from pydantic's own error, which says where."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__("the request does not fit its schema")
        self.errors = [
            FieldProblem(pointer="/" + "/".join(map(str, e["loc"])), detail=e["msg"])
            for e in error.errors(include_input=False, include_url=False)
        ]


def init_app(app: Flask) -> None:
    """Answer every foreseen error with a problem document; the unforeseen stay a logged, bare 500."""
    for error_type in STATUS:
        app.register_error_handler(error_type, _known)
    app.register_error_handler(Malformed, lambda e: problem(e.status, e.code, str(e)))
    app.register_error_handler(
        InvalidRequest,
        lambda e: problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", str(e), e.errors),
    )
    app.register_error_handler(OperationalError, _no_database)
    app.register_error_handler(HTTPException, _http)


def problem(status: int, code: str, detail: str, fields: list[FieldProblem] | None = None) -> Response:
    """Build a problem response; a person's browser gets it as a page."""
    if _is_for_a_person():
        return Response(
            render_template("problem.html", title=HTTPStatus(status).phrase, code=code, detail=detail), status
        )
    document = Problem(
        type=f"/problems/{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        errors=fields or [],
    )
    response = Response(document.model_dump_json(), status, content_type=PROBLEM)
    if status in PASSING:
        response.headers["Retry-After"] = "5"
    return response


def status_of(error: Exception) -> HTTPStatus:
    """Return the most specific status of a foreseen error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _is_for_a_person() -> bool:
    if request.path.startswith(("/v1/", "/hooks/")):
        return False
    return request.accept_mimetypes.best_match([PROBLEM, "application/json", "text/html"]) == "text/html"


def _known(error: Exception) -> Response:
    return problem(status_of(error), errors.code_of(error), str(error))


def _no_database(error: OperationalError) -> Response:
    log.error("database_unavailable", error=str(error.orig))
    is_full = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if is_full or isinstance(error.orig, psycopg.errors.DiskFull):
        return problem(
            HTTPStatus.INSUFFICIENT_STORAGE, "disk_full", "the database's disk is full; try again later"
        )
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "database_unavailable", "the database did not take this; try again"
    )


def _http(error: HTTPException) -> Response:
    # Named by werkzeug: the standard library's phrases differ between versions of Python.
    code = error.name.lower().replace(" ", "_").replace("-", "_")
    response = problem(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, code, error.description or error.name)
    if isinstance(error, MethodNotAllowed):
        response.allow.update(error.valid_methods or ())
    return response
