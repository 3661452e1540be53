"""`errata up`: everything in one process tree, started in order, restarted when it crashes, ended together."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx
from redis.connection import parse_url

from service import migrations, secrets, tool_server, tools, valkey
from service.db import Database
from service.errors import ConfigurationError
from service.queue import QUEUES
from service.settings import Settings
from service.tables import ConnectorKind
from service.tool_server import ToolFailed
from service.tools import ARGILLA, LABEL_STUDIO

START_SECONDS = 60
TOOL_SECONDS = 300
FIRST_TOOL_SECONDS = 600
MAX_BACKOFF_SECONDS = 30
QUICK_SECONDS = 10
# Threads that spin for milliseconds for one that a neighbour keeps from its core make two slower than one.
QUIET = {"TOKENIZERS_PARALLELISM": "false", "GOMP_SPINCOUNT": "2000"}

Report = Callable[[str, str], None]


@dataclass(slots=True)
class Child:
    """One supervised process; its output goes to a log file of its own."""

    name: str
    argv: Sequence[str]
    log: Path
    environment: Mapping[str, str] | None = None
    crashes: int = 0
    start_at: float = 0.0
    started: float = 0.0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class Supervisor:
    """Starts the children and keeps them running; `report` is told each change of state."""

    settings: Settings
    report: Report
    children: dict[str, Child] = field(default_factory=dict)
    _pipe: tuple[int, int] = field(default_factory=os.pipe)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def add(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start a child and look after it from now on."""
        log = self.settings.data_dir / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        child = Child(name, argv, log, environment)
        self._start(child)
        self.children[name] = child
        return child

    def run(self) -> None:
        """Restart what crashes, with backoff, until told to stop."""
        while not self._stopping.wait(0.2):
            for child in list(self.children.values()):
                if not child.is_running:
                    self._bring_back(child)

    def stop(self, *_: int | FrameType | None) -> None:
        """Leave `run`; a signal handler may call this."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the children are to end."""
        return self._stopping.is_set()

    def end(self) -> None:
        """End all children, the last started first."""
        self._stopping.set()
        for child in reversed(list(self.children.values())):
            if child.process and child.is_running:
                child.process.terminate()
        for child in self.children.values():
            if child.process:
                child.process.wait()
            self.report(child.name, "stopped")

    def _start(self, child: Child) -> None:
        with child.log.open("ab") as log:
            child.process = subprocess.Popen(  # noqa: S603  our own commands
                leashed(child.argv, self._pipe[0]),
                env={**QUIET, **os.environ} if child.environment is None else dict(child.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._pipe[0]],
                start_new_session=True,
            )
        child.started = time.monotonic()
        child.start_at = 0.0

    def _bring_back(self, child: Child) -> None:
        now = time.monotonic()
        if not child.start_at:
            child.crashes = 1 if now - child.started > QUICK_SECONDS else child.crashes + 1
            wait = min(MAX_BACKOFF_SECONDS, 2 ** (child.crashes - 1) / 2)
            status = child.process.returncode if child.process else None
            self.report(child.name, f"ended with status {status}; back in {wait:g} s; see {child.log}")
            child.start_at = now + wait
        elif now >= child.start_at:
            self._start(child)


def up(settings: Settings, report: Report, *, ready: Callable[[], None]) -> None:
    """Run everything until SIGINT or SIGTERM; `ready` is called once requests are answered.

    Raises:
        ConfigurationError: a port is busy, the data directory cannot be used or is in use, or its schema is newer.
    """
    with _data_dir(settings):
        _check_port(settings)
        database = Database(settings.database)
        migrations.upgrade(database)
        database.close()
        report("database", "migrated")
        supervisor = Supervisor(settings, report)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, supervisor.stop)
        try:
            if not settings.redis_url:
                supervisor.add("valkey", valkey.command(settings.data_dir))
                valkey.wait_until_it_answers(settings.data_dir)
                report("valkey", "running")
            for name, argv in commands(settings).items():
                supervisor.add(name, argv)
                report(name, "started")
            _when_ready(supervisor, ready)
            for kind in _wanted(settings):
                threading.Thread(target=_provide, args=(supervisor, kind), daemon=True).start()
            supervisor.run()
        finally:
            supervisor.end()


def is_bringing(settings: Settings, kind: ConnectorKind) -> bool:
    """Say whether a tree began lately that brings a tool, which its first start installs; its own options count."""
    is_young = is_starting(settings, seconds=FIRST_TOOL_SECONDS)
    return is_young and kind.value in _lock_file(settings).read_text().split()


