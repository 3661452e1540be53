"""Simulated experts: they know a task only through their tool's API and answer there."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import httpx

from annotation.argilla_results import to_values
from annotation.label_studio_results import to_result
from annotation.types import RATINGS, Answer, Cause, Verdict
from service.demo.enquiries import Enquiry

PAGE = 200
# Label Studio's server holds each request on a kept-alive connection back by some 40 ms.
NO_KEEP_ALIVE = httpx.Limits(max_keepalive_connections=0)


@dataclass(frozen=True, slots=True)
class Expert:
    """One person with an account, who errs with probability `carelessness`."""

    name: str
    token: str
    carelessness: float


@dataclass(frozen=True, slots=True)
class Sheet:
    """One task as an expert sees it."""

    id: str
    prompt: str
    response: str


class Desk(Protocol):
    """Where experts work: what waits for an answer, and how one is given."""

    def client(self, token: str) -> httpx.Client: ...
    def waiting(self, http: httpx.Client, project: str) -> list[Sheet]: ...
    def answer(self, http: httpx.Client, sheet: Sheet, answer: Answer, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class LabelStudioDesk:
    """Label Studio's API, as an annotator may use it."""

    url: str

    def client(self, token: str) -> httpx.Client:
        return _client(self.url, {"Authorization": f"Token {token}"})

    def waiting(self, http: httpx.Client, project: str) -> list[Sheet]:
        """Return the tasks without an answer."""
        tasks: list[dict[str, Any]] = []
        while True:
            at = {"project": project, "page": str(len(tasks) // PAGE + 1), "page_size": str(PAGE)}
            page = http.get("/api/tasks", params=at).raise_for_status().json()
            tasks += page["tasks"]
            if not page["tasks"] or len(tasks) >= page["total"]:
                break
        return [
            Sheet(str(task["id"]), task["data"]["prompt"], task["data"]["response"])
            for task in tasks
            if not task["total_annotations"]
        ]

    def answer(self, http: httpx.Client, sheet: Sheet, answer: Answer, seconds: float) -> None:
        body = {"result": to_result(answer), "lead_time": seconds}
        http.post(f"/api/tasks/{sheet.id}/annotations/", json=body).raise_for_status()


@dataclass(frozen=True, slots=True)
class ArgillaDesk:
    """Argilla's API, as an annotator may use it; it keeps no time."""

    url: str

    def client(self, token: str) -> httpx.Client:
        return _client(self.url, {"X-Argilla-Api-Key": token})

    def waiting(self, http: httpx.Client, project: str) -> list[Sheet]:
        """Return the records of the newest data set to which this expert gave no answer."""
        datasets = http.get("/api/v1/me/datasets", params={"workspace_id": project}).raise_for_status().json()
        newest = max(datasets["items"], key=lambda dataset: dataset["inserted_at"])
        sheets: list[Sheet] = []
        pending = {
            "type": "terms",
            "scope": {"entity": "response", "property": "status"},
            "values": ["pending"],
        }
        while True:
            page = http.post(
                f"/api/v1/me/datasets/{newest['id']}/records/search",
                json={"filters": {"and": [pending]}},
                params={"offset": str(len(sheets)), "limit": str(PAGE)},
            )
            items = page.raise_for_status().json()["items"]
            fields = [(item["record"]["id"], item["record"]["fields"]) for item in items]
            sheets += [Sheet(record, shown["prompt"], shown["response"]) for record, shown in fields]
            if len(items) < PAGE:
                return sheets

    def answer(self, http: httpx.Client, sheet: Sheet, answer: Answer, seconds: float) -> None:
        body = {"status": "submitted", "values": to_values(answer)}
        http.post(f"/api/v1/records/{sheet.id}/responses", json=body).raise_for_status()


@dataclass(frozen=True, slots=True)
class Panel:
    """Experts who share the work: each task is answered by two of them."""

    desk: Desk
    experts: Sequence[Expert]
    knowledge: Mapping[str, Enquiry]
    departments: Sequence[str]
    seed: int

    def answer_all(self, project: str, advance: Callable[[], None]) -> int:
        """Answer every task that waits for its first answer; return how many tasks that were."""
        # Everybody looks before anybody answers: Argilla shows each only what they have not answered themselves.
        waiting = {expert.name: self._waiting(expert, project) for expert in self.experts}

        def work(expert: Expert) -> None:
            with self.desk.client(expert.token) as http:
                for sheet in waiting[expert.name]:
                    answer = self._judge(expert, sheet.prompt, sheet.response)
                    self.desk.answer(http, sheet, answer, 5 + 20 * self._chance(expert, sheet).random())
                    advance()

        with ThreadPoolExecutor(len(self.experts)) as pool:
            list(pool.map(work, self.experts))
        return len({sheet.id for sheets in waiting.values() for sheet in sheets})

    def _waiting(self, expert: Expert, project: str) -> list[Sheet]:
        """Return what waits for this expert's answer."""
        with self.desk.client(expert.token) as http:
            sheets = self.desk.waiting(http, project)
        return [sheet for sheet in sheets if expert in self._pair(sheet.prompt)]

    def _judge(self, expert: Expert, prompt: str, response: str) -> Answer:
        """Return what this expert says: what they know, unless their attention slips."""
        enquiry = self.knowledge[prompt]
        chance = Random(f"{self.seed}:{expert.name}:{prompt}")
        right = enquiry.department
        if chance.random() < expert.carelessness:
            right = chance.choice([name for name in self.departments if name != right])
        is_right = response == right or (right == enquiry.department and enquiry.fits(response))
        ratings = dict.fromkeys(RATINGS, 5 if is_right else 2)
        if is_right:
            return Answer(Verdict.CORRECT, ratings=ratings)
        return Answer(Verdict.INCORRECT, label=right, cause=Cause.MODEL, ratings=ratings)

    def _pair(self, prompt: str) -> list[Expert]:
        """Return who answers a task: all but one, by the hash of what is asked."""
        absent = hashlib.sha256(prompt.encode()).digest()[0] % len(self.experts)
        return [expert for number, expert in enumerate(self.experts) if number != absent]

    def _chance(self, expert: Expert, sheet: Sheet) -> Random:
        return Random(f"{self.seed}:{expert.name}:{sheet.prompt}:time")


def _client(url: str, headers: Mapping[str, str]) -> httpx.Client:
    return httpx.Client(
        base_url=url, headers=dict(headers), timeout=60, trust_env=False, limits=NO_KEEP_ALIVE
    )
