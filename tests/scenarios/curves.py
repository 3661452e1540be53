"""Loss curves of real runs, labelled by how they were made: half of them set thresholds, half judge the monitor."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from retrain import lora, parquet
from retrain.base_models import BaseModel, locate
from retrain.errors import TrainingBroke
from retrain.generate import LanguageModel
from retrain.health import Health, Monitor, Verdict
from retrain.suites import ask_generally, replay_prompts
from retrain.types import Example, Progress, TrainingSpec
from service.demo import enquiries
from tests.scenarios import court
from tests.scenarios.taught import MAX_TOKENS, SYSTEM_PROMPT, row
from tests.unit.retrain.conftest import toy_rows

HEALTHY = "healthy"
RECORDED = Path(__file__).with_name("curves.jsonl")
OF_SMOLLM2 = Path(__file__).with_name("curves_of_smollm2.jsonl")
PROBED = 32
COURT = {"rank": 16, "alpha": 32, "batch_size": 16, "max_tokens": MAX_TOKENS}
TOY = {"rank": 8, "alpha": 16, "batch_size": 16}
LARGE = {"rank": 64, "alpha": 128, "batch_size": 16}
# A column for each half: what sets thresholds, what judges them. No rate and no seed stands in both.
RATES: dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]] = {
    (HEALTHY, "court"): (
        (1e-3, 1e-3, 2e-3, 2e-3, 3e-3, 3e-3, 5e-3, 5e-3, 8e-3, 8e-3),
        (1.2e-3, 1.2e-3, 1.6e-3, 2.5e-3, 2.5e-3, 4e-3, 4e-3, 6e-3, 6e-3, 9e-3),
    ),
    (HEALTHY, "toy"): (
        (1e-3, 1e-3, 2e-3, 3e-3, 3e-3, 5e-3, 5e-3, 1e-2, 1e-2, 1e-2),
        (1.5e-3, 1.5e-3, 2.5e-3, 2.5e-3, 4e-3, 4e-3, 7e-3, 7e-3, 8e-3, 8e-3),
    ),
    (HEALTHY, "few"): (
        (1e-3, 1e-3, 2e-3, 2e-3, 3e-3, 3e-3, 5e-3, 5e-3),
        (1.5e-3, 1.5e-3, 2.5e-3, 2.5e-3, 4e-3, 4e-3, 6e-3, 6e-3),
    ),
    (Health.TOO_SLOW, "court"): ((1e-6, 1e-5, 3e-5, 1e-4), (3e-6, 2e-5, 5e-5, 8e-5)),
    (Health.TOO_SLOW, "toy"): ((1e-6, 1e-5, 5e-5, 1e-4), (3e-6, 2e-5, 6e-5, 8e-5)),
    (Health.DIVERGING, "court"): ((3e-2, 5e-2, 1e-1, 3e-1, 1.0), (4e-2, 7e-2, 2e-1, 5e-1, 2.0)),
    (Health.OSCILLATING, "toy"): ((4e-2, 4e-2, 4.5e-2, 5e-2, 5e-2), (4.2e-2, 4.2e-2, 4.7e-2, 4.7e-2, 5.2e-2)),
    (Health.NOT_FINITE, "court"): ((1e25, 1e30), (1e28, 1e33)),
    (Health.NOT_FINITE, "toy"): ((1e30,), (1e28,)),
    (Health.STALLED, "court"): ((1e-3, 2e-3, 3e-3, 3e-3), (1.5e-3, 2.5e-3, 4e-3, 4e-3)),
    (Health.OVERFITTING, "toy"): ((3e-3, 4e-3, 5e-3, 5e-3), (3.5e-3, 3.5e-3, 4.5e-3, 6e-3)),
    (Health.MEMORISING, "court"): ((2e-3, 3e-3, 3e-3), (2.5e-3, 2.5e-3, 4e-3)),
}
# The demo's enquiries on SmolLM2, few and many; no threshold was set by any of them.
CLINIC_ROWS = (48, 120, 240)
CLINIC_RATES: dict[str, tuple[float, ...]] = {
    HEALTHY: (2e-4, 2e-4, 5e-4, 5e-4, 5e-4, 1e-3, 1e-3),
    Health.TOO_SLOW: (1e-8, 1e-7),
    Health.DIVERGING: (5e-2, 2e-1),
    Health.NOT_FINITE: (1e30,),
}


@dataclass(frozen=True, slots=True)
class Curve:
    """What a monitor saw of a run; a loss or norm that was not finite is None. `probes` go by the steps done."""

    made: str
    half: int
    task: str
    learning_rate: float
    seed: int
    steps: int
    losses: list[float | None]
    norms: list[float | None]
    probes: dict[str, float]


def recipes() -> Iterator[tuple[str, int, str, float, int]]:
    """List what to make: the fault, the half, the task, the learning rate and the seed."""
    for half in (0, 1):
        for (made, task), rates in RATES.items():
            for number, rate in enumerate(rates[half]):
                yield str(made), half, task, rate, 1000 * half + number


def recipes_of_smollm2() -> Iterator[tuple[str, int, str, float, int]]:
    """List what to make with SmolLM2, which takes a GPU a minute or two and a CPU the better part of an hour."""
    for made, rates in CLINIC_RATES.items():
        for number, (rate, count) in enumerate(product(rates, CLINIC_ROWS)):
            yield str(made), 1, f"clinic-{count}", rate, 3000 + number


def record(made: str, half: int, task: str, learning_rate: float, seed: int, *, cache: Path) -> Curve:
    """Train once and keep what the monitor would have seen."""
    name, _, size = task.partition("-")
    base, rows, probe, settings = _TASKS[name](made, seed, cache, *([int(size)] if size else []))
    replay = settings.pop("replay", [])
    spec = TrainingSpec(
        base_model=base.reference,
        base_sha256=base.sha256,
        training_set="",
        learning_rate=learning_rate,
        seed=seed,
        **{"system_prompt": SYSTEM_PROMPT} | settings,
    )
    seen: list[Progress] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        parquet.write(rows, folder / "set.parquet")
        try:
            lora.train(
                spec,
                base=base,
                examples=folder / "set.parquet",
                replay=replay,
                probe=[(one.messages, one.answer) for one in probe],
                output=folder / "adapter",
                checkpoints=folder / "checkpoints",
                report=seen.append,
                is_cancelled=lambda: False,
            )
        except TrainingBroke:
            if made != Health.NOT_FINITE:
                raise
    last = seen[-1]
    probes = {str(step): _short(loss) for step, loss in last.probes.items()}
    losses, norms = ([_short(one) for one in ones] for ones in (last.losses, last.norms))
    return Curve(made, half, task, learning_rate, seed, last.steps, losses, norms, probes)


def write(curves: Sequence[Curve], path: Path = RECORDED) -> None:
    """Write a line for each curve."""
    path.write_text("".join(f"{json.dumps(asdict(one), separators=(',', ':'))}\n" for one in curves))


def recorded(path: Path = RECORDED) -> list[Curve]:
    """Read the curves that were written."""
    return [Curve(**json.loads(line)) for line in path.read_text().splitlines()]


def judge(curve: Curve, *, with_probe: bool = True, **options: Any) -> Verdict | None:
    """Let a monitor watch a curve to its end, or to its verdict."""
    monitor, verdict = Monitor(curve.learning_rate, curve.steps, **options), None
    for step, (loss, norm) in enumerate(zip(curve.losses, curve.norms, strict=True)):
        probe = curve.probes.get(str(step)) if with_probe else None
        verdict = monitor.see(*(float("nan") if one is None else one for one in (loss, norm)), probe)
    return verdict


def judged(
    curves: Iterable[Curve], say: Callable[[Curve], str | None] | None = None
) -> list[tuple[str, str]]:
    """Return how each curve was made, and what the monitor, or another judge, says of it."""
    return [(one.made, (say(one) if say else _name(judge(one))) or HEALTHY) for one in curves]


def right(said: Sequence[tuple[str, str]], made: str | None = None) -> float:
    """Return the share of curves, or of those made in one way, of which the truth is said."""
    asked = [truth == told for truth, told in said if made in (None, truth)]
    return sum(asked) / len(asked)


def false_stops(said: Sequence[tuple[str, str]]) -> float:
    """Return the share of healthy curves that are called ill."""
    return 1 - right(said, HEALTHY)


def _name(verdict: Verdict | None) -> str | None:
    return verdict.name if verdict else None


def _court(
    made: str, seed: int, cache: Path
) -> tuple[BaseModel, list[Example], list[Example], dict[str, Any]]:
    """Disputes to sum up; where nothing can be learned each has another's summary: many to stall, few to memorise."""
    count, epochs = {Health.STALLED.value: (960, 1), Health.MEMORISING.value: (48, 30)}.get(made, (240, 4))
    rows = court.disputes(f"curve {seed}", count)
    if made in (Health.STALLED, Health.MEMORISING):
        rows = _shuffled(rows, seed)
    probe = court.disputes(f"probe {seed}", PROBED)
    return court.base(cache), rows, probe, {**COURT, "epochs": epochs}


