"""What pages need beside HTML: files of our own, and vendored ones whose checksums stand beside them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from mimetypes import guess_type
from pathlib import Path

from flask import Blueprint, Response, abort, redirect
from werkzeug.wrappers import Response as AnyResponse

from service.web.auth import Access
from service.web.endpoint import declared

FOLDER = Path(__file__).with_name("static")
bp = Blueprint("assets", __name__, url_prefix="/assets")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is served: under its content's hash, so that browsers may keep it for good."""

    name: str
    digest: str
    content: bytes
    media_type: str

    @property
    def path(self) -> str:
        """Where browsers find it."""
        return f"{bp.url_prefix}/{self.digest[:16]}/{self.name}"


@cache
def assets() -> dict[str, Asset]:
    """Return every file by its name; nothing else can be asked for."""
    found = {}
    for file in sorted(FOLDER.rglob("*")):
        if file.is_file() and file.suffix in (".css", ".js", ".svg"):
            name, content = file.relative_to(FOLDER).as_posix(), file.read_bytes()
            media_type = guess_type(name)[0] or "application/octet-stream"
            found[name] = Asset(name, hashlib.sha256(content).hexdigest(), content, media_type)
    return found


def asset(name: str) -> str:
    """Return where a file is found, for templates."""
    return assets()[name].path


@bp.get("/<digest>/<path:name>")
@declared(Access.ANYONE)
def serve(digest: str, name: str) -> Response:
    """Serve a file of this version."""
    found = assets().get(name)
    if found is None or not digest or not found.digest.startswith(digest):
        abort(404)
    response = Response(found.content, content_type=f"{found.media_type}; charset=utf-8")
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


@declared(Access.ANYONE)
def favicon() -> AnyResponse:
    """Lead browsers to the icon from where they look for one that no page names."""
    return redirect(asset("errata.svg"))
