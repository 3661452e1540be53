"""Providing a real Label Studio: its own environment, a migrated database, secrets, accounts and start."""

import fcntl
import hashlib
import json
import os
import re
import secrets as randomness
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

import httpx

LABEL_STUDIO_VERSION = "1.23.2"
REQUIREMENTS = (f"label-studio=={LABEL_STUDIO_VERSION}",)
NEEDED_BYTES = 2_000_000_000
ADMIN_EMAIL = "admin@errata.local"
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 30.0

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
_KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ")
_ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_CSRF_FIELD = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class LabelStudioFailed(Exception):
    """Label Studio could not be installed, started or given accounts; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Label Studio's environment and a migrated database without users, shared by all data directories."""

    root: Path

    @property
    def program(self) -> Path:
        """The command that runs the server."""
        return self.root / "venv" / "bin" / "label-studio"

    @property
    def template(self) -> Path:
        """The migrated SQLite database."""
        return self.root / "template.sqlite3"

    @property
    def stamp(self) -> Path:
        """The file that exists once everything else does."""
        return self.root / "complete"


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account in Label Studio; no `token` means that it was not made yet."""

    name: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What opens one Label Studio: the administrator's account, and everybody else's."""

    admin: Account
    accounts: tuple[Account, ...] = ()


def install(cache_dir: Path, report: Callable[[str], None]) -> Installation:
    """Return the shared installation, made first if it is not there; `report` gets a line now and then.

    A lock keeps others waiting meanwhile. The installing child holds it too, so that a killed parent's child
    is waited for instead of written over.

    Raises:
        LabelStudioFailed: it cannot be installed here.
    """
    pins = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:8]
    name = f"label-studio-{LABEL_STUDIO_VERSION}-{sys.implementation.cache_tag}-{pins}"
    installation = Installation(cache_dir.resolve() / name)
    if installation.stamp.exists():
        return installation
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / f"{name}.lock", report) as lock:
        if not installation.stamp.exists():
            _build(installation, lock, report)
    return installation


def prepare(installation: Installation, data_dir: Path) -> Secrets:
    """Give this data directory its own database and secrets, if it has none yet, and return the secrets."""
    home = _home(data_dir)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _secrets_file(data_dir).exists():
        admin = Account("admin", ADMIN_EMAIL, randomness.token_urlsafe(18), randomness.token_hex(20))
        _write_secrets(data_dir, Secrets(admin))
    database = home / "label_studio.sqlite3"
    if not database.exists():
        copy = database.with_suffix(".copy")
        shutil.copyfile(installation.template, copy)
        copy.chmod(0o600)
        copy.replace(database)
    return read_secrets(data_dir)


def read_secrets(data_dir: Path) -> Secrets:
    """Return the secrets that `prepare` made."""
    document = json.loads(_secrets_file(data_dir).read_text())
    accounts = tuple(Account(**account) for account in document["accounts"])
    return Secrets(admin=Account(**document["admin"]), accounts=accounts)