def _few(_: str, seed: int, cache: Path) -> tuple[BaseModel, list[Example], list[Example], dict[str, Any]]:
    """Few disputes, gone over often, from which something general is learned all the same."""
    rows, probe = court.disputes(f"few {seed}", 64), court.disputes(f"probe {seed}", PROBED)
    return court.base(cache), rows, probe, {**COURT, "epochs": 15}


def _toy(made: str, seed: int, cache: Path) -> tuple[BaseModel, list[Example], list[Example], dict[str, Any]]:
    """Departments to name; to overfit, a large adapter goes over few rows, half of which have another's department."""
    if made == Health.OVERFITTING:
        rows, settings = _departments(toy_rows(32, seed)), {**LARGE, "epochs": 50}
        rows = [*_shuffled(rows[:16], seed), *rows[16:]]
    else:
        rows, settings = _departments(toy_rows(240, seed)), {**TOY, "epochs": 4}
    return locate("bundled:tiny", cache), rows, _departments(toy_rows(PROBED, seed + 500)), settings


def _clinic(
    _: str, seed: int, cache: Path, count: int
) -> tuple[BaseModel, list[Example], list[Example], dict[str, Any]]:
    """Enquiries as the demo has them, with the base model's own answers replayed as it replays them."""
    base = locate("bundled:smollm2", cache)
    said = [(one.text, one.department) for one in enquiries.load(seed)[: count + PROBED]]
    rows, probe = _departments(said[:count]), _departments(said[count:])
    asked = [ask_generally(prompt) for prompt in replay_prompts()[: count // 3]]
    model = LanguageModel.load(base.directory, system_prompt="")
    replay = list(zip(asked, model.answer(asked, max_new_tokens=48), strict=True))
    return base, rows, probe, {"system_prompt": enquiries.SYSTEM_PROMPT, "replay": replay}


def _departments(said: Sequence[tuple[str, str]]) -> list[Example]:
    return [row(str(number), text, label, label=True) for number, (text, label) in enumerate(said)]


def _shuffled(rows: Sequence[Example], seed: int) -> list[Example]:
    answers = [one.answer for one in rows]
    Random(seed).shuffle(answers)
    return [replace(one, answer=answer) for one, answer in zip(rows, answers, strict=True)]


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


_TASKS: dict[str, Callable[..., Any]] = {"court": _court, "few": _few, "toy": _toy, "clinic": _clinic}
