"""Providing a real Label Studio: its own environment, a migrated database, secrets, accounts and start."""

import re
import secrets as randomness
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx

from service import tool_server
from service.tool_server import (
    Account,
    Installation,
    Installer,
    Package,
    Report,
    Running,
    Secrets,
    ToolFailed,
)

TITLE = "Label Studio"
LABEL_STUDIO_VERSION = "1.23.2"
PACKAGE = Package(
    name=f"label-studio-{LABEL_STUDIO_VERSION}",
    title=f"{TITLE} {LABEL_STUDIO_VERSION}",
    requirements=(f"label-studio=={LABEL_STUDIO_VERSION}",),
    needed_bytes=2_000_000_000,
)
ADMIN_EMAIL = "admin@errata.local"
BLIND = Path(__file__).parents[1] / "deploy" / "label_studio_embedded" / "blind.py"

# Label Studio's list of forbidden targets without loopback, where our webhook lives: with no list at all,
# whoever has an account could make the server call any private address.
_FORBIDDEN_TARGETS = (
    "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,198.18.0.0/15,"
    "224.0.0.0/4,240.0.0.0/4,::/128,64:ff9b::/96,64:ff9b:1::/48,2001:0000::/32,2002::/16,fc00::/7,fe80::/10,ff00::/8"
)
_QUIET = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "FEATURE_FLAGS_OFFLINE": "true",
    "DISABLE_SIGNUP_WITHOUT_LINK": "true",
    "ENABLE_LEGACY_API_TOKEN": "true",
    "USE_DEFAULT_BANNED_SUBNETS": "false",
    "USER_ADDITIONAL_BANNED_SUBNETS": _FORBIDDEN_TARGETS,
    "ALLOWED_HOSTS": "127.0.0.1,localhost",
    "DJANGO_DB": "sqlite",
}
_ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_CSRF_FIELD = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


def install(cache_dir: Path, report: Report) -> Installation:
    """Return the shared installation, made first if it is not there; `report` gets a line now and then.

    Raises:
        ToolFailed: it cannot be installed here, or Errata runs without its `deploy` directory.
    """
    if not BLIND.exists():
        raise ToolFailed(
            f"{BLIND} is missing: run Errata from its repository, or set ERRATA_LABEL_STUDIO_URL"
        )
    return tool_server.install(cache_dir, PACKAGE, report, _migrate_template)


def prepare(installation: Installation, data_dir: Path) -> Secrets:
    """Give this data directory its own database and secrets, if it has none yet, and return the secrets."""
    home = home_of(data_dir)
    secrets = tool_server.prepare(home, admin="admin", email=ADMIN_EMAIL, token=randomness.token_hex(20))
    database = home / "label_studio.sqlite3"
    if not database.exists():
        copy = database.with_suffix(".copy")
        shutil.copyfile(_template(installation), copy)
        copy.chmod(0o600)
        copy.replace(database)
    return secrets


def command(
    installation: Installation, data_dir: Path, secrets: Secrets, *, port: int, redis_url: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Return what to run, and in which environment; standard input must be closed or empty.

    Secrets go by the environment, since other users can read a command line.
    """
    address = ["--internal-host", "127.0.0.1", "--port", str(port)]
    # Its "debug" does no more than keep it from taking another port when this one is busy.
    options = ["--no-browser", "--log-level", "WARNING", *address, "--enable-legacy-api-token", "--debug"]
    credentials = {
        "USERNAME": secrets.admin.email,
        "PASSWORD": secrets.admin.password,
        "USER_TOKEN": secrets.admin.token,
    }
    return [str(_program(installation)), "start", *options], _environment(home_of(data_dir), credentials)


def home_of(data_dir: Path) -> Path:
    """Return where this data directory's Label Studio keeps what it knows."""
    return data_dir.resolve() / "label-studio"


def running(data_dir: Path) -> Running | None:
    """Return this data directory's server, or None while it does not answer."""
    return tool_server.running(home_of(data_dir), is_up)


def is_up(url: str) -> bool:
    """Say whether a Label Studio answers there."""
    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=False)
        return answer.status_code == httpx.codes.OK and answer.json() == {"status": "UP"}
    except (httpx.HTTPError, ValueError):
        return False


def login_of(name: str) -> str:
    """Return with what the account of a name signs in, which is also what answers name."""
    return f"{name}@errata.local"


