"""Experts and operators at work in a real Label Studio, for tests."""

from typing import Any

import httpx

from annotation.label_studio_results import to_result
from annotation.types import Answer
from service.label_studio_server import ADMIN_EMAIL
from tests.servers import RunningTool


class LabelStudioPeople:
    """Plays experts and operators through Label Studio's own API."""

    def __init__(self, running: RunningTool) -> None:
        self.running = running
        self._tokens = {account.email: account.token for account in running.accounts}
        self._tokens[ADMIN_EMAIL] = running.admin_token

    def answer(self, project: str, task: str, annotator: str, answer: Answer) -> str:
        return self._annotate(task, annotator, {"result": to_result(answer), "lead_time": 12.5})

    def draft(self, project: str, task: str, annotator: str, answer: Answer) -> None:
        """Begin an answer without submitting it, as the page does by itself."""
        body = {"result": to_result(answer), "lead_time": 3.0}
        self._call("POST", f"/api/tasks/{task}/drafts", self._tokens[annotator], body)

    def skip(self, project: str, task: str, annotator: str) -> str:
        return self._annotate(task, annotator, {"result": [], "was_cancelled": True})

    def send_nonsense(self, project: str, task: str, annotator: str) -> str:
        region = {"id": "v", "from_name": "verdict", "to_name": "response", "type": "choices"}
        return self._annotate(task, annotator, {"result": [{**region, "value": {"choices": ["perhaps"]}}]})

    def suggested(self, project: str, task: str) -> dict[str, Any]:
        """Return what is prefilled in a task, by question."""
        predictions = self.read(f"/api/tasks/{task}/", {})["predictions"]
        regions = {region["from_name"]: region["value"] for one in predictions for region in one["result"]}
        assert len(predictions) <= 1
        found = {name: value.get("choices") or value["text"] for name, value in regions.items()}
        return {name: value if name == "labels" else value[0] for name, value in found.items()}

    def offered(self, project: str, annotator: str) -> list[str]:
        """Return the task that an annotator's stream comes to next, if any."""
        path = f"/api/dm/actions?id=next_task&project={project}"
        try:
            return [str(self._call("POST", path, self._tokens[annotator])["id"])]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return []

    def edit(self, project: str, annotation: str, by: str, answer: Answer) -> None:
        self._call(
            "PATCH", f"/api/annotations/{annotation}/", self._tokens[by], {"result": to_result(answer)}
        )

    def take_back(self, project: str, annotation: str) -> None:
        self._call("DELETE", f"/api/annotations/{annotation}/", self.running.admin_token)

    def remove(self, project: str, task: str) -> None:
        self._call("DELETE", f"/api/tasks/{task}/", self.running.admin_token)

    def remove_project(self, project: str) -> None:
        self._call("DELETE", f"/api/projects/{project}/", self.running.admin_token)

    def remove_hooks(self, project: str, url: str) -> None:
        for hook in self.read("/api/webhooks/", {"project": project}):
            self._call("DELETE", f"/api/webhooks/{hook['id']}/", self.running.admin_token)

    def add_by_hand(self, project: str, **told: str) -> str:
        """Add a task as an operator does, who fills in what the page needs."""
        data = {"context": "\u2013", "reasons": "\u2013", **told}
        body = {"project": int(project), "data": data}
        return str(self._call("POST", "/api/tasks/", self.running.admin_token, body)["id"])

    def projects(self, slug: str) -> list[str]:
        listed = self.read("/api/projects/", {"title": slug})["results"]
        return [str(project["id"]) for project in listed if project["title"] == slug]

    def hooks(self, project: str) -> list[tuple[str, str]]:
        listed = self.read("/api/webhooks/", {"project": project})
        return [(hook["url"], hook["headers"]["X-Errata-Secret"]) for hook in listed]

    def tasks(self, project: str) -> int:
        return int(self.read(f"/api/projects/{project}/", {})["task_number"])

    def shown(self, task: str, annotator: str) -> list[str]:
        """Return the answers to a task that an annotator's page gets."""
        held = self._call("GET", f"/api/tasks/{task}/", self._tokens[annotator])
        return [str(annotation["id"]) for annotation in held["annotations"]]

    def export(self, project: str) -> None:
        """Take everything, as Label Studio exports it."""
        with httpx.Client(timeout=600, trust_env=False) as client:
            headers = {"Authorization": f"Token {self.running.admin_token}"}
            path = f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true"
            client.get(self.running.url + path, headers=headers).raise_for_status()

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
        return answer.raise_for_status().json() if answer.content else None
