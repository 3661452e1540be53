"""How well a search names what made a model worse: 40 histories on seeds that nothing was fixed on, and clinics.

Controls take the answer out of such histories, or from the search what finds it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retrain.bisect.finding import Finding, Verdict
from retrain.bisect.rules import Rules
from retrain.bisect.search import find
from tests.benchmarks import spoiled
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios.flags import hidden_found
from tests.scenarios.histories import (
    UNSEEN,
    Fault,
    Past,
    by_chance,
    is_right,
    is_wrong,
    past,
    precision,
    restless,
    without,
)

FLAG_SEEDS = 5
TINY_FAULTS = (Fault.CODE, Fault.CONFIGURATION, Fault.NONE, Fault.POISON)
DEMO_FAULTS = (Fault.NONE, Fault.POISON)
BATCH_GONE, HALF_GONE = "control: poison removed", "control: half a pair removed"
BY_CHANCE = "control: estimate by chance"
REPEATED, ONCE = "control: restless, repeated", "control: restless, not repeated"


def measure(repetitions: Repetitions) -> Report:
    """Search every history, rank flags by their worth, bisect the tiny model, with `--full` the demo's project too."""
    pasts = [past(fault, UNSEEN + seed) for fault in Fault for seed in range(repetitions.pasts)]
    found = [(one, find(one.history, one.train, harm=one.harm)) for one in pasts]
    precisions = _precisions(found)
    over = [finding.cost.configurations - Rules().allowed(len(one.history.changes)) for one, finding in found]
    controls = _controls(repetitions.pasts)
    lowest = min(hidden_found(UNSEEN + seed) for seed in range(FLAG_SEEDS))
    right = sum(is_right(one, finding) for one, finding in found) / len(found)
    clinics = {"tiny": spoiled.search(spoiled.TINY, TINY_FAULTS)}
    if repetitions.spoiled_clinics:
        clinics["demo"] = spoiled.search(spoiled.DEMO, DEMO_FAULTS)
    return Report(
        columns=(
            "fault",
            "right",
            "blamed wrongly",
            "cannot tell",
            "configurations",
            "most",
            "trainings",
            "of 20",
        ),
        rows=[
            *(_row(fault, [pair for pair in found if pair[0].fault is fault]) for fault in Fault),
            *(_row_of_control(name, pairs) for name, pairs in controls.items()),
            *(_row_of_clinic(name, one) for name, found in clinics.items() for one in found),
        ],
        figures={
            "histories": len(found),
            "trainings": sum(finding.cost.trainings for _, finding in found),
            "mean_configurations": round(sum(one.cost.configurations for _, one in found) / len(found), 2),
            "mean_row_precision": round(sum(precisions) / len(precisions), 3),
            **{f"{name}_cpu_s": round(sum(one.cpu for one in found)) for name, found in clinics.items()},
        },
        aims={
            "right": Aim(aim=0.95, got=round(right, 3), at_least=True),
            "blamed_wrongly": Aim(aim=0, got=sum(is_wrong(one, finding) for one, finding in found)),
            "configurations_over_2_log2_n_and_4": Aim(aim=0, got=max(over)),
            "lowest_row_precision_of_20": Aim(aim=0.8, got=round(min(precisions), 3), at_least=True),
            **dict(_aims_of_controls(controls)),
            "valuable_flags_of_10_in_30": Aim(aim=8, got=lowest, at_least=True),
            **{name: aim for model, found in clinics.items() for name, aim in _aims_of_clinic(model, found)},
        },
    )


def _row(fault: Fault, found: Iterable[tuple[Past, Finding]]) -> tuple[object, ...]:
    pairs = list(found)
    return _told(fault.value, pairs, [is_right(*one) for one in pairs], [is_wrong(*one) for one in pairs])


def _row_of_control(name: str, found: Sequence[tuple[Past, Finding]]) -> tuple[object, ...]:
    wrong = [_is_misled(name, *one) for one in found]
    return _told(name, found, [not one for one in wrong], wrong)