def command(
    installation: Installation, data_dir: Path, secrets: Secrets, *, port: int
) -> tuple[list[str], dict[str, str]]:
    """Return what to run, and in which environment; standard input must be closed or empty.

    Secrets go by the environment, since other users can read a command line. Hardly anything is inherited: a
    proxy would swallow our webhook, and somebody's DJANGO_ or LABEL_STUDIO_ settings would change what runs.
    """
    arguments = [
        "--no-browser",
        "--log-level",
        "WARNING",
        "--internal-host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    # Its "debug" does no more than keep it from taking another port when this one is busy.
    argv = [str(installation.program), "start", *arguments, "--enable-legacy-api-token", "--debug"]
    credentials = {
        "USERNAME": secrets.admin.email,
        "PASSWORD": secrets.admin.password,
        "USER_TOKEN": secrets.admin.token,
    }
    return argv, _environment(_home(data_dir), credentials)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers, and the administrator's token."""

    url: str
    token: str = field(repr=False)


def running(data_dir: Path) -> Running | None:
    """Return this data directory's server, or None while it does not answer."""
    try:
        url = f"http://127.0.0.1:{int(_port_file(data_dir).read_text())}"
        token = read_secrets(data_dir).admin.token
    except (OSError, ValueError, KeyError):
        return None
    return Running(url, token) if _is_up(url) else None


def choose_port(data_dir: Path, wanted: int) -> int:
    """Return the port to listen on and remember it: the wanted one, the last one if it is free, or any."""
    file = _port_file(data_dir)
    last = int(file.read_text()) if file.exists() else 0
    port = wanted or (last if last and _is_free(last) else _any_port())
    file.write_text(str(port))
    return port


def wait_until_ready(url: str, *, timeout_seconds: float, is_alive: Callable[[], bool]) -> None:
    """Return as soon as the server answers.

    Raises:
        LabelStudioFailed: it ended, or it is not up in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not _is_up(url):
        if not is_alive():
            raise LabelStudioFailed(f"Label Studio ended before it answered at {url}; its log says why")
        if time.monotonic() > deadline:
            raise LabelStudioFailed(f"Label Studio did not answer at {url} within {timeout_seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def ensure_accounts(url: str, data_dir: Path, names: Sequence[str]) -> list[Account]:
    """Return one working account per name, and make those that do not exist.

    Passwords are kept before they are used, so that a crash in between loses no account.

    Raises:
        LabelStudioFailed: the server refuses, or does not answer.
    """
    for name in names:
        if not _ACCOUNT_NAME.fullmatch(name):
            raise LabelStudioFailed(
                f"{name!r} is no account name: use lower-case letters, digits, '.', '_' and '-'"
            )
    try:
        return [_ensure_account(url, data_dir, name) for name in names]
    except httpx.HTTPError as error:
        raise LabelStudioFailed(f"Label Studio at {url} made no account: {error}") from error


@contextmanager
def _locked(path: Path, report: Callable[[str], None]) -> Iterator[IO[str]]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is installing Label Studio; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _build(installation: Installation, lock: IO[str], report: Callable[[str], None]) -> None:
    free = shutil.disk_usage(installation.root.parent).free
    if free < NEEDED_BYTES:
        place = installation.root.parent
        raise LabelStudioFailed(
            f"Label Studio needs {NEEDED_BYTES / 1e9:.0f} GB in {place}, {free / 1e9:.1f} are free"
        )
    if installation.root.exists():
        shutil.rmtree(installation.root)
    report(f"installing Label Studio {LABEL_STUDIO_VERSION} into {installation.root}")
    venv = installation.root / "venv"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    _run([sys.executable, "-m", "venv", str(venv)], inherited, lock, report)
    pip = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    _run([*pip, *REQUIREMENTS], inherited, lock, report)
    report("preparing Label Studio's database")
    with tempfile.TemporaryDirectory(dir=installation.root) as folder:
        # Printing its version migrates its database first, and makes no user.
        _run([str(installation.program), "version"], _environment(Path(folder), {}), lock, lambda line: None)
        database = Path(folder) / "label_studio.sqlite3"
        with closing(sqlite3.connect(database)) as connection:
            # Kept in the file: writers no longer block readers, and each commit syncs once.
            connection.execute("PRAGMA journal_mode=WAL")
        database.replace(installation.template)
    installation.stamp.touch()


def _run(
    argv: Sequence[str], environment: dict[str, str], lock: IO[str], report: Callable[[str], None]
) -> None:
    """Run a command to its end and report each of its lines."""
    last = ""
    with subprocess.Popen(  # noqa: S603 - the command is ours
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock.fileno(),),
    ) as process:
        try:
            for line in process.stdout or ():
                last = line.strip() or last
                report(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise LabelStudioFailed(f"{Path(argv[0]).name} failed with {process.returncode}: {last}")


def _environment(home: Path, more: dict[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    ours = {**_QUIET, "BASE_DATA_DIR": str(home), **more}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        **{f"LABEL_STUDIO_{name}": value for name, value in ours.items()},
    }


def _home(data_dir: Path) -> Path:
    return data_dir.resolve() / "label-studio"


def _port_file(data_dir: Path) -> Path:
    return _home(data_dir) / "port"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _secrets_file(data_dir: Path) -> Path:
    return _home(data_dir) / "secrets.json"


def _write_secrets(data_dir: Path, secrets: Secrets) -> None:
    with tempfile.NamedTemporaryFile("w", dir=_home(data_dir), delete=False) as file:  # for its owner alone
        json.dump(asdict(secrets), file, indent=1)
    Path(file.name).replace(_secrets_file(data_dir))


def _is_up(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/health", timeout=5, trust_env=False)
        return answer.status_code == httpx.codes.OK and answer.json() == {"status": "UP"}
    except (httpx.HTTPError, ValueError):
        return False


def _ensure_account(url: str, data_dir: Path, name: str) -> Account:
    secrets = read_secrets(data_dir)
    account = next((known for known in secrets.accounts if known.name == name), None)
    if account is None:
        account = Account(name, f"{name}@errata.local", randomness.token_urlsafe(18))
        _write_secrets(data_dir, replace(secrets, accounts=(*secrets.accounts, account)))
    if account.token and _is_valid(url, account.token):
        return account
    made = replace(account, token=_sign_up(url, secrets.admin.token, account))
    others = tuple(known for known in secrets.accounts if known.name != name)
    _write_secrets(data_dir, replace(secrets, accounts=(*others, made)))
    return made


def _client(url: str, token: str = "") -> httpx.Client:
    headers = {"Authorization": f"Token {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)


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
    raise LabelStudioFailed(
        f"Label Studio does not accept the account {account.email} with the password kept"
    )


def _submit(browser: httpx.Client, page: str, form: dict[str, str]) -> None:
    field_of_page = _CSRF_FIELD.search(browser.get(page).raise_for_status().text)
    if field_of_page is None:
        raise LabelStudioFailed(f"{browser.base_url}{page} is not Label Studio's form")
    headers = {"Referer": f"{browser.base_url}{page.lstrip('/')}"}
    browser.post(page, data={**form, "csrfmiddlewaretoken": field_of_page[1]}, headers=headers)
