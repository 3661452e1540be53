"""The embedded widget's face of the web: one script, which pages of any origin may load by its hash."""

from base64 import b64encode
from functools import cache
from hashlib import sha256, sha384
from pathlib import Path

from flask import Blueprint, Response, abort

from service.web.auth import Access
from service.web.endpoint import declared

bp = Blueprint("widget", __name__, url_prefix="/widget")
SCRIPT = Path(__file__).with_name("errata-feedback.js")


@bp.get("/errata-feedback.js")
@declared(Access.ANYONE)
def newest() -> Response:
    """Serve the script under the name that outlives its changes."""
    return _served("public, max-age=300")


@bp.get("/errata-feedback.<digest>.js")
@declared(Access.ANYONE)
def pinned(digest: str) -> Response:
    """Serve the script under the name that changes with it."""
    if digest != _digest():
        abort(404)
    return _served("public, max-age=31536000, immutable")


def script_path() -> str:
    """Return the path to load the script from; it changes with the script."""
    return f"/widget/errata-feedback.{_digest()}.js"


@cache
def integrity() -> str:
    """Return the script tag's `integrity`, which goes with `script_path` and `crossorigin="anonymous"`."""
    return f"sha384-{b64encode(sha384(_script()).digest()).decode()}"


@cache
def _script() -> bytes:
    return SCRIPT.read_bytes()


@cache
def _digest() -> str:
    return sha256(_script()).hexdigest()[:16]


def _served(caching: str) -> Response:
    response = Response(_script(), content_type="text/javascript; charset=utf-8")
    response.headers["Cache-Control"] = caching
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.access_control_allow_origin = "*"
    return response
