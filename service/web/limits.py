"""How often the same may be tried, by a process's own memory: passwords and, of public keys, everything."""

import structlog
from flask import Response, current_app, g, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from service.web import rates
from service.web.rates import Rate, Rates, prefix
from service.web.state import runtime

MINUTE, DAY = 60, 86_400

log = structlog.get_logger()
limiter = Limiter(get_remote_address, storage_uri="memory://")


def _is_failure(response: Response) -> bool:
    return response.status_code in (401, 403)


# Only failures count, by name and address: whoever guesses does not lock out the person themselves elsewhere.
guesses = limiter.limit(
    "10 per 15 minutes",
    key_func=lambda: f"{get_remote_address()}:{request.form.get('name', '')}",
    methods=["POST"],
    deduct_when=_is_failure,
)
guesses_of_all = limiter.limit("100 per 15 minutes", methods=["POST"], deduct_when=_is_failure)
# Whoever took over a browser that is signed in does not find its owner's password out.
guesses_again = limiter.limit(
    "10 per 15 minutes",
    key_func=lambda: request.headers.get("Cookie", ""),
    methods=["POST"],
    deduct_when=_is_failure,
)


def count_key(key_id: object) -> None:
    """Count a request of a public key, whose pages anybody may script.

    Raises:
        TooMany: the key, or the network that asks, has asked too often.
    """
    chosen = runtime().settings
    wanted = [
        (f"key:{key_id}", Rate(chosen.key_rate, MINUTE)),
        (f"day:{key_id}", Rate(chosen.key_quota, DAY)),
        (f"from:{prefix(request.remote_addr or '')}", Rate(chosen.address_rate, MINUTE)),
    ]
    _count(wanted, key_id=str(key_id))


def count_token(project: str, response: str, subject: str | None) -> None:
    """Count a request by the response that its token names, and by its subject.

    Raises:
        TooMany: there were too many about this response by this subject, or by the subject.
    """
    chosen = runtime().settings
    wanted = [(f"token:{project}:{response}:{subject}", Rate(chosen.token_rate, MINUTE))]
    if subject:
        wanted.append((f"subject:{project}:{subject}", Rate(chosen.subject_rate, MINUTE)))
    _count(wanted)


def tell(response: Response) -> Response:
    """Say in headers how much is left, and when to come again."""
    told: rates.Told | None = g.pop("rate", None)
    if told:
        response.headers["RateLimit-Limit"] = str(told.limit)
        response.headers["RateLimit-Remaining"] = str(told.remaining)
        response.headers["RateLimit-Reset"] = str(told.reset)
        if told.retry_after:
            response.headers["Retry-After"] = str(told.retry_after)
    return response


def _count(wanted: list[tuple[str, Rate]], **facts: str) -> None:
    counted: Rates = current_app.extensions["rates"]
    told, before = counted.take(wanted), g.get("rate")
    if told and (told.retry_after or before is None or told.remaining < before.remaining):
        g.rate = told
    if told and told.retry_after:
        log.warning("too_many_requests", limit=told.limit, retry_after=told.retry_after, **facts)
    rates.check(told)
