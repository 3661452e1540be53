"""Kill the whole web server at random under clients that try again: nothing acknowledged may be lost or doubled."""

from contextlib import ExitStack
from time import monotonic

from tests.benchmarks.installation import installation
from tests.benchmarks.report import Aim, Report
from tests.postgres import Cluster, running_postgres
from tests.repetitions import Repetitions
from tests.server_kills import Survived, kill_at_random, running_site

SQLITE, POSTGRES = "SQLite", "PostgreSQL"


def measure(repetitions: Repetitions) -> Report:
    """Kill so often on each kind of database that is here."""
    with ExitStack() as stack:
        cluster = stack.enter_context(running_postgres())
        kinds = [SQLITE, POSTGRES] if cluster else [SQLITE]
        found = {kind: _killed(kind, cluster, repetitions.server_kills) for kind in kinds}
    rows = [
        (kind, one.kills, one.acknowledged, one.lost, one.doubled, one.triaged_not_once, f"{seconds:.0f}")
        for kind, (one, seconds) in found.items()
    ]
    totals = {
        name: sum(getattr(one, name) for one, _ in found.values())
        for name in ("kills", "acknowledged", "lost", "doubled", "triaged_not_once")
    }
    return Report(
        columns=("database", "kills", "acknowledged", "lost", "doubled", "triaged not once", "s"),
        rows=rows,
        figures=totals,
        aims={name: Aim(0, totals[name]) for name in ("lost", "doubled", "triaged_not_once")},
        ratios={"kept_once": 1 - (totals["lost"] + totals["doubled"]) / totals["acknowledged"]},
    )


def _killed(kind: str, cluster: Cluster | None, kills: int) -> tuple[Survived, float]:
    chosen = {"database_url": cluster.database()} if cluster and kind == POSTGRES else {}
    began = monotonic()
    with installation(**chosen) as runtime, running_site(runtime) as site:
        return kill_at_random(site, kills), monotonic() - began
