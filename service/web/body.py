"""Reads a request's JSON body, refusing what parsers disagree about."""

import json
import re
from http import HTTPStatus
from typing import Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge

from service.web.problems import Malformed

MAX_DEPTH = 32
MAX_INTEGER = 2**63
SURROGATE = re.compile("[\ud800-\udfff]")
NOTHING = b"{}"  # what a DELETE whose credential is a header says


def read_json(request: Request, *, max_bytes: int) -> bytes:
    """Return the raw body once it is certain that every parser reads the same from it.

    Raises:
        Malformed: wrong media type, too large, not UTF-8, not JSON, or ambiguous JSON: a repeated key, NaN,
            a NUL or lone surrogate in a text, an integer that no database holds, or nesting beyond `MAX_DEPTH`.
    """
    if request.method == "DELETE" and not request.mimetype:
        return NOTHING
    if request.mimetype != "application/json" or request.headers.get("Content-Encoding"):
        raise Malformed(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send application/json, not compressed",
        )
    raw = read_bytes(request, max_bytes=max_bytes)
    if not raw and request.method == "DELETE":
        return NOTHING
    if not raw:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed_json", "the body is empty")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(
            HTTPStatus.BAD_REQUEST, "malformed_json", f"the body is not UTF-8: {error.reason}"
        ) from error
    if text.startswith("\ufeff"):
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed_json", "the body starts with a byte order mark")
    parse_json(text)
    return raw


def parse_json(text: str) -> Any:
    """Return what a text says as JSON.

    Raises:
        Malformed: it is not JSON, or ambiguous as `read_json` says.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Malformed(HTTPStatus.BAD_REQUEST, "malformed_json", f"not JSON: {error}") from error
    except RecursionError as error:
        raise _ambiguous(f"nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise _ambiguous("a number is too large") from error
    _check(value, depth=0)
    return value


def read_bytes(request: Request, *, max_bytes: int) -> bytes:
    """Return the raw body.

    Raises:
        RequestEntityTooLarge: it is larger.
    """
    # Werkzeug cuts a chunked body off at the limit without a word; one byte more gives it away.
    request.max_content_length = max_bytes + 1
    raw = request.get_data(cache=False)
    if len(raw) > max_bytes:
        raise RequestEntityTooLarge
    return raw


def check_text(text: str) -> None:
    """Refuse what one of our databases cannot hold."""
    if "\0" in text:
        raise _ambiguous("a text holds the NUL character")
    if SURROGATE.search(text):
        raise _ambiguous("a text holds half of a surrogate pair")


def _check(value: Any, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _ambiguous(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise _ambiguous("an integer needs more than 64 bits")
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise _ambiguous("a number is too large")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth=depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key)
            _check(item, depth=depth + 1)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _ambiguous("a key is repeated")
    return found


def _refuse_constant(name: str) -> None:
    raise _ambiguous(f"{name} is not JSON")


def _ambiguous(detail: str) -> Malformed:
    return Malformed(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", detail)
