"""A real MLflow server on a loopback port."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers import free_port
from tests.waiting import eventually


@contextmanager
def running_mlflow(folder: Path, *, workers: int = 1) -> Iterator[tuple[str, int]]:
    """Serve, and keep everything below a folder, until the block ends; yield the address and the process."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["-m", "mlflow", "server", "--port", str(port), "--workers", str(workers)]
    places = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, *command, *places], stdout=log, stderr=log, cwd=folder)
        try:
            eventually(lambda: _answers(url), 300)
            yield url, server.pid
        finally:
            server.terminate()
            server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
