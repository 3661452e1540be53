"""What is found out about simulated experts in both real tools, and what many tasks and webhooks cost."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from sqlmodel import col, select

from annotation import argilla as argilla_connector
from annotation.argilla import ArgillaConnector
from annotation.exchange import MARGIN
from annotation.label_studio import LabelStudioConnector
from annotation.types import Answer, Connector, Verdict
from service import jobs, projects, valkey
from service.clock import utcnow
from service.runtime import Runtime
from service.supervisor import commands
from service.tables import AnnotationTask, ConnectorKind, JobKind, KeyKind, ToolProject
from service.tools import bundled
from service.web.app import create_app
from tests import builders
from tests.argilla import ArgillaPeople
from tests.benchmarks import hook
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.benchmarks.report import Aim, Report, percentile
from tests.label_studio import LabelStudioPeople
from tests.repetitions import Repetitions
from tests.scenarios.crowd import Crowd, in_tool
from tests.servers import RunningTool, free_port, running_tool, start_valkey
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
TOLD = (
    "tests/integration/test_tools.py::TestOutbox::test_after_an_hour_away_each_task_exists_once_and_nobody_stampedes",
    "tests/integration/test_tools.py::test_two_polls_after_whatever_happened_we_hold_what_the_tool_holds",
)
NAMES = ("ann", "ben", "cleo")
PER_SECOND, AIM_MS = 100, 200
ANSWERED_IN_TEN = 2  # so many of ten tasks in Argilla have an answer, when one more comes
RIGHT = Answer(Verdict.CORRECT)


@dataclass(slots=True)
class Traffic:
    """What went over the wire."""

    requests: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What one tool was measured at."""

    crowd: Crowd
    answers_per_s: float
    pushed_per_s: float
    intake_p99_ms: float
    of_change: Traffic
    of_all: Traffic


def measure(repetitions: Repetitions) -> Report:
    """Run both tools and an installation of ours one after the other."""
    found = {
        kind: _in_tool(kind, repetitions) for kind in (ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA)
    }
    times = _hooks(repetitions.hook_seconds * PER_SECOND)
    quick = sum(each < AIM_MS for each in times) / len(times)
    holds = _holds_what_the_tool_holds(repetitions)
    crowds = [each.crowd for each in found.values()]
    error, p99 = round(max(crowd.error for crowd in crowds), 3), round(percentile(times, 99), 1)
    named = sum(crowd.named == ["adversary"] for crowd in crowds)
    better = sum(
        crowd.wrong(weighed := crowd.by_posterior()) < crowd.wrong(crowd.by_majority())
        and len(weighed) > len(crowd.truth) / 2
        for crowd in crowds
    )
    return Report(
        columns=("what", *found),
        rows=[
            *_rows(list(found.values()), repetitions),
            (
                f"{repetitions.waiting_tasks:,} after an hour once each, {repetitions.tool_stories:,} stories told",
                "yes" if holds else "no",
                "",
            ),
            (f"webhooks at {PER_SECOND}/s answered < {AIM_MS} ms", f"{quick:.1%}", ""),
            ("webhook p99 ms", p99, ""),
        ],
        figures={"experts_error": error, "hook_p99_ms": p99},
        aims={
            "experts_error": Aim(aim=0.05, got=error),
            "tools_where_the_adversary_is_named": Aim(aim=2, got=named, at_least=True),
            "tools_where_the_posterior_is_better": Aim(aim=2, got=better, at_least=True),
            "change_to_everything": Aim(aim=0.01, got=max(_share(each) for each in found.values())),
            "holds_what_the_tool_holds": Aim(aim=1, got=int(holds), at_least=True),
            "intake_p99_ms": Aim(aim=AIM_MS, got=round(max(one.intake_p99_ms for one in found.values()), 1)),
            "hooks_in_time": Aim(aim=0.99, got=round(quick, 4), at_least=True),
        },
        ratios={f"change_to_everything_{kind}": _share(each) for kind, each in found.items()},
    )


