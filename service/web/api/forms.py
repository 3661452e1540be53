"""Feedback without JavaScript: a plain form on a page, whose token stands in its address."""

from http import HTTPStatus
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from flask import Blueprint, request
from flask import Response as WebResponse
from pydantic import ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from retrain.types import sha256_of
from service.web.api import feedback
from service.web.auth import Access, authenticate
from service.web.body import check_text
from service.web.endpoint import declared
from service.web.problems import InvalidRequest, Malformed
from service.web.state import runtime

bp = Blueprint("forms", __name__)
FORM = "application/x-www-form-urlencoded"
TEXTS = ("key", "rating", "comment", "correction", "consent")


@bp.post("/f/<feedback_token>")
@declared(Access.WIDGET)
def give(feedback_token: str) -> WebResponse:
    """Take a form with `key`, `rating`, `reasons`, `comment`, `correction` and `consent`, and lead to its status.

    The same form again adds nothing.
    """
    said = _said()
    given = said | {
        "feedback_token": feedback_token,
        "event_id": uuid5(NAMESPACE_URL, sha256_of([feedback_token, said])),
    }
    try:
        body = feedback.FeedbackIn.model_validate(given)
    except ValidationError as error:
        raise InvalidRequest(error) from error
    with runtime().db.transaction() as session:
        caller = authenticate(session, Access.WIDGET, body_key=body.key)
        recorded, _ = feedback.record(session, caller, body)
        url = feedback.told(session, recorded).status_url
    return WebResponse("", HTTPStatus.SEE_OTHER, headers={"Location": url})


def _said() -> dict[str, Any]:
    """Return what the form says; what was left empty is not said.

    Raises:
        Malformed: it is no form, or ambiguous: a field is unknown or repeated.
    """
    if request.mimetype != FORM:
        with runtime().db.reading() as session:
            authenticate(session, Access.WIDGET)
        raise Malformed(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", f"send {FORM}")
    limit = getattr(runtime().settings, feedback.LIMIT)
    request.max_content_length = limit + 1  # one byte more gives a chunked body away
    if len(request.get_data()) > limit:
        raise RequestEntityTooLarge
    found: dict[str, Any] = {}
    for name, values in request.form.lists():
        for text in (name, *values):
            check_text(text)
        if name not in (*TEXTS, "reasons") or (len(values) > 1 and name != "reasons"):
            raise Malformed(
                HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", f"{name[:50]!r}: unknown or repeated"
            )
        found[name] = values if name == "reasons" else values[0]
    said = {name: value for name, value in found.items() if value}
    return said | ({"consent": said["consent"] in ("yes", "true", "on")} if "consent" in said else {})