def _is_misled(control: str, one: Past, finding: Finding) -> bool:
    """Say whether a control blames what is sound, or takes chance for a regression."""
    if control in (REPEATED, ONCE):
        return finding.drop.low > 0
    if control == BY_CHANCE:
        return is_wrong(one, finding)
    return bool(finding.causes) and finding.verdict is not Verdict.CANNOT_TELL


def _told(
    name: str, pairs: Sequence[tuple[Past, Finding]], right: Sequence[bool], wrong: Sequence[bool]
) -> tuple[object, ...]:
    configurations = [finding.cost.configurations for _, finding in pairs]
    return (
        name,
        f"{sum(right)} of {len(pairs)}",
        sum(wrong),
        sum(finding.verdict is Verdict.CANNOT_TELL for _, finding in pairs),
        f"{sum(configurations) / len(pairs):.1f}",
        max(configurations),
        f"{sum(finding.cost.trainings for _, finding in pairs) / len(pairs):.1f}",
        f"{min(shares):.2f}" if (shares := _precisions(pairs)) else "-",
    )


def _precisions(pairs: Iterable[tuple[Past, Finding]]) -> list[float]:
    """Return the shares of wrong rows among the first 20, where wrong rows there are and any were blamed."""
    return [
        precision(*pair) for pair in pairs if pair[0].wrong and any(cause.rows for cause in pair[1].causes)
    ]


def _controls(n: int) -> dict[str, list[tuple[Past, Finding]]]:
    """Search histories from which the answer, or what finds it, was taken."""
    poisoned, paired = (
        [past(fault, UNSEEN + seed) for seed in range(n)] for fault in (Fault.POISON, Fault.PAIR)
    )
    calm = [restless(UNSEEN + seed) for seed in range(n)]
    brief, long = Rules(max_configurations=4), Rules(max_configurations=20)

    def search(one: Past, **more: Any) -> tuple[Past, Finding]:
        return one, find(one.history, one.train, **{"harm": one.harm} | more)

    return {
        BATCH_GONE: [search(without(one, *one.guilty)) for one in poisoned],
        HALF_GONE: [search(without(one, min(one.guilty))) for one in paired],
        BY_CHANCE: [search(one, harm=by_chance, rules=long) for one in poisoned],
        REPEATED: [search(one, rules=brief) for one in calm],
        ONCE: [
            (one, find(one.history, lambda made, _, one=one: one.train(made, 0), rules=brief)) for one in calm
        ],
    }


def _aims_of_controls(controls: Mapping[str, Sequence[tuple[Past, Finding]]]) -> Iterable[tuple[str, Aim]]:
    """What must come out where the answer was taken away; and where what finds it was, that it is missed."""
    misled = {name: sum(_is_misled(name, *one) for one in found) for name, found in controls.items()}
    yield "blamed_without_the_guilty", Aim(aim=0, got=misled[BATCH_GONE] + misled[HALF_GONE])
    by_chance = _precisions(controls[BY_CHANCE])
    yield "row_precision_by_chance", Aim(aim=0.7, got=round(sum(by_chance) / len(by_chance), 3))
    yield "repeated_drops_by_chance", Aim(aim=0, got=misled[REPEATED])
    yield "single_drops_by_chance", Aim(aim=1, got=misled[ONCE], at_least=True)


def _row_of_clinic(model: str, found: spoiled.Found) -> tuple[object, ...]:
    cost = found.told["cost"]
    return (
        f"{model}, {found.fault}",
        f"{int(found.is_right)} of 1",
        int(found.is_wrong),
        int(found.told["verdict"] == "cannot_tell"),
        cost["configurations"],
        cost["configurations"],
        cost["trainings"],
        f"{found.precision:.2f}" if found.wrong else "-",
    )


def _aims_of_clinic(model: str, found: Sequence[spoiled.Found]) -> Iterable[tuple[str, Aim]]:
    right = sum(one.is_right for one in found) / len(found)
    yield f"{model}_right", Aim(aim=1, got=right, at_least=True)
    yield f"{model}_blamed_wrongly", Aim(aim=0, got=sum(one.is_wrong for one in found))
    lowest = min(one.precision for one in found if one.wrong)
    yield f"{model}_row_precision_of_20", Aim(aim=0.8, got=round(lowest, 3), at_least=True)
