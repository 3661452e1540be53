"""Experts and operators at work in a real Argilla, for tests."""

from collections.abc import Sequence
from typing import Any

import httpx

from annotation.argilla_results import to_values
from annotation.types import Answer
from tests.servers import RunningTool


class ArgillaPeople:
    """Plays experts and operators through Argilla's own API."""

    def __init__(self, running: RunningTool) -> None:
        self.running = running
        self._tokens = {account.name: account.token for account in running.accounts}

    def answer(self, project: str, task: str, annotator: str, answer: Answer) -> str:
        return self._respond(task, annotator, {"status": "submitted", "values": to_values(answer)})

    def draft(self, project: str, task: str, annotator: str, answer: Answer) -> None:
        """Begin an answer without submitting it, as the page's button does."""
        self._respond(task, annotator, {"status": "draft", "values": to_values(answer)})

    def bring(self, project: str, tasks: Sequence[str], annotator: str) -> None:
        """Have an annotator find many tasks right at once, as an owner imports answers."""
        [dataset] = self.read(f"/api/v1/me/datasets?workspace_id={project}")["items"]
        [person] = [user for user in self.read("/api/v1/users")["items"] if user["username"] == annotator]
        given = {"user_id": person["id"], "status": "submitted", "values": {"verdict": {"value": "correct"}}}
        for start in range(0, len(tasks), 100):
            items = [{"id": task, "responses": [given]} for task in tasks[start : start + 100]]
            path = f"/api/v1/datasets/{dataset['id']}/records/bulk"
            self.call("PUT", path, self.running.admin_token, {"items": items})

    def skip(self, project: str, task: str, annotator: str) -> str:
        return self._respond(task, annotator, {"status": "discarded", "values": None})

    def send_nonsense(self, project: str, task: str, annotator: str) -> str:
        values = {"verdict": {"value": "perhaps"}}
        return self._respond(task, annotator, {"status": "submitted", "values": values})

    def suggested(self, project: str, task: str) -> dict[str, Any]:
        """Return what is prefilled in a record, by question."""
        record = self.read(f"/api/v1/records/{task}")
        [dataset] = self.read(f"/api/v1/me/datasets?workspace_id={project}")["items"]
        asked = self.read(f"/api/v1/datasets/{dataset['id']}/questions")["items"]
        names = {question["id"]: question["name"] for question in asked}
        return {names[each["question_id"]]: each["value"] for each in record["suggestions"]}

    def offered(self, project: str, annotator: str) -> list[str]:
        """Return the records that wait for an annotator, as the labelling page asks for them."""
        token = self._tokens[annotator]
        [dataset] = self.call("GET", f"/api/v1/me/datasets?workspace_id={project}", token)["items"]
        scope = {"entity": "response", "property": "status"}
        pending = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["pending"]}]}}
        path = f"/api/v1/me/datasets/{dataset['id']}/records/search"
        return [item["record"]["id"] for item in self.call("POST", path, token, pending)["items"]]

    def edit(self, project: str, annotation: str, by: str, answer: Answer) -> None:
        body = {"status": "submitted", "values": to_values(answer)}
        self.call("PUT", f"/api/v1/responses/{annotation}", self._tokens[by], body)

    def take_back(self, project: str, annotation: str) -> None:
        self.call("DELETE", f"/api/v1/responses/{annotation}", self.running.admin_token)

    def remove(self, project: str, task: str) -> None:
        self.call("DELETE", f"/api/v1/records/{task}", self.running.admin_token)

    def remove_project(self, project: str) -> None:
        for dataset in self.read(f"/api/v1/me/datasets?workspace_id={project}")["items"]:
            self.call("DELETE", f"/api/v1/datasets/{dataset['id']}", self.running.admin_token)
        self.call("DELETE", f"/api/v1/workspaces/{project}", self.running.admin_token)

    def remove_hooks(self, project: str, url: str) -> None:
        for hook in self.read("/api/v1/webhooks")["items"]:
            if hook["url"] == url:
                self.call("DELETE", f"/api/v1/webhooks/{hook['id']}", self.running.admin_token)

    def add_by_hand(self, project: str, **told: str) -> str:
        """Add a record as an operator does, who fills in what the page needs."""
        dataset = self.read(f"/api/v1/me/datasets?workspace_id={project}")["items"][-1]["id"]
        record = {"fields": {"context": "\u2013", "reasons": "\u2013", **told}}
        path = f"/api/v1/datasets/{dataset}/records/bulk"
        return str(self.call("POST", path, self.running.admin_token, {"items": [record]})["items"][0]["id"])

    def projects(self, slug: str) -> list[str]:
        listed = self.read("/api/v1/me/workspaces")["items"]
        return [workspace["id"] for workspace in listed if workspace["name"] == slug]

    def hooks(self, project: str) -> list[tuple[str, str]]:
        return [(hook["url"], hook["secret"]) for hook in self.read("/api/v1/webhooks")["items"]]

    def tasks(self, project: str) -> int:
        datasets = self.read(f"/api/v1/me/datasets?workspace_id={project}")["items"]
        return sum(self.read(f"/api/v1/datasets/{each['id']}/progress")["total"] for each in datasets)

    def shown(self, project: str, task: str, annotator: str) -> list[str]:
        """Return the answers to a task that the labelling page gets for an annotator."""
        token = self._tokens[annotator]
        [dataset] = self.call("GET", f"/api/v1/me/datasets?workspace_id={project}", token)["items"]
        path = f"/api/v1/me/datasets/{dataset['id']}/records/search?include=responses"
        items = self.call("POST", path, token, {})["items"]
        [record] = [item["record"] for item in items if item["record"]["id"] == task]
        return [response["id"] for response in record["responses"]]

    def read(self, path: str, annotator: str | None = None) -> Any:
        return self.call("GET", path, self._tokens[annotator] if annotator else self.running.admin_token)

    def call(self, method: str, path: str, token: str, body: Any = None) -> Any:
        answer = httpx.request(
            method,
            self.running.url + path,
            headers={"X-Argilla-Api-Key": token},
            json=body,
            timeout=30,
            trust_env=False,
        )
        return answer.raise_for_status().json()

    def _respond(self, task: str, annotator: str, body: dict[str, Any]) -> str:
        return str(
            self.call("POST", f"/api/v1/records/{task}/responses", self._tokens[annotator], body)["id"]
        )
