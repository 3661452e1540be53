"""How often the same may be tried: a process's own memory is enough, since a password takes long to check anyway."""

from flask import Response, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

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