def is_starting(settings: Settings, *, seconds: float = START_SECONDS) -> bool:
    """Say whether a tree began on this data directory so lately that some of it may not be there yet."""
    try:
        with _lock_file(settings).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return time.time() - _lock_file(settings).stat().st_mtime < seconds
    except FileNotFoundError:
        pass
    return False


def leashed(argv: Sequence[str], pipe: int) -> list[str]:
    """Return a command that runs `argv` until the other end of `pipe`, which it must inherit, is closed."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")), str(pipe), *argv]


def commands(settings: Settings) -> dict[str, list[str]]:
    """Return the command of each process of ours."""
    granian = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--factory",
        "--no-ws",
        "--log-level",
        "warning",
    ]
    threads = ["--blocking-threads", str(settings.web_threads)]
    address = ["--host", settings.host, "--port", str(settings.port)]
    cli = [sys.executable, "-m", "service.cli"]
    return {
        "web": [*granian, *threads, *address, "service.web.app:from_environment_app"],
        "responder": [
            *granian, "--blocking-threads", "8", "--uds", str(settings.responder_socket),
            "--uds-permissions", "600", "service.responder:from_environment_app",
        ],
        **{name: [*cli, "worker", name] for name in QUEUES},
        "schedule": [*cli, "schedule"],
    }  # fmt: skip


def another_database(redis_url: str) -> str:
    """Return the address of a database beside ours on the same server; all other options stay."""
    options_of: Callable[[str], Mapping[str, object]] = parse_url  # redis ships it without types
    number = 2 if options_of(redis_url).get("db") == 1 else 1
    address, _, options = redis_url.partition("?")
    kept = [option for option in options.split("&") if option and not option.startswith("db=")]
    return f"{address}?{'&'.join([*kept, f'db={number}'])}"


@contextmanager
def _data_dir(settings: Settings) -> Iterator[None]:
    """Hold the data directory, so that two trees never share it."""
    secrets.load(settings.data_dir)
    try:
        _lock_file(settings).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock_file(settings).open("a")
    except OSError as error:
        raise ConfigurationError(
            f"ERRATA_DATA_DIR: cannot write {settings.data_dir}: {error.strerror}"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"ERRATA_DATA_DIR: errata up runs already in {settings.data_dir}"
            ) from error
        _lock_file(settings).write_text(" ".join(["up", *_wanted(settings)]))
        settings.responder_socket.unlink(missing_ok=True)
        yield


def _lock_file(settings: Settings) -> Path:
    """Return the file that a tree holds, written when it began: it names the tools that the tree brings."""
    return settings.data_dir.resolve() / "run" / "up.lock"


def _wanted(settings: Settings) -> list[ConnectorKind]:
    wanted = {LABEL_STUDIO: settings.label_studio, ARGILLA: settings.argilla}
    return [kind for kind, is_wanted in wanted.items() if is_wanted and not tools.own(settings, kind)]


def _check_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigurationError(
                f"ERRATA_PORT: {settings.port} cannot be used: {error.strerror}"
            ) from error


def _when_ready(supervisor: Supervisor, ready: Callable[[], None]) -> None:
    url = f"http://{supervisor.settings.host}:{supervisor.settings.port}/livez"
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and not supervisor.is_stopping:
        try:
            if httpx.get(url, timeout=1, trust_env=False).is_success:
                ready()
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    if not supervisor.is_stopping:
        raise ConfigurationError(
            f"web: no answer within {START_SECONDS} s; see {supervisor.children['web'].log}"
        )


def _provide(supervisor: Supervisor, kind: ConnectorKind) -> None:
    """Install, prepare and start a tool while everything else is at work already."""
    settings, tool, name = supervisor.settings, tools.bundled(kind), kind.value

    def say(line: str) -> None:
        supervisor.report(name, line)

    try:
        installed = tool.install(settings.cache_dir, say)
        keys = tool.prepare(installed, settings.data_dir)
        wanted = settings.label_studio_port if kind is LABEL_STUDIO else settings.argilla_port
        port = tool_server.choose_port(tool.home_of(settings.data_dir), wanted)
        # A database of its own: our workers must not take its jobs.
        redis_url = another_database(settings.redis_url or valkey.url(settings.data_dir))
        argv, environment = tool.command(installed, settings.data_dir, keys, port=port, redis_url=redis_url)
        if supervisor.is_stopping:
            return
        child = supervisor.add(name, argv, environment)
        url = f"http://127.0.0.1:{port}"
        tool_server.wait_until_ready(
            url,
            title=tool.TITLE,
            is_up=tool.is_up,
            is_alive=lambda: child.is_running,
            timeout_seconds=TOOL_SECONDS,
        )
        say(f"running at {url}")
    except (ToolFailed, OSError, ValueError, KeyError) as error:
        say(f"not available: {error}")
