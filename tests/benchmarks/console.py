"""How fast each page of the console is in a project that has 100,000 feedback rows and all that came of them."""

import os
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from html import unescape

import httpx
from sqlmodel import col, select

from service import people
from service.runtime import Runtime
from service.supervisor import commands
from service.tables import Evaluation, Role, Settlement, TaskFlag, TrainingRun, TrainingSet
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.benchmarks.report import Aim, Report, percentile
from tests.crowded import Crowd, fill
from tests.repetitions import Repetitions
from tests.servers import free_port
from tests.waiting import eventually

FEEDBACK, STEPS_DOWN, AIM_MS = 100_000, 5, 200
NOTHING = "feedback?q=nobody-ever-wrote-this"
LISTED = {
    "overview": "", "loop": "loop", "feedback": "feedback", "feedback by rating": "feedback?rating=up",
    "feedback by reason": "feedback?reason=incomplete", "feedback by version": "feedback?version=v2",
    "feedback by language": "feedback?language=ta", "feedback by state": "feedback?state=corrected",
    "feedback by state, of few": "feedback?state=declined", "feedback, oldest": "feedback?sort=oldest",
    "search that finds": "feedback?q=parking", "search that finds nothing": NOTHING,
    "tasks": "tasks", "tasks, urgent": "tasks?sort=urgent", "tasks by state": "tasks?state=contested",
    "annotators": "annotators", "training sets": "sets", "runs": "runs", "evaluations": "evaluations",
    "models": "models", "jobs": "jobs", "jobs that died": "jobs?state=dead", "ledger": "ledger",
    "ledger, search": "ledger?q=nobody", "settings": "settings", "playground": "playground",
    "fixes": "fixes", "worth": "worth",
}  # fmt: skip


def measure(repetitions: Repetitions) -> Report:
    """Fill an installation, sign somebody in at its real web server, and ask for each page many times."""
    with ExitStack() as stack:
        runtime = stack.enter_context(installation(port=free_port()))
        started = time.perf_counter()
        with runtime.db.transaction() as session:
            fill(session, Crowd(FEEDBACK))
        filled_seconds = time.perf_counter() - started
        environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir)}
        stack.enter_context(running(commands(runtime.settings)["web"], environment))
        client = stack.enter_context(_signed_in(runtime))
        pages = LISTED | of_one_row(runtime) | {"feedback, 50,000 rows down": _far_down(client)}
        times = {name: _times(client, path, repetitions.page_views) for name, path in pages.items()}
    return _report(times, filled_seconds)


def _report(times: Mapping[str, list[float]], filled_seconds: float) -> Report:
    p95 = {name: percentile(values, 95) for name, values in times.items()}
    every = [value for values in times.values() for value in values]
    overall, slowest = percentile(every, 95), max(p95.values())
    return Report(
        columns=("page", "p50 ms", "p95 ms"),
        rows=[
            (name, f"{percentile(times[name], 50):.1f}", f"{p95[name]:.1f}")
            for name in sorted(p95, key=lambda name: -p95[name])
        ],
        figures={
            "feedback": FEEDBACK,
            "views": len(every),
            "filled_s": round(filled_seconds, 1),
            "p50_ms": round(percentile(every, 50), 1),
            "p95_ms": round(overall, 1),
        },
        aims={
            "p95_ms": Aim(aim=AIM_MS, got=round(overall, 1)),
            "slowest_page_p95_ms": Aim(aim=AIM_MS, got=round(slowest, 1)),
        },
        ratios={"slowest_to_all": round(slowest / overall, 2)},
    )


@contextmanager
def _signed_in(runtime: Runtime):
    """Yield a browser's client, signed in by a one-time link as anybody would be."""
    with runtime.db.transaction() as session:
        _, link = people.add_user(session, "olga", Role.ADMIN, actor="bench")
    with httpx.Client(base_url=runtime.settings.own_url, timeout=60, trust_env=False) as client:
        eventually(lambda: _is_up(client), seconds=60)
        assert client.post(f"/sign-in/{link}").status_code == httpx.codes.SEE_OTHER
        yield client


def _is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").is_success
    except httpx.TransportError:
        return False


def of_one_row(runtime: Runtime) -> dict[str, str]:
    """Return pages of single rows: of a flag that has come all the way, and of the newest of the others."""
    with runtime.db.reading() as session:
        settled = select(TaskFlag).join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
        flag = session.exec(settled.order_by(col(TaskFlag.id)).limit(1)).one()
        pages = {"story": f"feedback/{flag.feedback_id}", "task": f"tasks/{flag.task_id}"}
        for name, path, table in (
            ("training set", "sets", TrainingSet),
            ("run", "runs", TrainingRun),
            ("evaluation", "evaluations", Evaluation),
        ):
            newest = session.exec(select(table.id).order_by(col(table.id).desc()).limit(1)).one()
            pages[name] = f"{path}/{newest}"
    return pages


def _far_down(client: httpx.Client) -> str:
    """Follow the link that a search which finds nothing offers, and return the whole list from there."""
    path = NOTHING
    for _ in range(STEPS_DOWN):
        link = re.search(r'rel="next" href="([^"]+)"', _get(client, path))
        path = f"feedback{unescape(link[1])}"
    return f"feedback?cursor={httpx.URL(path).params['cursor']}"


def _times(client: httpx.Client, path: str, count: int) -> list[float]:
    return [_milliseconds(client, path) for _ in range(count + 1)][1:]


def _milliseconds(client: httpx.Client, path: str) -> float:
    started = time.perf_counter()
    _get(client, path)
    return (time.perf_counter() - started) * 1000


def _get(client: httpx.Client, path: str) -> str:
    answer = client.get(f"/p/crowded/{path}", headers={"Accept": "text/html"})
    if answer.status_code != httpx.codes.OK:
        raise AssertionError(f"{path}: {answer.status_code}")
    return answer.text
