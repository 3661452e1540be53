"""How long the web takes to answer Label Studio's hook, which waits one second, while Label Studio itself hangs."""

import os
import socket
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx

from service import tool_state
from service.runtime import Runtime
from service.supervisor import commands
from service.tables import ConnectorKind, JobKind, Project, ProjectKind
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.benchmarks.report import Aim, Report, percentile
from tests.repetitions import Repetitions
from tests.servers import free_port
from tests.waiting import eventually

TOOL_PROJECT = 7
AIM_MS = 200


def measure(repetitions: Repetitions) -> Report:
    """Post the hook many times while a worker waits for Label Studio."""
    calls = repetitions.hook_calls
    with ExitStack() as stack:
        hanging = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tool = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        runtime = stack.enter_context(
            installation(port=free_port(), label_studio_url=tool, label_studio_token="t")
        )
        environment = {
            **os.environ,
            "ERRATA_DATA_DIR": str(runtime.settings.data_dir),
            "ERRATA_LABEL_STUDIO_URL": tool,
            "ERRATA_LABEL_STUDIO_TOKEN": "t",
        }
        stack.enter_context(running(commands(runtime.settings)["web"], environment))
        stack.enter_context(running([sys.executable, "-m", "service.worker", "tools"], environment))
        _ask_for_sync(runtime)
        hanging.settimeout(60)
        blocked = stack.enter_context(hanging.accept()[0])
        times = _post(runtime, calls)
        blocked.getpeername()  # raises if the worker no longer waited
    p50, p99 = percentile(times, 50), percentile(times, 99)
    return Report(
        columns=("hook while Label Studio hangs", "ms"),
        rows=[("calls", calls), ("p50", f"{p50:.1f}"), ("p99", f"{p99:.1f}"), ("max", f"{max(times):.1f}")],
        figures={"calls": calls, "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)},
        aims={"p99_ms": Aim(aim=AIM_MS, got=round(p99, 1))},
        ratios={"p99_to_p50": round(p99 / p50, 2)},
    )


def _ask_for_sync(runtime: Runtime) -> None:
    project = Project(
        slug="hooked",
        kind=ProjectKind.CLASSIFICATION,
        base_model="bundled:tiny",
        connector=ConnectorKind.LABEL_STUDIO,
    )
    with runtime.db.transaction() as session:
        session.add(project)
        session.flush()
        tool_state.of(session, project.id, project.connector).external_id = str(TOOL_PROJECT)
        runtime.queue.ask(session, JobKind.SYNC, project.id, project_id=project.id)


def _post(runtime: Runtime, calls: int) -> list[float]:
    url, headers = address(runtime)
    with httpx.Client(headers=headers, trust_env=False) as client:
        eventually(lambda: is_up(client, url), seconds=60)
        return [_milliseconds(client, url, number) for number in range(1, calls + 1)]


def address(runtime: Runtime) -> tuple[str, dict[str, str]]:
    """Return where Label Studio's webhooks go, and with which headers."""
    secret = runtime.secrets.hook_secret
    url = f"http://127.0.0.1:{runtime.settings.port}/hooks/label-studio/{secret}"
    return url, {"X-Errata-Secret": secret}


def is_up(client: httpx.Client, url: str) -> bool:
    """Say whether the web answers."""
    try:
        return client.get(httpx.URL(url).join("/livez")).is_success
    except httpx.TransportError:
        return False


def body(number: int) -> dict[str, Any]:
    """Return what Label Studio says of an annotation."""
    return {
        "action": "ANNOTATION_CREATED",
        "project": {"id": TOOL_PROJECT},
        "task": {"id": number, "data": {"prompt": "x" * 4000}},
        "annotation": {"id": number, "task": number, "updated_at": datetime.now(UTC).isoformat()},
    }


def _milliseconds(client: httpx.Client, url: str, number: int) -> float:
    started = time.perf_counter()
    client.post(url, json=body(number)).raise_for_status()
    return (time.perf_counter() - started) * 1000
