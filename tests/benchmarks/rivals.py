"""What a team would take instead of our intake, each in an environment of its own, and a handler that does nothing."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import orjson
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from service import tool_server
from service.settings import Settings
from service.supervisor import commands
from tests.benchmarks.load import Target
from tests.benchmarks.processes import end
from tests.mlflow_server import running_mlflow
from tests.servers import cache_dir, free_port
from tests.waiting import eventually

PHOENIX = tool_server.Package("phoenix", "Arize Phoenix", ("arize-phoenix==20.26.1",), 2_000_000_000)
COMMENT = (
    "The appointment is on Tuesday, not on Thursday, and the clinic moved to Station Road last year. " * 2
)
SPAN, TRACE = "051581bf3cb55c13", "f096b681b08741d8ad5e4ae06a1c1f6b"
Place = tuple[int, Target]  # a server's process and where its feedback goes


@contextmanager
def bare_flask(folder: Path) -> Iterator[Place]:
    """Answer with a part of what was posted, behind the server that we use."""
    settings = Settings(data_dir=folder, port=free_port())
    command = [*commands(settings)["web"][:-1], f"{__name__}:bare_app"]
    url = f"http://127.0.0.1:{settings.port}/v1/feedback"
    with _process(command, dict(os.environ), folder / "flask.log") as server:
        target = Target(url, {}, lambda: orjson.dumps({"event_id": str(uuid4()), "comment": COMMENT}))
        _wait(lambda: is_granted(target))
        yield server.pid, target


def bare_app() -> Flask:
    """Return an application with one handler."""
    app = Flask(__name__)

    @app.post("/v1/feedback")
    def answer() -> ResponseReturnValue:
        return jsonify(id=request.get_json()["event_id"]), 201

    return app


@contextmanager
def phoenix(folder: Path) -> Iterator[Place]:
    """Serve Arize Phoenix, whose annotations are stored before the answer."""
    installed = tool_server.install(cache_dir(), PHOENIX, lambda line: None, lambda *_: None)
    port = free_port()
    environment = tool_server.environment(
        {
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
    )
    url = f"http://127.0.0.1:{port}/v1"

    def note() -> bytes:
        note = {"name": "correct", "annotator_kind": "HUMAN", "span_id": SPAN, "identifier": str(uuid4())}
        return orjson.dumps({"data": [note | {"result": {"label": "down", "explanation": COMMENT}}]})

    with _process([str(installed.bin / "phoenix"), "serve"], environment, folder / "phoenix.log") as server:
        _wait(lambda: _posted(f"{url}/projects/default/spans", {"data": [_span()]}))
        target = Target(f"{url}/span_annotations?sync=true", {}, note)
        _wait(lambda: is_granted(target))
        yield server.pid, target


@contextmanager
def mlflow(folder: Path) -> Iterator[Place]:
    """Serve MLflow with the workers that it takes by itself."""
    with running_mlflow(folder, workers=4) as (url, pid):
        trace_id, now = f"tr-{uuid4().hex}", datetime.now(UTC).isoformat().replace("+00:00", "Z")
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
        trace = {"trace_id": trace_id, "trace_location": place, "request_time": now, "state": "OK"}
        traces = f"{url}/api/3.0/mlflow/traces"
        _wait(lambda: _posted(traces, {"trace": {"trace_info": trace}}))

        def assessment() -> bytes:
            said = {"assessment_name": "correct", "trace_id": trace_id, "rationale": COMMENT}
            said |= {"source": {"source_type": "HUMAN", "source_id": str(uuid4())}, "create_time": now}
            return orjson.dumps(
                {"assessment": {**said, "last_update_time": now, "feedback": {"value": False}}}
            )

        target = Target(f"{traces}/{trace_id}/assessments", {}, assessment)
        _wait(lambda: is_granted(target))
        yield pid, target


def _span() -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "name": "answer",
        "context": {"trace_id": TRACE, "span_id": SPAN},
        "span_kind": "LLM",
        "start_time": (now - timedelta(seconds=1)).isoformat(),
        "end_time": now.isoformat(),
        "status_code": "OK",
    }


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as server,
    ):
        try:
            yield server
        finally:
            end(server)


def _wait(check: Callable[[], bool]) -> None:
    eventually(check, 300, every=0.5)


def is_granted(target: Target) -> bool:
    """Say whether the server is there and takes what will be posted."""
    return _posted(target.url, target.body(), target.headers)


def _posted(url: str, body: object, headers: Mapping[str, str] | None = None) -> bool:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    try:
        sent = {"Content-Type": "application/json", **(headers or {})}
        return httpx.post(url, content=raw, headers=sent, timeout=30, trust_env=False).is_success
    except httpx.TransportError:
        return False
