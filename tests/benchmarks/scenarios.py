"""Everything that can go wrong on the way to a better model, on the tiny model, and some of it on SmolLM2."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from tempfile import mkdtemp
from time import process_time

from service.settings import Settings
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios.catalogue import ELSEWHERE, SCENARIOS, UNSEEN, Line, Scenario, lines, missed
from tests.scenarios.court import base, is_as_committed
from tests.scenarios.taught import Learner

COLUMNS = ("scenario", "model", "seed", "figure", "found", "between", "wanted", "holds")
CASES = {"tiny": 400, "smollm2": 100}
Row = tuple[str, str, int, Line]


def measure(repetitions: Repetitions, out: str = "") -> Report:
    """Run every scenario with its control, on seeds that no threshold was set on; write the page as well."""
    cache, begun = Settings().cache_dir, process_time()
    rows = [
        (scenario.name, model, seed, line)
        for scenario in SCENARIOS
        for model in scenario.models
        for seed in range(UNSEEN, UNSEEN + (repetitions.scenario_seeds if model == "tiny" else 1))
        for line in _found(scenario, seed, Learner(model, cache, CASES[model]))
    ]
    page = Path(out or mkdtemp(prefix="errata-scenarios-")) / "scenarios.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_page(rows))
    sys.stdout.write(f"{page}\n")
    held = {name: all(line.holds for other, _, _, line in rows if other == name) for name, *_ in rows}
    return Report(
        columns=COLUMNS,
        rows=[_cells(row) for row in rows],
        figures={
            "scenarios": len(SCENARIOS),
            "figures": len(rows),
            "cpu_s": round(process_time() - begun),
            "base_is_as_committed": int(is_as_committed(base(cache))),
        },
        aims={name: Aim(aim=1, got=int(holds), at_least=True) for name, holds in held.items()},
    )


def _found(scenario: Scenario, seed: int, learner: Learner) -> list[Line]:
    begun = process_time()
    found = [
        *lines(scenario, learner.name, scenario.run(seed, learner)),
        *_of_control(missed(scenario, learner.name, scenario.control(seed, learner))),
    ]
    held, took = sum(line.holds for line in found), process_time() - begun
    sys.stderr.write(
        f"{scenario.name}, {learner.name}, seed {seed}: {held} of {len(found)} hold, {took:.0f} CPU s\n"
    )
    return found


def _of_control(found: Sequence[Line]) -> Iterator[Line]:
    for line in found:
        yield replace(line, figure=f"control: {line.figure}")


def _cells(row: Row) -> tuple[str, ...]:
    name, model, seed, line = row
    found = line.interval
    between = f"{found.low:.3f} to {found.high:.3f}"
    holds = "yes" if line.holds else "NO"
    return name, model, str(seed), line.figure, f"{found.value:.3f}", between, line.threshold, holds


def _page(rows: Sequence[Row]) -> str:
    """Write all scenarios on one page that needs nothing else."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Scenarios</title>",
        f"<style>{_STYLE}</style>",
    ]
    parts += [
        "<h1>Scenarios</h1><p>A figure holds if the worse end of its 95 % interval is past what is wanted.</p>"
    ]
    for scenario in SCENARIOS:
        own = [_cells(row)[1:] for row in rows if row[0] == scenario.name]
        parts += [
            f"<h2>{escape(scenario.name)}</h2><p>{escape(scenario.shows)}.</p>",
            _table(COLUMNS[1:], own),
        ]
    elsewhere = [(one.name, one.shows, "; ".join(one.where)) for one in ELSEWHERE]
    parts += ["<h2>Run elsewhere</h2>", _table(("scenario", "shows", "where"), elsewhere)]
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope=col>{escape(column)}" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}" for row in rows)
    return f"<table><thead><tr>{head}<tbody>{body}</table>"


_STYLE = "body{font:1rem/1.5 sans-serif;margin:2rem}td,th{padding:.2rem .8rem;text-align:left}"
