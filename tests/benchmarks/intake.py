"""How fast flags are taken, beside what a team would take instead, in one run and in turns; what a million rows cost.

Each has its own server process and SQLite; Phoenix stores before it answers (`sync=true`), as we do. What is divided is
of the same round, so that whatever else the machine does weighs on both.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

import orjson
import psutil
from sqlalchemy import insert

from service.clock import utcnow
from service.runtime import Runtime
from service.supervisor import commands
from service.tables import Feedback, Project, Rating, uuid7
from tests.benchmarks import rivals
from tests.benchmarks.installation import installation
from tests.benchmarks.load import Served, Target, load
from tests.benchmarks.processes import running
from tests.benchmarks.report import Aim, Report, percentile
from tests.repetitions import Repetitions
from tests.server_kills import PAGE, what_flags_say
from tests.servers import NO_LIMITS_SET, free_port
from tests.waiting import eventually

CONCURRENCIES = (1, 8, 32, 128)
OURS, STORED, BARE, PHOENIX, MLFLOW = "Errata", "Errata, rows stored", "bare Flask", "Phoenix", "MLflow"
ROWS_AT_ONCE = 10_000

Rounds = Mapping[tuple[str, int], Sequence[Served]]


def measure(repetitions: Repetitions) -> Report:
    """Load each in turn, the other way round in every second round."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="errata-bench-")))
        places = dict(_places(stack, folder, repetitions.stored_flags))
        for _, target in places.values():
            load(target, concurrency=8, seconds=1)  # what is loaded on first use
        rounds = _rounds(places, repetitions)
        memory = {name: _megabytes(pid) for name, (pid, _) in places.items()}
    return _report(rounds, memory, repetitions)


@contextmanager
def _ours(stored: int) -> Iterator[rivals.Place]:
    """Serve an installation that so many flags were given to."""
    with ExitStack() as stack:
        runtime = stack.enter_context(installation(port=free_port()))
        target = intake_target(runtime, stored=stored)
        environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir)}
        environment |= {"ERRATA_PORT": str(runtime.settings.port), **NO_LIMITS_SET}
        server = stack.enter_context(running(commands(runtime.settings)["web"], environment))
        eventually(lambda: rivals.is_granted(target), 300)
        yield server.pid, target


def intake_target(runtime: Runtime, *, stored: int = 0) -> Target:
    """Make a project with a public key and a logged response, and return where flags of it go."""
    project, flag = what_flags_say(runtime)
    said = flag | {"comment": rivals.COMMENT, "reasons": ["wrong"]}
    _store(runtime, project, stored)
    url = f"http://127.0.0.1:{runtime.settings.port}/v1/feedback"
    return Target(url, {"Origin": PAGE}, lambda: orjson.dumps(said | {"event_id": str(uuid4())}))


def _store(runtime: Runtime, project: Project, count: int) -> None:
    for start in range(0, count, ROWS_AT_ONCE):
        with runtime.db.transaction() as session:
            session.execute(
                insert(Feedback), [_row(project) for _ in range(min(ROWS_AT_ONCE, count - start))]
            )


def _row(project: Project) -> dict[str, object]:
    said = {
        "response_ref": uuid4().hex,
        "rating": Rating.DOWN,
        "reasons": ["wrong"],
        "body_sha256": "sha256:0",
    }
    own = {"id": uuid7(), "created_at": utcnow(), "event_id": uuid4(), "project_id": project.id}
    return said | own | {"comment": rivals.COMMENT}


def _places(stack: ExitStack, folder: Path, stored: int) -> Iterator[tuple[str, rivals.Place]]:
    for name, serve in ((PHOENIX, rivals.phoenix), (MLFLOW, rivals.mlflow), (BARE, rivals.bare_flask)):
        (folder / name).mkdir()
        yield name, stack.enter_context(serve(folder / name))
    yield OURS, stack.enter_context(_ours(0))
    yield STORED, stack.enter_context(_ours(stored))


