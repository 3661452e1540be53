"""Takes many things at once: each has a fate of its own, and what is wrong with one hinders no other."""

import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from flask import Response, request
from pydantic import ValidationError
from sqlmodel import Session
from werkzeug.exceptions import RequestEntityTooLarge

from service.errors import ServiceError, code_of
from service.web.body import parse_json, read_bytes, read_json
from service.web.endpoint import JSON
from service.web.problems import InvalidRequest, Malformed, status_of
from service.web.state import runtime

NDJSON = "application/x-ndjson"
MAX_BYTES, MAX_LINES, AT_ONCE = 16_000_000, 10_000, 200
Take = Callable[[Session, str], tuple[dict[str, Any], bool]]  # of one thing's JSON; says whether it is new


def answer(lines: Sequence[tuple[int, bytes]], take: Take) -> Response:
    """Take what is listed, and tell each one's fate.

    What is in one part is committed together before the next part begins, so that others are heard in between.
    """
    if len(lines) > MAX_LINES:
        raise RequestEntityTooLarge(f"more than {MAX_LINES} lines")
    told: list[dict[str, Any]] = []
    for start in range(0, len(lines), AT_ONCE):
        with runtime().db.transaction() as session:
            told += [_taken(session, take, *one) for one in lines[start : start + AT_ONCE]]
    if request.mimetype == JSON:
        document = json.dumps({"items": told}, ensure_ascii=False)
        return Response(document, HTTPStatus.MULTI_STATUS, content_type=JSON)
    document = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in told)
    return Response(document, HTTPStatus.MULTI_STATUS, content_type=NDJSON)


def listed() -> Sequence[tuple[int, bytes]]:
    """Return what the request lists, as JSON Lines or as one JSON list."""
    if request.mimetype != JSON:
        return lines()
    things = parse_json(read_json(request, max_bytes=MAX_BYTES).decode())
    if not isinstance(things, list):
        raise Malformed(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", "send a list")
    return [(number, json.dumps(each).encode()) for number, each in enumerate(things, start=1)]


def lines() -> Sequence[tuple[int, bytes]]:
    """Return the request's JSON Lines, each with its number."""
    if request.mimetype != NDJSON or request.headers.get("Content-Encoding"):
        raise Malformed(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", f"send {NDJSON}, not compressed"
        )
    raw = read_bytes(request, max_bytes=MAX_BYTES).split(b"\n")
    return [(number, line) for number, line in enumerate(raw, start=1) if line.strip()]


def _taken(session: Session, take: Take, number: int, line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
        parse_json(text)
        told, is_new = take(session, text)
    except UnicodeDecodeError as error:
        problem = {"code": "malformed_json", "detail": f"not UTF-8: {error.reason}"}
        return {"line": number, "status": 400, "problem": problem}
    except Malformed as error:
        return {"line": number, "status": error.status, "problem": {"code": error.code, "detail": str(error)}}
    except ValidationError as error:
        fields = [field.model_dump() for field in InvalidRequest(error).errors]
        return {"line": number, "status": 422, "problem": {"code": "invalid_request", "errors": fields}}
    except ServiceError as error:
        problem = {"code": code_of(error), "detail": str(error)}
        return {"line": number, "status": status_of(error), "problem": problem}
    return {"line": number, "status": 201 if is_new else 200, **told}