def ensure_accounts(url: str, data_dir: Path, names: Sequence[str]) -> list[Account]:
    """Return one working account per name, and make those that do not exist.

    Raises:
        ToolFailed: the server refuses, or does not answer.
    """
    for name in names:
        if not _ACCOUNT_NAME.fullmatch(name):
            raise ToolFailed(f"{name!r} is no account name: use lower-case letters, digits, '.', '_' and '-'")
    home = home_of(data_dir)
    admin_token = tool_server.read_secrets(home).admin.token
    try:
        return [
            tool_server.ensure_account(
                home,
                name,
                login_of(name),
                is_valid=lambda token: _is_valid(url, token),
                make=lambda account: _sign_up(url, admin_token, account),
            )
            for name in names
        ]
    except httpx.HTTPError as error:
        raise ToolFailed(f"Label Studio at {url} made no account: {error}") from error


def lock_out(url: str, data_dir: Path, accounts: Sequence[Account]) -> None:
    """Let people in no more, by page or token: who is no member any more is shown no project; their answers stay.

    Raises:
        ToolFailed: the server refuses, or does not answer.
    """
    try:
        with _client(url, tool_server.read_secrets(home_of(data_dir)).admin.token) as admin:
            people = {
                user["email"]: user["id"] for user in admin.get("/api/users/").raise_for_status().json()
            }
            [ours, *_] = admin.get("/api/organizations/").raise_for_status().json()
            for person in [people[account.email] for account in accounts if account.email in people]:
                answer = admin.delete(f"/api/organizations/{ours['id']}/memberships/{person}/")
                if answer.status_code != httpx.codes.NOT_FOUND:
                    answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ToolFailed(f"Label Studio at {url} locked no account: {error}") from error


def _program(installation: Installation) -> Path:
    return installation.bin / "label-studio"


def _template(installation: Installation) -> Path:
    """Return a migrated SQLite database without users."""
    return installation.root / "template.sqlite3"


def _migrate_template(installation: Installation, installer: Installer) -> None:
    installer.report("preparing Label Studio's database")
    with tempfile.TemporaryDirectory(dir=installation.root) as folder:
        # Printing its version migrates its database first, and makes no user.
        silent = replace(installer, report=lambda line: None)
        silent.run([str(_program(installation)), "version"], _environment(Path(folder), {}))
        database = Path(folder) / "label_studio.sqlite3"
        with closing(sqlite3.connect(database)) as connection:
            # Kept in the file: writers no longer block readers, and each commit syncs once.
            connection.execute("PRAGMA journal_mode=WAL")
        database.replace(_template(installation))


def _environment(home: Path, more: dict[str, str]) -> dict[str, str]:
    ours = {**_QUIET, "BASE_DATA_DIR": str(home), **more}
    settings = {"DJANGO_SETTINGS_MODULE": BLIND.stem, "PYTHONPATH": str(BLIND.parent)}
    return tool_server.environment(settings | {f"LABEL_STUDIO_{name}": value for name, value in ours.items()})


def _client(url: str, token: str = "") -> httpx.Client:
    headers = {"Authorization": f"Token {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=tool_server.TIMEOUT_SECONDS, trust_env=False)


def _is_valid(url: str, token: str) -> bool:
    with _client(url, token) as client:
        return client.get("/api/current-user/whoami").status_code == httpx.codes.OK


def _sign_up(url: str, admin_token: str, account: Account) -> str:
    """Make the account, or sign in to it if it exists, and return its token.

    A user made through the API has no password and cannot open the tool; the sign-up form's users can.
    """
    with _client(url, admin_token) as admin:
        invitation = admin.get("/api/invite").raise_for_status().json()["invite_url"]
    form = {"email": account.email, "password": account.password, "allow_newsletters": "false"}
    with _client(url) as browser:
        for page in (invitation, "/user/login/"):
            _submit(browser, page, form)
            answer = browser.get("/api/current-user/token")
            if answer.status_code == httpx.codes.OK:
                return str(answer.json()["token"])
    raise ToolFailed(f"Label Studio does not accept the account {account.email} with the password kept")


def _submit(browser: httpx.Client, page: str, form: dict[str, str]) -> None:
    field_of_page = _CSRF_FIELD.search(browser.get(page).raise_for_status().text)
    if field_of_page is None:
        raise ToolFailed(f"{browser.base_url}{page} is not Label Studio's form")
    headers = {"Referer": f"{browser.base_url}{page.lstrip('/')}"}
    browser.post(page, data={**form, "csrfmiddlewaretoken": field_of_page[1]}, headers=headers)