def _rounds(places: Mapping[str, rivals.Place], repetitions: Repetitions) -> Rounds:
    found: dict[tuple[str, int], list[Served]] = {}
    for number in range(repetitions.load_rounds):
        order = list(places.items())[:: -1 if number % 2 else 1]
        for concurrency in CONCURRENCIES:
            for name, (pid, target) in order:
                before = _cpu_seconds(pid)
                served = load(target, concurrency=concurrency, seconds=repetitions.load_seconds)
                served.cpu_seconds = _cpu_seconds(pid) - before
                found.setdefault((name, concurrency), []).append(served)
    return found


def _megabytes(pid: int) -> int:
    return round(sum(one.memory_full_info().pss for one in _tree(pid)) / 2**20)


def _cpu_seconds(pid: int) -> float:
    return sum(one.cpu_times().user + one.cpu_times().system for one in _tree(pid))


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _report(rounds: Rounds, memory: Mapping[str, int], repetitions: Repetitions) -> Report:
    rows = [
        (
            name,
            concurrency,
            f"{_rate(served):.0f}",
            f"{_milliseconds(served, 50):.1f}",
            f"{_milliseconds(served, 99):.1f}",
            f"{_cpu(served):.2f}",
            sum(one.errors for one in served),
            memory[name],
            f"{_times(rounds, OURS, name, concurrency):.2f}",
        )
        for (name, concurrency), served in rounds.items()
    ]
    aims = _aims(rounds)
    return Report(
        columns=(
            "what",
            "at once",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "CPU ms",
            "errors",
            "MB",
            "Errata / this",
        ),
        rows=sorted(rows, key=lambda row: row[1]),
        figures={"stored": repetitions.stored_flags}
        | {f"{_key(name)}_rps_at_{at}": round(_rate(served)) for (name, at), served in rounds.items()},
        aims=aims,
        ratios={name: aim.got for name, aim in aims.items() if name != "errors"}
        | {
            f"cpu_of_{_key(rival)}_at_{at}": round(_cpu(rounds[rival, at]) / _cpu(rounds[OURS, at]), 2)
            for rival in (PHOENIX, MLFLOW, BARE)
            for at in (8, 32)
        },
    )


def _rate(served: Sequence[Served]) -> float:
    return median(one.per_second for one in served)


def _times(rounds: Rounds, one: str, other: str, concurrency: int) -> float:
    """Return the median over the rounds of how many times as fast one was."""
    pairs = zip(rounds[one, concurrency], rounds[other, concurrency], strict=True)
    return round(median(a.per_second / max(b.per_second, 1e-9) for a, b in pairs), 3)


def _milliseconds(served: Sequence[Served], percent: int) -> float:
    return median(percentile(one.milliseconds or [float("inf")], percent) for one in served)


def _aims(rounds: Rounds) -> dict[str, Aim]:
    aims = {
        f"of_{_key(rival)}_at_{concurrency}": Aim(
            least, _times(rounds, OURS, rival, concurrency), at_least=True
        )
        for rival, concurrency, least in (
            *((PHOENIX, 8, 10), (PHOENIX, 32, 10), (MLFLOW, 8, 20), (MLFLOW, 32, 20)),
            *((BARE, 8, 0.15), (BARE, 32, 0.25)),
        )
    }
    for concurrency in (8, 32):
        ours, theirs = (_milliseconds(rounds[name, concurrency], 50) for name in (OURS, PHOENIX))
        aims[f"p50_of_phoenix_at_{concurrency}"] = Aim(0.1, round(ours / theirs, 3))
    aims["of_empty_with_rows_at_8"] = Aim(0.9, _times(rounds, STORED, OURS, 8), at_least=True)
    aims["errors"] = Aim(
        0, sum(one.errors for (name, _), all_ in rounds.items() if name == OURS for one in all_)
    )
    return aims


def _cpu(served: Sequence[Served]) -> float:
    return median(one.cpu_milliseconds for one in served)


def _key(name: str) -> str:
    return name.lower().replace(", ", "_").replace(" ", "_")
