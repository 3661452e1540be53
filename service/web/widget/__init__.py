"""The embedded widget's face of the web: one script, which pages of any origin may load by its hash.

A script that a release has published goes on being served by its hash, since pages pin it: before the first change
after a release, what it served is put into `released/`, by whatever name ends in `.js`.
"""

import gzip
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256, sha384
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from service.web.auth import Access
from service.web.endpoint import declared

bp = Blueprint("widget", __name__, url_prefix="/widget")
SCRIPT = Path(__file__).with_name("errata-feedback.js")
RELEASED = Path(__file__).with_name("released")
FOR_EVER, FOR_MINUTES = "public, max-age=31536000, immutable", "public, max-age=300"
# What only the script's authors read is not served: comments, indentation, spaces beside punctuation, and private
# names, which therefore stand in no template.
SHORTENED = re.compile(
    r"""
    ("(?:\\.|[^"\\\n])*" | `[^`\n]*`)  # a text, which stays as it is
    | \s*/\*.*?\*/
    | \s*//[^\n]*
    | (?<=[,;{(\[])\s+
    | \s*(\n)\s*
    | [ ]?([=,{}();:?<>&|])[ ]?
    | (?:(?<=\.)|(?<=[ ]{2})|(?<=get[ ])|(?<=async[ ]))(\#\w+)
    """,
    re.DOTALL | re.VERBOSE,
)


@bp.get("/errata-feedback.js")
@declared(Access.ANYONE)
def newest() -> Response:
    """Serve the script under the name that outlives its changes."""
    return _served(script(), FOR_MINUTES)


@bp.get("/errata-feedback.<digest>.js")
@declared(Access.ANYONE)
def pinned(digest: str) -> Response:
    """Serve the script under the name that changes with it, and earlier ones under theirs."""
    return _served(versions_by_digest().get(digest) or abort(404), FOR_EVER)


@bp.get("/versions.json")
@declared(Access.ANYONE)
def versions() -> Response:
    """Tell where each script is, the newest first, and what a page's `integrity` says of it."""
    response = jsonify(
        {"versions": [_version(digest, content) for digest, content in versions_by_digest().items()]}
    )
    return _shared(response, FOR_MINUTES)


def script_path() -> str:
    """Return the path to load the script from; it changes with the script."""
    return _path(_digest(script()))


def integrity() -> str:
    """Return the script tag's `integrity`, which goes with `script_path` and `crossorigin="anonymous"`."""
    return _integrity(script())


@cache
def script() -> bytes:
    """Return the script as it is served."""
    return shortened(SCRIPT.read_text()).encode()


def shortened(text: str) -> str:
    """Return a script without what only its authors read."""
    names: dict[str, str] = {}

    def short(one: re.Match[str]) -> str:
        if one[4]:
            place = len(names)
            return names.setdefault(one[4], f"#{ascii_lowercase[place % 26]}{place // 26 or ''}")
        return one[1] or one[2] or one[3] or ""

    return SHORTENED.sub(short, text)


@cache
def versions_by_digest() -> dict[str, bytes]:
    """Return all scripts that pages may have pinned, the newest first."""
    earlier = [path.read_bytes() for path in sorted(RELEASED.glob("*.js"))]
    return {_digest(content): content for content in (script(), *earlier)}


def _version(digest: str, content: bytes) -> dict[str, Any]:
    return {"path": _path(digest), "integrity": _integrity(content), "bytes": len(content)}


def _path(digest: str) -> str:
    return f"/widget/errata-feedback.{digest}.js"


@cache
def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


@cache
def _integrity(content: bytes) -> str:
    return f"sha384-{b64encode(sha384(content).digest()).decode()}"


@cache
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _served(content: bytes, caching: str) -> Response:
    is_compressed = request.accept_encodings.quality("gzip") > 0
    response = Response(
        _compressed(content) if is_compressed else content, content_type="text/javascript; charset=utf-8"
    )
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    return _shared(response, caching)


def _shared(response: Response, caching: str) -> Response:
    response.headers["Cache-Control"] = caching
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.access_control_allow_origin = "*"
    return response
