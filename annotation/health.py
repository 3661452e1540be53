"""How an annotation tool is, asked without its SDK: the address, the token, the permission and the version."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import httpx

from annotation.types import Health

TIMEOUT_SECONDS = 5.0
# The oldest that this was tried with; earlier ones lack what the connectors ask for.
OLDEST = {"Label Studio": (1, 20), "Argilla": (2, 8)}


class _Ill(Exception):
    """What is wrong, and what a person can do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def label_studio_health(url: str, token: str) -> Health:
    """Say how a Label Studio is; its token may be a legacy or a personal access token."""
    return _told(
        "Label Studio", url, "/api/version", "release", lambda http: _label_studio_account(http, token)
    )


def argilla_health(url: str, api_key: str) -> Health:
    """Say how an Argilla is; the key must be an owner's."""
    return _told("Argilla", url, "/api/v1/version", "version", lambda http: _argilla_account(http, api_key))


def _told(title: str, url: str, path: str, field: str, account: Callable[[httpx.Client], str]) -> Health:
    version = ""
    try:
        with httpx.Client(
            base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=True
        ) as http:
            version = _version(http, title, path, field)
            return Health(version, account(http))
    except _Ill as ill:
        return Health(version, problem=ill.problem, remedy=ill.remedy)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        return Health(problem=f"{url!r} is no address", remedy="write http:// or https:// and the host")
    except httpx.HTTPError as error:
        problem = f"{title} at {url} does not answer: {type(error).__name__}"
        return Health(version, problem=problem, remedy="start it, or correct its address")


def _version(http: httpx.Client, title: str, path: str, field: str) -> str:
    answer = http.get(path)
    document = _json(answer)
    if answer.status_code >= 500:
        raise _Ill(f"{title} answers {answer.status_code}", "look into its log; it is tried again by itself")
    if not answer.is_success or not isinstance(document.get(field), str):
        raise _Ill(f"what answers there is not {title}", "correct its address")
    version: str = document[field]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST[title]:
        oldest = ".".join(map(str, OLDEST[title]))
        raise _Ill(f"{title} {version} is not supported", f"update it to {oldest} or newer")
    return version


def _label_studio_account(http: httpx.Client, token: str) -> str:
    kind = _claims(token).get("token_type")
    if kind == "access":
        raise _Ill(
            "this is an access token, which lasts five minutes",
            "take the personal access token that it came from, as Label Studio issued it",
        )
    answer = http.get(
        "/api/current-user/whoami", headers={"Authorization": _authorization(http, token, kind)}
    )
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        if len(token) == 40:
            raise _Ill(
                "the legacy token is not accepted",
                "it was reset, or legacy tokens are switched off for the organization: make a personal access token",
            )
        raise _Ill(
            "the token is neither a legacy nor a personal access token of this Label Studio",
            "copy one from Account & Settings there",
        )
    who = _json(answer).get("email")
    listed = http.get("/api/projects/", params={"page_size": "1"}, headers=dict(answer.request.headers))
    if not answer.is_success or not listed.is_success:
        raise _Ill(
            f"the account {who or ''} may not see projects ({listed.status_code})",
            "take the token of an account that may make projects and webhooks",
        )
    return str(who)


def _authorization(http: httpx.Client, token: str, kind: object) -> str:
    if kind != "refresh":
        return f"Token {token}"
    answer = http.post("/api/token/refresh", json={"refresh": token})
    if not answer.is_success:
        raise _Ill(
            "the personal access token is not accepted",
            "it was revoked or is another Label Studio's: make one",
        )
    return f"Bearer {_json(answer).get('access')}"


def _argilla_account(http: httpx.Client, api_key: str) -> str:
    answer = http.get("/api/v1/me", headers={"X-Argilla-Api-Key": api_key})
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        problem = (
            "this is a session's token, not an API key" if _claims(api_key) else "the API key is not accepted"
        )
        raise _Ill(problem, "copy the API key from the owner's My settings there")
    user = _json(answer)
    if user.get("role") != "owner":
        raise _Ill(
            f"the account {user.get('username')} is an {user.get('role')}, who may make no webhooks",
            "take the API key of an owner",
        )
    return str(user.get("username"))


def _claims(token: str) -> dict[str, Any]:
    """Return what a JSON Web Token says of itself, unverified; nothing if it is none."""
    parts = token.split(".")
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "==")) if len(parts) == 3 else {}
    except (ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
