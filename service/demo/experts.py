"""Simulated experts: they know a task only through Label Studio's API and answer there."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

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
class Panel:
    """Experts who share the work: each task is answered by two of them."""

    url: str
    experts: Sequence[Expert]
    knowledge: Mapping[str, Enquiry]
    departments: Sequence[str]
    seed: int

    def answer_all(self, project: str, advance: Callable[[], None]) -> int:
        """Answer every task that has no answers yet; return how many tasks that were."""
        tasks = [task for task in self._tasks(project) if not task["total_annotations"]]

        def work(expert: Expert) -> None:
            with self._client(expert) as http:
                for task in tasks:
                    if expert in self._pair(task["data"]["prompt"]):
                        self._answer(http, expert, task)
                        advance()

        with ThreadPoolExecutor(len(self.experts)) as pool:
            list(pool.map(work, self.experts))
        return len(tasks)

    def _tasks(self, project: str) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = []
        with self._client(self.experts[0]) as http:
            while True:
                at = {"project": project, "page": str(len(tasks) // PAGE + 1), "page_size": str(PAGE)}
                answer = http.get("/api/tasks", params=at)
                answer.raise_for_status()
                page = answer.json()
                tasks += page["tasks"]
                if not page["tasks"] or len(tasks) >= page["total"]:
                    return tasks

    def _answer(self, http: httpx.Client, expert: Expert, task: Mapping[str, Any]) -> None:
        answer = self._judge(expert, task["data"]["prompt"], task["data"]["response"])
        body = {"result": to_result(answer), "lead_time": 5 + 20 * self._chance(expert, task).random()}
        http.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()

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

    def _chance(self, expert: Expert, task: Mapping[str, Any]) -> Random:
        return Random(f"{self.seed}:{expert.name}:{task['data']['prompt']}:time")

    def _client(self, expert: Expert) -> httpx.Client:
        headers = {"Authorization": f"Token {expert.token}"}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=60, trust_env=False, limits=NO_KEEP_ALIVE
        )
