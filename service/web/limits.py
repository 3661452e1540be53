"""How often the same may be tried: a process's own memory is enough, since a password takes long to check anyway."""

from flask import request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

limiter = Limiter(get_remote_address, storage_uri="memory://")
# Only failures count, by name and address: whoever guesses does not lock out the person themselves elsewhere.
guesses = limiter.limit(
    "10 per 15 minutes",
    key_func=lambda: f"{get_remote_address()}:{request.form.get('name', '')}",
    methods=["POST"],
    deduct_when=lambda response: response.status_code in (401, 403),
)
