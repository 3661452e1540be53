"""Typed JSON endpoints, and the OpenAPI document they add up to."""

import re
from collections.abc import Callable, Iterator
from functools import update_wrapper
from inspect import getdoc, signature
from typing import Any, TypeVar, get_origin
from uuid import UUID

from flask import Flask, Response, g, request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from service import text_reads
from service.clock import utcnow
from service.web.auth import Access, Caller, authenticate
from service.web.body import check_text, read_json
from service.web.problems import PROBLEM, InvalidRequest, Problem
from service.web.state import runtime

JSON = "application/json"
View = TypeVar("View", bound=Callable[..., Any])


class Schema(BaseModel):
    """A request or response body; unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint:
    """A view `(session, caller, body?, query?, **path)` that answers with `returns` as JSON, or bytes of that type.

    The view's transaction commits before the answer is sent. A view that does not take `session` opens its
    own: one that waits for something must hold none meanwhile. A view may answer `(model, status)`, with its own
    status or 200. Where the caller is `known_before`, their rows are only read: others write while it is found out
    who calls.
    """

    def __init__(
        self,
        view: Callable[..., Any],
        *,
        access: Access,
        body: type[Schema] | None,
        query: type[Schema] | None,
        returns: type[BaseModel] | str,
        status: int,
        limit: str,
        known_before: bool,
        shows_text: bool,
    ) -> None:
        self.view, self.access, self.body, self.query = view, access, body, query
        self.returns, self.status, self.limit = returns, status, limit
        self.shows_text = shows_text
        described = signature(view)
        self.statuses = {status, 200} if get_origin(described.return_annotation) is tuple else {status}
        self.takes_session = "session" in described.parameters
        self.known_before = known_before or not self.takes_session
        update_wrapper(self, view)

    def __call__(self, **arguments: Any) -> Response:
        self._parse(arguments)
        caller, answer = self._answer(arguments, key=getattr(arguments.get("body"), "key", None))
        self._note_reading(caller, arguments)
        answer, status = answer if isinstance(answer, tuple) else (answer, self.status)
        if isinstance(self.returns, str):
            return Response(answer, status, content_type=self.returns)
        document = self.returns.model_validate(answer, from_attributes=True)
        return Response(document.model_dump_json(by_alias=True), status, content_type=JSON)

    def _answer(self, arguments: dict[str, Any], *, key: str | None) -> tuple[Caller, Any]:
        db = runtime().db
        if self.known_before:
            with db.reading() as session:
                caller = authenticate(session, self.access, body_key=key)
            if not self.takes_session:
                return caller, self.view(caller=caller, **arguments)
            with db.transaction() as session:
                return caller, self.view(session=session, caller=caller, **arguments)
        with db.reading() if request.method in ("GET", "HEAD") else db.transaction() as session:
            caller = authenticate(session, self.access, body_key=key)
            return caller, self.view(session=session, caller=caller, **arguments)

    def _note_reading(self, caller: Caller, arguments: dict[str, Any]) -> None:
        """Note a person who reads what end users said; a program's key is its project's own."""
        if self.shows_text and caller.user and (project_id := g.get("project_id")):
            rows = [value for value in arguments.values() if isinstance(value, UUID)]
            text_reads.note(
                runtime().db,
                user_id=caller.user.id,
                project_id=project_id,
                page=str(request.endpoint),
                row_id=rows[0] if rows else None,
                now=utcnow(),
            )

    def models(self) -> set[type[BaseModel]]:
        return {
            model for model in (self.body, self.query, self.returns) if model and not isinstance(model, str)
        }

    def _parse(self, arguments: dict[str, Any]) -> None:
        try:
            if self.body:
                raw = read_json(request, max_bytes=getattr(runtime().settings, self.limit))
                arguments["body"] = self.body.model_validate_json(raw, strict=True)
            if self.query:
                for text in request.args.values():
                    check_text(text)
                arguments["query"] = self.query.model_validate_strings(request.args.to_dict())
        except ValidationError as error:
            raise InvalidRequest(error) from error


def endpoint(
    *,
    access: Access,
    returns: type[BaseModel] | str,
    body: type[Schema] | None = None,
    query: type[Schema] | None = None,
    status: int = 200,
    limit: str = "max_body_bytes",
    known_before: bool = False,
    shows_text: bool = False,
) -> Callable[[Callable[..., Any]], Endpoint]:
    """Make a view typed and guarded: a request that does not fit never reaches it.

    `returns` is a schema, or the media type of a file; `limit` names a setting. With `shows_text` it is noted which
    person read what end users said.
    """
    options: dict[str, Any] = {
        "status": status,
        "limit": limit,
        "known_before": known_before,
        "shows_text": shows_text,
    }
    return lambda view: Endpoint(view, access=access, body=body, query=query, returns=returns, **options)


def declared(access: Access) -> Callable[[View], View]:
    """Declare who may call a page or hook, which checks it by itself."""

    def declare(view: View) -> View:
        vars(view)["access"] = access
        return view

    return declare


def openapi(app: Flask, *, title: str, version: str) -> dict[str, Any]:
    """Describe every endpoint of `app` as an OpenAPI 3.1 document."""
    found = list(_endpoints(app))
    models = {Problem}.union(*(view.models() for _, view in found))
    refs, schemas = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda m: m.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for rule, view in found:
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            paths.setdefault(_path(rule), {})[method.lower()] = _operation(rule, view, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _endpoints(app: Flask) -> Iterator[tuple[Rule, Endpoint]]:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if isinstance(view, Endpoint):
            yield rule, view


def _path(rule: Rule) -> str:
    """Turn Flask's `/runs/<uuid:run_id>` into OpenAPI's `/runs/{run_id}`."""
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def _operation(rule: Rule, view: Endpoint, refs: Any) -> dict[str, Any]:
    def content(model: type[BaseModel] | str, media_type: str = JSON) -> dict[str, Any]:
        if isinstance(model, str):
            return {"content": {model: {"schema": {"type": "string", "format": "binary"}}}}
        return {"content": {media_type: {"schema": refs[model, "validation"]}}}

    summary, _, description = (getdoc(view.view) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": summary,
        "description": f"{description}\n\nFor: {view.access}.".strip(),
        "parameters": [
            _parameter("path", name, {"type": "string", "format": "uuid"}) for name in sorted(rule.arguments)
        ],
        "security": [] if view.access in (Access.ANYONE, Access.TOOL) else [{"bearer": []}],
        "responses": {
            **{str(each): {"description": "Done."} | content(view.returns) for each in sorted(view.statuses)},
            "default": {"description": "Refused."} | content(Problem, PROBLEM),
        },
    }
    if view.query:
        schema = view.query.model_json_schema()
        required = schema.get("required", [])
        operation["parameters"] += [
            _parameter("query", name, field) | {"required": name in required}
            for name, field in schema["properties"].items()
        ]
    if view.body:
        operation["requestBody"] = {"required": True} | content(view.body)
    return operation


def _parameter(where: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema}
