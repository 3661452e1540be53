"""What providing a real annotation tool takes, whichever it is: its own environment, secrets, a port, a start."""

import fcntl
import hashlib
import json
import os
import secrets as randomness
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 30.0

_KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ")

Report = Callable[[str], None]


class ToolFailed(Exception):
    """An annotation tool could not be installed, started or given accounts; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """What pip installs for a tool; `title` is for people, `name` for files."""

    name: str
    title: str
    requirements: tuple[str, ...]
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Installation:
    """A tool's environment, shared by all data directories."""

    root: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.root / "venv" / "bin"

    @property
    def stamp(self) -> Path:
        """The file that exists once everything else does."""
        return self.root / "complete"


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account in a tool; no `token` means that it was not made yet."""

    name: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What opens one tool: the administrator's account, and everybody else's."""

    admin: Account
    accounts: tuple[Account, ...] = ()


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers, the administrator's token, and whose accounts there are ours."""

    url: str
    token: str = field(repr=False)
    members: tuple[str, ...] = ()


def install(
    cache_dir: Path, package: Package, report: Report, finish: "Callable[[Installation, Installer], None]"
) -> Installation:
    """Return the shared installation, made first if it is not there; `finish` does what comes after pip.

    A lock keeps others waiting meanwhile. The installing child holds it too, so that a killed parent's child
    is waited for instead of written over.

    Raises:
        ToolFailed: it cannot be installed here.
    """
    pins = hashlib.sha256("\n".join(package.requirements).encode()).hexdigest()[:8]
    name = f"{package.name}-{sys.implementation.cache_tag}-{pins}"
    installation = Installation(cache_dir.resolve() / name)
    if installation.stamp.exists():
        return installation
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _locked(cache_dir / f"{name}.lock", package.title, report) as lock:
        if not installation.stamp.exists():
            _build(installation, package, Installer(lock, report), finish)
    return installation


@dataclass(frozen=True, slots=True)
class Installer:
    """Runs the commands of an installation, which hold its lock, and reports each of their lines."""

    lock: IO[str]
    report: Report

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a command to its end.

        Raises:
            ToolFailed: it failed.
        """
        last = ""
        with subprocess.Popen(  # noqa: S603 - the command is ours
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(self.lock.fileno(),),
        ) as process:
            try:
                for line in process.stdout or ():
                    last = line.strip() or last
                    self.report(line.strip())
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise ToolFailed(f"{Path(argv[0]).name} failed with {process.returncode}: {last}")


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return a tool's environment: hardly anything is inherited.

    A proxy would swallow our webhook, and somebody's own settings would change what runs.
    """
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def read_secrets(home: Path) -> Secrets:
    """Return the secrets that a tool's `prepare` made."""
    document = json.loads((home / "secrets.json").read_text())
    accounts = tuple(Account(**account) for account in document["accounts"])
    return Secrets(admin=Account(**document["admin"]), accounts=accounts)


def prepare(home: Path, *, admin: str, email: str, token: str) -> Secrets:
    """Make a tool's directory and its administrator's secrets, unless they are there, and return all secrets."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home / "secrets.json").exists():
        _write_secrets(home, Secrets(Account(admin, email, randomness.token_urlsafe(18), token)))
    return read_secrets(home)


def ensure_account(
    home: Path,
    name: str,
    email: str,
    *,
    is_valid: Callable[[str], bool],
    make: Callable[[Account], str],
) -> Account:
    """Return a working account; `make` gives a new one's token.

    Its password is kept before it is used, so that a crash in between loses no account; two that make accounts at
    once wait for each other, so that neither's are lost.
    """
    with (home / "secrets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = read_secrets(home)
        account = next((known for known in kept.accounts if known.name == name), None)
        if account is None:
            account = Account(name, email, randomness.token_urlsafe(18))
            _write_secrets(home, replace(kept, accounts=(*kept.accounts, account)))
        if account.token and is_valid(account.token):
            return account
        made = replace(account, token=make(account))
        others = tuple(known for known in kept.accounts if known.name != name)
        _write_secrets(home, replace(kept, accounts=(*others, made)))
    return made


def forget_tokens(home: Path, names: Collection[str]) -> None:
    """Keep no token of accounts that open nothing any more."""
    with (home / "secrets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = read_secrets(home)
        accounts = (replace(each, token="") if each.name in names else each for each in kept.accounts)
        _write_secrets(home, replace(kept, accounts=tuple(accounts)))


def write_private(file: Path, text: str) -> None:
    """Write a file for its owner alone, wholly or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as unfinished:
        unfinished.write(text)
    Path(unfinished.name).replace(file)


def running(home: Path, is_up: Callable[[str], bool]) -> Running | None:
    """Return this directory's server, or None while it does not answer."""
    try:
        url = f"http://127.0.0.1:{int((home / 'port').read_text())}"
        kept = read_secrets(home)
    except (OSError, ValueError, KeyError):
        return None
    members = tuple(account.name for account in kept.accounts)
    return Running(url, kept.admin.token, members) if is_up(url) else None


def choose_port(home: Path, wanted: int) -> int:
    """Return the port to listen on and remember it: the wanted one, the last one if it is free, or any."""
    file = home / "port"
    last = int(file.read_text()) if file.exists() else 0
    port = wanted or (last if last and _is_free(last) else _any_port())
    file.write_text(str(port))
    return port


def wait_until_ready(
    url: str,
    *,
    title: str,
    is_up: Callable[[str], bool],
    is_alive: Callable[[], bool],
    timeout_seconds: float,
) -> None:
    """Return as soon as the server answers.

    Raises:
        ToolFailed: it ended, or it is not up in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_up(url):
        if not is_alive():
            raise ToolFailed(f"{title} ended before it answered at {url}; its log says why")
        if time.monotonic() > deadline:
            raise ToolFailed(f"{title} did not answer at {url} within {timeout_seconds:.0f} s")
        time.sleep(POLL_SECONDS)


@contextmanager
def _locked(path: Path, title: str, report: Report) -> Iterator[IO[str]]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is installing {title}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _build(
    installation: Installation,
    package: Package,
    installer: Installer,
    finish: Callable[[Installation, Installer], None],
) -> None:
    place = installation.root.parent
    free = shutil.disk_usage(place).free
    if free < package.needed_bytes:
        need = f"{package.needed_bytes / 1e9:.0f} GB in {place}, {free / 1e9:.1f} are free"
        raise ToolFailed(f"{package.title} needs {need}")
    if installation.root.exists():
        shutil.rmtree(installation.root)
    installer.report(f"installing {package.title} into {installation.root}")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    installer.run([sys.executable, "-m", "venv", str(installation.root / "venv")], inherited)
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    pip = [str(installation.bin / "python"), "-m", "pip", "install", *options]
    installer.run([*pip, *package.requirements], inherited)
    finish(installation, installer)
    installation.stamp.touch()


def _write_secrets(home: Path, secrets: Secrets) -> None:
    write_private(home / "secrets.json", json.dumps(asdict(secrets), indent=1))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