def _rows(found: Sequence[Found], repetitions: Repetitions) -> list[tuple[object, ...]]:
    told: dict[str, Callable[[Found], object]] = {
        f"accuracy of 3 experts off by, {repetitions.crowd_tasks} tasks": lambda one: (
            f"{one.crowd.error:.3f}"
        ),
        "named": lambda one: ", ".join(one.crowd.named),
        "wrong by majority": lambda one: one.crowd.wrong(one.crowd.by_majority()),
        "wrong by posterior": lambda one: one.crowd.wrong(one.crowd.by_posterior()),
        "answers taken /s": lambda one: f"{one.answers_per_s:.1f}",
        f"{repetitions.waiting_tasks:,} tasks pushed /s": lambda one: f"{one.pushed_per_s:.0f}",
        "intake meanwhile, p99 ms": lambda one: f"{one.intake_p99_ms:.0f}",
        "one change: requests, kB": lambda one: _told(one.of_change),
        "everything: requests, kB": lambda one: _told(one.of_all),
    }
    return [(what, *(tell(one) for one in found)) for what, tell in told.items()]


def _told(traffic: Traffic) -> str:
    return f"{traffic.requests}, {traffic.received / 1000:,.1f}"


def _share(found: Found) -> float:
    return round(found.of_change.received / found.of_all.received, 5)


def _in_tool(kind: ConnectorKind, repetitions: Repetitions) -> Found:
    with ExitStack() as stack:
        tool = stack.enter_context(_tool(kind))
        runtime = stack.enter_context(installation(port=free_port(), **_address(kind, tool)))
        connector, people, accounts = _players(kind, tool)
        pushed, intake = _push(runtime, kind, connector, repetitions.waiting_tasks)
        started = time.perf_counter()
        crowd = in_tool(connector, people, accounts, seed=1, tasks=repetitions.crowd_tasks)
        seconds = time.perf_counter() - started
        change, everything = _traffic(runtime, connector, people, accounts[0])
    return Found(
        crowd=crowd,
        answers_per_s=len(crowd.votes) / seconds,
        pushed_per_s=pushed,
        intake_p99_ms=percentile(intake, 99),
        of_change=change,
        of_all=everything,
    )


@contextmanager
def _tool(kind: ConnectorKind) -> Iterator[RunningTool]:
    with TemporaryDirectory() as folder:
        home = Path(folder)
        queue = start_valkey(home)
        with running_tool(bundled(kind), home, NAMES, redis_url=valkey.url(home)) as tool:
            yield tool
        queue.terminate()
        queue.wait()


def _address(kind: ConnectorKind, tool: RunningTool) -> dict[str, str]:
    if kind is ConnectorKind.ARGILLA:
        return {"argilla_url": tool.url, "argilla_api_key": tool.admin_token}
    return {"label_studio_url": tool.url, "label_studio_token": tool.admin_token}


def _players(kind: ConnectorKind, tool: RunningTool) -> tuple[Connector, Any, list[str]]:
    if kind is ConnectorKind.ARGILLA:
        people = ArgillaPeople(tool)
        return ArgillaConnector(tool.url, tool.admin_token, members=NAMES), people, list(NAMES)
    accounts = [account.email for account in tool.accounts]
    return LabelStudioConnector(tool.url, tool.admin_token), LabelStudioPeople(tool), accounts


