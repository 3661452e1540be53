"""From a hundred settled corrections to a judged challenger, by real workers and over HTTP: what takes how long."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from annotation.types import Verdict
from service import goalposts, people, projects
from service.demo import enquiries
from service.demo.walk import CRITERIA
from service.runtime import Runtime
from service.settings import Settings
from service.supervisor import commands
from service.tables import ConnectorKind, Project, ProjectKind, Role
from tests import builders
from tests.benchmarks.hook import is_up
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.servers import free_port
from tests.waiting import eventually

BASE = "bundled:smollm2"
JUDGING, LEARNED = 60, 100  # answers settled
OPTIONS = {"learning_rate": 5e-4, "epochs": 3}
AIM_SECONDS = 240
EVERY_SECONDS = 0.1
ENDED = ("done", "dead", "cancelled")


def measure(repetitions: Repetitions) -> Report:
    """Build a set, train and evaluate; at each moment note what goes on, and what the workers' processor time was."""
    with ExitStack() as stack:
        runtime = stack.enter_context(installation(port=free_port(), cache_dir=Settings().cache_dir))
        client = stack.enter_context(_client(runtime))
        chosen = {
            "ERRATA_DATA_DIR": runtime.settings.data_dir,
            "ERRATA_CACHE_DIR": runtime.settings.cache_dir,
        }
        environment = {**os.environ, **{name: str(value) for name, value in chosen.items()}}
        for name in ("web", "light", "heavy"):
            stack.enter_context(running(commands(runtime.settings)[name], environment))
        eventually(lambda: is_up(client, "/livez"), seconds=120)
        spent = Spent()
        judged = _loop(client, spent)
    seconds, cpu = sum(spent.wall.values()), sum(spent.cpu.values())
    return Report(
        columns=("stage", "seconds", "CPU seconds"),
        rows=[
            *((name, f"{wall:.1f}", f"{spent.cpu[name]:.1f}") for name, wall in spent.wall.items()),
            (f"in all: {judged['verdict']}", f"{seconds:.1f}", f"{cpu:.1f}"),
        ],
        figures={
            "learned": LEARNED,
            "judging": JUDGING,
            **{f"{name}_s": round(wall, 1) for name, wall in spent.wall.items()},
        },
        aims={
            "settled_to_evaluated_s": Aim(aim=AIM_SECONDS, got=round(seconds, 1)),
            # What it would take on one core that nobody else uses.
            "cpu_s": Aim(aim=AIM_SECONDS, got=round(cpu, 1)),
        },
    )


@dataclass(slots=True)
class Spent:
    """Seconds of the wall, and of the processor below this process, by stage."""

    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    at: tuple[float, float] | None = None

    def note(self, stage: str) -> None:
        """Count what passed since the last note to a stage."""
        wall, cpu = time.monotonic(), _cpu_seconds()
        before = self.at or (wall, cpu)
        self.wall[stage] += wall - before[0]
        self.cpu[stage] += max(0.0, cpu - before[1])
        self.at = (wall, max(cpu, before[1]))


def _loop(client: httpx.Client, spent: Spent) -> Mapping[str, Any]:
    """Ask as an operator does, for one thing after the other; return the evaluation."""
    spent.note("waiting")
    asked = _post(client, "/v1/training-sets")
    _follow(client, asked["id"], spent)
    run = _post(client, "/v1/training-runs", options=OPTIONS, only_watch=True)["item"]
    trained = _follow(client, run["job"], spent)
    return _follow(client, trained["evaluation_job"], spent)


def _follow(client: httpx.Client, job: str, spent: Spent) -> Mapping[str, Any]:
    while True:
        found = client.get(f"/v1/jobs/{job}").raise_for_status().json()
        spent.note(_stage(found))
        if found["state"] in ENDED:
            if found["state"] != "done":
                raise RuntimeError(f"{found['kind']}: {found['failure']}")
            result: Mapping[str, Any] = found["result"]
            return result
        time.sleep(EVERY_SECONDS)


def _stage(job: Mapping[str, Any]) -> str:
    """Say what a job is at: the audit is a part of building a set."""
    progress = job["progress"]
    if job["state"] == "pending":
        return "waiting"
    if "checking" in progress:
        return "audit"
    if job["kind"] == "train":
        return "train" if "step" in progress else "train: get ready"
    return str(job["kind"])


def _client(runtime: Runtime) -> httpx.Client:
    """Make the project and what is settled, and return its operator's client."""
    with runtime.db.transaction() as session:
        new = projects.NewProject(
            slug="clinic",
            kind=ProjectKind.CLASSIFICATION,
            base_model=BASE,
            labels=enquiries.departments(),
            connector=ConnectorKind.NONE,
            system_prompt=enquiries.SYSTEM_PROMPT,
        )
        project = projects.create(session, new, actor="bench")
        goalposts.set_criteria(session, project, CRITERIA, actor="bench")
        people.add_user(session, "olga", Role.APPROVER, actor="bench")
        token = people.add_token(session, "olga", actor="bench")
        for is_flagged, enquiry in _settled():
            _settle(session, project, enquiry, is_flagged=is_flagged)
    url = f"http://{runtime.settings.host}:{runtime.settings.port}"
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)


def _settled() -> Iterator[tuple[bool, enquiries.Enquiry]]:
    for number, enquiry in enumerate(enquiries.load(0)[: JUDGING + LEARNED]):
        yield number >= JUDGING, enquiry


def _settle(session, project: Project, enquiry: enquiries.Enquiry, *, is_flagged: bool) -> None:
    wrong = next(one for one in enquiries.departments() if not enquiry.fits(one))
    response = builders.add_response(session, project, wrong, asked=enquiry.text)
    flag = builders.add_flag(session, project, response, "wrong") if is_flagged else None
    task = builders.add_task(session, project, response, flag=flag)
    builders.add_settlement(session, task, verdict=Verdict.INCORRECT, label=enquiry.department)


def _post(client: httpx.Client, path: str, **body: Any) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = (
        client.post(path, json={"project": "clinic", **body}).raise_for_status().json()
    )
    return answer


def _cpu_seconds() -> float:
    """Return what all processes below this one have used, with those of theirs that ended."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            total += sum(process.cpu_times()[:4])  # with those of children that it waited for
        except psutil.NoSuchProcess:
            continue
    return total
