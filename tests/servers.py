"""Servers that tests start by themselves, on free ports, and end afterwards."""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service import tool_server, valkey
from service.tools import Bundled

START_SECONDS = 180


@dataclass(frozen=True)
class RunningTool:
    """An annotation tool with accounts, over a data directory of its own."""

    url: str
    admin_token: str
    accounts: tuple[tool_server.Account, ...]
    data_dir: Path
    process: "subprocess.Popen[bytes]"


# For whoever measures what a server can do, or sends more than one person would.
NO_LIMITS_SET = dict.fromkeys(
    (f"ERRATA_{name}" for name in ("KEY_RATE", "TOKEN_RATE", "SUBJECT_RATE", "ADDRESS_RATE", "KEY_QUOTA")),
    "0",
)


def start_valkey(data_dir: Path) -> "subprocess.Popen[bytes]":
    """Start the bundled Valkey of this data directory as `errata up` does, and wait until it answers."""
    server = subprocess.Popen(valkey.command(data_dir))
    valkey.wait_until_it_answers(data_dir)
    return server


@contextmanager
def running_tool(
    tool: Bundled, data_dir: Path, names: Sequence[str], *, redis_url: str = ""
) -> Iterator[RunningTool]:
    """Run a tool over an empty database until the block ends; nobody else may use the Redis database."""
    installation = tool.install(cache_dir(), lambda line: None)
    secrets = tool.prepare(installation, data_dir)
    port = free_port()
    argv, environment = tool.command(installation, data_dir, secrets, port=port, redis_url=redis_url)
    url = f"http://127.0.0.1:{port}"
    with (
        (data_dir / "tool.log").open("wb") as log,
        subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            tool_server.wait_until_ready(
                url,
                title=tool.TITLE,
                is_up=tool.is_up,
                is_alive=lambda: process.poll() is None,
                timeout_seconds=START_SECONDS,
            )
            accounts = tuple(tool.ensure_accounts(url, data_dir, names))
            yield RunningTool(url, secrets.admin.token, accounts, data_dir, process)
        finally:
            process.terminate()


def cache_dir() -> Path:
    """Return the cache that `errata up` uses as well, so that tools are installed once."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ERRATA_CACHE_DIR") or base / "errata")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