def _push(
    runtime: Runtime, kind: ConnectorKind, connector: Connector, count: int
) -> tuple[float, list[float]]:
    """Send many tasks as a worker does; return how many a second, and how long intake took meanwhile, in ms."""
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        project.connector = kind
        schema = projects.label_schema(session, project)
        response = builders.add_response(session, project)
        facts = builders.add_task(session, project, response).model_dump(exclude={"id"})
        session.add_all(AnnotationTask(**facts) for _ in range(count - 1))
        key = builders.add_key(session, project, KeyKind.SECRET)
        job = runtime.queue.ask(session, JobKind.SEND, project.id, project_id=project.id)
    # Lets the experts in, which Errata does in no Argilla but its own.
    connector.set_up(slug=project.slug, schema=schema, hook_url="", hook_secret=runtime.secrets.hook_secret)
    client, times = create_app(runtime).test_client(), []
    body = {"messages": [{"role": "user", "content": "?"}], "response": "Billing"}
    started = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(jobs.perform, runtime, runtime.queue.lease(job))
        while not sending.done():
            before = time.perf_counter()
            answer = client.post("/v1/responses", json=body, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 201, answer.text
            times.append((time.perf_counter() - before) * 1000)
            time.sleep(0.05)
        sending.result()
    return count / (time.perf_counter() - started), times


def _traffic(runtime: Runtime, connector: Connector, people: Any, who: str) -> tuple[Traffic, Traffic]:
    """Return what reading one change costs, and what reading all does: of Label Studio its own export."""
    with runtime.db.reading() as session:
        there = str(session.exec(select(ToolProject.external_id)).one())
        tasks = session.exec(select(AnnotationTask.external_id).order_by(col(AnnotationTask.id))).all()
    is_argilla = isinstance(people, ArgillaPeople)
    if is_argilla:
        people.bring(there, tasks[: len(tasks) * ANSWERED_IN_TEN // 10], who)
    since = utcnow() + MARGIN + timedelta(milliseconds=1)
    people.answer(there, tasks[-1], who, RIGHT)
    with _counted() as change:
        held = list(connector.pull(there, since))
    if [task.external_id for task in held] != [tasks[-1]]:
        raise AssertionError(f"one task changed, {len(held)} were read")
    with _counted() as everything:
        if is_argilla:
            told, argilla_connector.DATED_BY_ANSWERS = argilla_connector.DATED_BY_ANSWERS, "elasticsearch"
            list(connector.pull(there, since))
            argilla_connector.DATED_BY_ANSWERS = told
        else:
            people.export(there)
    return change, everything


@contextmanager
def _counted() -> Iterator[Traffic]:
    """Count what every client of httpx sends and receives."""
    traffic, real = Traffic(), httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        answer = real(self, request, **more)
        traffic.requests += 1
        traffic.received += len(answer.read())
        return answer

    httpx.Client.send = send  # type: ignore[method-assign]
    try:
        yield traffic
    finally:
        httpx.Client.send = real  # type: ignore[method-assign]


def _holds_what_the_tool_holds(repetitions: Repetitions) -> bool:
    """Run the scenarios with a simulated clock, with as many tasks and stories as this bench has."""
    chosen = {**os.environ, "REPETITIONS": "bench" if repetitions.waiting_tasks >= 10_000 else "ci"}
    ended = subprocess.run([sys.executable, "-m", "pytest", "-q", *TOLD], cwd=ROOT, env=chosen, check=False)
    return ended.returncode == 0


def _hooks(count: int) -> list[float]:
    """Post webhooks at a steady rate, whether those before were answered or not; return how long each took, in ms."""
    with ExitStack() as stack:
        runtime = stack.enter_context(installation(port=free_port()))
        environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir)}
        environment["ERRATA_PORT"] = str(runtime.settings.port)
        stack.enter_context(running(commands(runtime.settings)["web"], environment))
        with runtime.db.transaction() as session:
            builders.add_project(session, tool_project=str(hook.TOOL_PROJECT))
        url, headers = hook.address(runtime)
        client = stack.enter_context(httpx.Client(headers=headers, trust_env=False, timeout=30))
        eventually(lambda: hook.is_up(client, url), seconds=60)
        began = time.perf_counter()
        with ThreadPoolExecutor(32) as threads:
            posted = [threads.submit(_post, client, url, number, began) for number in range(1, count + 1)]
            return [each.result() for each in posted]


def _post(client: httpx.Client, url: str, number: int, began: float) -> float:
    """Post when it is this webhook's turn; the time counts from then, also while no thread was free."""
    turn = began + number / PER_SECOND
    time.sleep(max(0.0, turn - time.perf_counter()))
    client.post(url, json=hook.body(number)).raise_for_status()
    return (time.perf_counter() - turn) * 1000
