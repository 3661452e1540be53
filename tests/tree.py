"""One running `errata up`, for tests of the whole process tree."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.servers import free_port
from tests.waiting import eventually

READY_SECONDS = 60


class Tree:
    """One running `errata up` with a data directory and a port of its own."""

    def __init__(self, data_dir: Path, cache_dir: Path, port: int) -> None:
        self.data_dir, self.url = data_dir, f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ERRATA_")},
            "ERRATA_DATA_DIR": str(data_dir),
            "ERRATA_CACHE_DIR": str(cache_dir),
            "ERRATA_PORT": str(port),
            "ERRATA_LABEL_STUDIO": "false",
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> "Tree":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "up", *more],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        eventually(self.answers, READY_SECONDS)
        return self

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=1, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Return what runs with this data directory, by its environment and its command."""
        found = []
        for process in psutil.process_iter():
            try:
                command, environment = " ".join(process.cmdline()), process.environ()
            except (psutil.Error, OSError):
                continue
            ours = environment.get("ERRATA_DATA_DIR") == str(self.data_dir)
            if ours and word in command and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found


@contextmanager
def grown(data_dir: Path, cache_dir: Path) -> Iterator[Tree]:
    """Yield a tree that can be started; afterwards nothing of it runs."""
    tree = Tree(data_dir, cache_dir, free_port())
    yield tree
    if tree.process:
        tree.process.kill()
        tree.process.wait()
    for process in tree.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if tree.process:
        tree.process.stderr.close()
