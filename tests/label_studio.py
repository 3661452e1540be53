"""A real Label Studio for tests: started on a free port, with accounts, and ended afterwards."""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from annotation.label_studio_results import to_result
from annotation.types import Answer
from service import label_studio_server as server
from service import tool_server

START_SECONDS = 180


@dataclass(frozen=True)
class RunningLabelStudio:
    url: str
    admin_token: str
    accounts: tuple[tool_server.Account, ...]
    data_dir: Path
    process: subprocess.Popen


def cache_dir() -> Path:
    """Return the cache that `errata up` uses as well, so that Label Studio is installed once."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ERRATA_CACHE_DIR") or base / "errata")


@contextmanager
def running_label_studio(
    data_dir: Path, cache: Path | None = None, names: Sequence[str] = ("ann", "ben", "cleo")
) -> Iterator[RunningLabelStudio]:
    """Run Label Studio over an empty database until the block ends."""
    installation = server.install(cache or cache_dir(), lambda line: None)
    secrets = server.prepare(installation, data_dir)
    port = free_port()
    argv, environment = server.command(installation, data_dir, secrets, port=port)
    url = f"http://127.0.0.1:{port}"
    with (
        (data_dir / "label-studio.log").open("wb") as log,
        subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            tool_server.wait_until_ready(
                url,
                title=server.TITLE,
                is_up=server.is_up,
                is_alive=lambda: process.poll() is None,
                timeout_seconds=START_SECONDS,
            )
            accounts = tuple(server.ensure_accounts(url, data_dir, names))
            yield RunningLabelStudio(url, secrets.admin.token, accounts, data_dir, process)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LabelStudioPeople:
    """Plays experts and operators through Label Studio's own API."""

    def __init__(self, running: RunningLabelStudio) -> None:
        self.running = running
        self._tokens = {account.email: account.token for account in running.accounts}

    def answer(self, project: str, task: str, annotator: str, answer: Answer) -> str:
        return self._annotate(task, annotator, {"result": to_result(answer), "lead_time": 12.5})

    def skip(self, project: str, task: str, annotator: str) -> str:
        return self._annotate(task, annotator, {"result": [], "was_cancelled": True})

    def send_nonsense(self, project: str, task: str, annotator: str) -> str:
        region = {"id": "v", "from_name": "verdict", "to_name": "response", "type": "choices"}
        return self._annotate(task, annotator, {"result": [{**region, "value": {"choices": ["perhaps"]}}]})

    def edit(self, project: str, annotation: str, by: str, answer: Answer) -> None:
        self._call(
            "PATCH", f"/api/annotations/{annotation}/", self._tokens[by], {"result": to_result(answer)}
        )

    def projects(self, slug: str) -> list[str]:
        listed = self.read("/api/projects/", {"title": slug})["results"]
        return [str(project["id"]) for project in listed if project["title"] == slug]

    def hooks(self, project: str) -> list[tuple[str, str]]:
        listed = self.read("/api/webhooks/", {"project": project})
        return [(hook["url"], hook["headers"]["X-Errata-Secret"]) for hook in listed]

    def tasks(self, project: str) -> int:
        return int(self.read(f"/api/projects/{project}/", {})["task_number"])

    def read(self, path: str, params: dict[str, str]) -> Any:
        return self._call("GET", path, self.running.admin_token, params=params)

    def _annotate(self, task: str, annotator: str, body: dict[str, Any]) -> str:
        return str(self._call("POST", f"/api/tasks/{task}/annotations/", self._tokens[annotator], body)["id"])

    def _call(self, method: str, path: str, token: str, body: Any = None, params: Any = None) -> Any:
        headers = {"Authorization": f"Token {token}"}
        url = self.running.url + path
        answer = httpx.request(
            method, url, headers=headers, json=body, params=params, timeout=30, trust_env=False
        )
        return answer.raise_for_status().json()
