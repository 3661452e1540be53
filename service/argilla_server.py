"""Providing a real Argilla: its own environment, an embedded search engine, secrets, accounts and start."""

import secrets as randomness
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from service import tool_server
from service.tool_server import Account, Installation, Package, Report, Running, Secrets, ToolFailed

TITLE = "Argilla"
ARGILLA_VERSION = "2.8.0"
PACKAGE = Package(
    name=f"argilla-{ARGILLA_VERSION}",
    title=f"{TITLE} {ARGILLA_VERSION}",
    # Its command line breaks under later releases of click; what it needs of them is older anyway.
    requirements=(f"argilla-server=={ARGILLA_VERSION}", "click<8.2"),
    needed_bytes=1_200_000_000,
)
OWNER = "owner"
LAUNCHER = Path(__file__).parents[1] / "deploy" / "argilla_embedded" / "serve.py"


def install(cache_dir: Path, report: Report) -> Installation:
    """Return the shared installation, made first if it is not there; `report` gets a line now and then.

    Raises:
        ToolFailed: it cannot be installed here, or Errata runs without its `deploy` directory.
    """
    if not LAUNCHER.exists():
        raise ToolFailed(f"{LAUNCHER} is missing: run Errata from its repository, or set ERRATA_ARGILLA_URL")
    return tool_server.install(cache_dir, PACKAGE, report, lambda installation, installer: None)


def prepare(_installation: Installation, data_dir: Path) -> Secrets:
    """Make this data directory's secrets, if it has none yet, and return them; the server makes its database."""
    return tool_server.prepare(
        home_of(data_dir), admin=OWNER, email=OWNER, token=randomness.token_urlsafe(40)
    )


def command(
    installation: Installation, data_dir: Path, secrets: Secrets, *, port: int, redis_url: str
) -> tuple[list[str], dict[str, str]]:
    """Return what to run, and in which environment.

    `redis_url` must name a database that no one else uses: Argilla's queues have names that ours could have.
    """
    ours = {
        "ARGILLA_HOME_PATH": str(home_of(data_dir)),
        "ARGILLA_REDIS_URL": redis_url,
        "ARGILLA_SEARCH_ENGINE": "sql",
        "ARGILLA_AUTH_SECRET_KEY": _signing_key(home_of(data_dir)),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OWNER_PASSWORD": secrets.admin.password,
        "OWNER_API_KEY": secrets.admin.token,
    }
    argv = [str(installation.bin / "python"), str(LAUNCHER), str(port)]
    return argv, tool_server.environment(ours)


def home_of(data_dir: Path) -> Path:
    """Return where this data directory's Argilla keeps what it knows."""
    return data_dir.resolve() / "argilla"


def running(data_dir: Path) -> Running | None:
    """Return this data directory's server, or None while it does not answer."""
    return tool_server.running(home_of(data_dir), is_up)


def is_up(url: str) -> bool:
    """Say whether an Argilla answers there."""
    try:
        answer = httpx.get(f"{url}/api/v1/version", timeout=5, trust_env=False)
        return answer.status_code == httpx.codes.OK and "version" in answer.json()
    except (httpx.HTTPError, ValueError):
        return False


def login_of(name: str) -> str:
    """Return with what the account of a name signs in, which is also what answers name."""
    return name


def ensure_accounts(url: str, data_dir: Path, names: Sequence[str]) -> list[Account]:
    """Return one working annotator's account per name, make those that do not exist, and let all into each workspace.

    Raises:
        ToolFailed: the server refuses, or does not answer.
    """
    home = home_of(data_dir)
    owner = tool_server.read_secrets(home).admin.token
    try:
        accounts = [
            tool_server.ensure_account(
                home,
                name,
                name,
                is_valid=lambda token: _call("GET", f"{url}/api/v1/me", key=token).is_success,
                make=lambda account: _sign_up(url, owner, account),
            )
            for name in names
        ]
        _let_in(url, owner, names)
    except httpx.HTTPError as error:
        raise ToolFailed(f"Argilla at {url} made no account: {error}") from error
    return accounts


def lock_out(url: str, data_dir: Path, accounts: Sequence[Account]) -> None:
    """Take people out of every workspace, so that they are shown nothing; their answers stay.

    Raises:
        ToolFailed: the server refuses, or does not answer.
    """
    owner, names = tool_server.read_secrets(home_of(data_dir)).admin.token, {each.name for each in accounts}
    try:
        for workspace in _items(url, owner, "/api/v1/me/workspaces"):
            path = f"/api/v1/workspaces/{workspace['id']}/users"
            for user in _items(url, owner, path):
                if user["username"] in names:
                    _call("DELETE", f"{url}{path}/{user['id']}", key=owner).raise_for_status()
    except httpx.HTTPError as error:
        raise ToolFailed(f"Argilla at {url} locked no account: {error}") from error


def _sign_up(url: str, owner: str, account: Account) -> str:
    """Make an annotator, unless an attempt before this one did, and return the key of the account."""
    body = {
        "first_name": account.name,
        "username": account.name,
        "password": account.password,
        "role": "annotator",
    }
    made = _call("POST", f"{url}/api/v1/users", key=owner, body=body)
    if made.status_code != httpx.codes.CONFLICT:
        made.raise_for_status()
    return next(
        str(user["api_key"])
        for user in _items(url, owner, "/api/v1/users")
        if user["username"] == account.name
    )


def _let_in(url: str, owner: str, names: Sequence[str]) -> None:
    """Make accounts members of every workspace: all of them are ours, and their projects may be older."""
    users = [user["id"] for user in _items(url, owner, "/api/v1/users") if user["username"] in names]
    for workspace in _items(url, owner, "/api/v1/me/workspaces"):
        path = f"/api/v1/workspaces/{workspace['id']}/users"
        members = {user["id"] for user in _items(url, owner, path)}
        for user in users:
            if user not in members:
                _call("POST", url + path, key=owner, body={"user_id": user}).raise_for_status()


def _items(url: str, owner: str, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = _call("GET", url + path, key=owner).raise_for_status().json()["items"]
    return items


def _call(method: str, url: str, *, key: str, body: object = None) -> httpx.Response:
    return httpx.request(
        method,
        url,
        headers={"X-Argilla-Api-Key": key},
        json=body,
        timeout=tool_server.TIMEOUT_SECONDS,
        trust_env=False,
    )


def _signing_key(home: Path) -> str:
    """Return what signs the sessions of people who are signed in, made at the first start."""
    file = home / "signing-key"
    if not file.exists():
        tool_server.write_private(file, randomness.token_urlsafe(40))
    return file.read_text()
