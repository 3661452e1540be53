"""How well a search names what made a model worse: 40 histories on seeds that nothing was fixed on, and clinics."""

from collections.abc import Iterable, Sequence

from retrain.bisect.finding import Finding, Verdict
from retrain.bisect.rules import Rules
from retrain.bisect.search import find
from tests.benchmarks import spoiled
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions
from tests.scenarios.flags import hidden_found
from tests.scenarios.histories import UNSEEN, Fault, Past, is_right, is_wrong, past, precision

FLAG_SEEDS = 5
TINY_FAULTS = (Fault.CODE, Fault.CONFIGURATION, Fault.NONE, Fault.POISON)
SMOLLM2_FAULTS = (Fault.NONE, Fault.POISON)


def measure(repetitions: Repetitions) -> Report:
    """Search every history, rank flags by what they are worth, bisect the tiny model, with `--full` SmolLM2 too."""
    pasts = [past(fault, UNSEEN + seed) for fault in Fault for seed in range(repetitions.pasts)]
    found = [(one, find(one.history, one.train, harm=one.harm)) for one in pasts]
    precisions = [precision(one, finding) for one, finding in found if one.wrong and finding.causes]
    over = [finding.cost.configurations - Rules().allowed(len(one.history.changes)) for one, finding in found]
    lowest = min(hidden_found(UNSEEN + seed) for seed in range(FLAG_SEEDS))
    right = sum(is_right(one, finding) for one, finding in found) / len(found)
    clinics = {"tiny": spoiled.search(spoiled.TINY, TINY_FAULTS)}
    if repetitions.spoiled_clinics:
        clinics["smollm2"] = spoiled.search(spoiled.SMOLLM2, SMOLLM2_FAULTS)
    return Report(
        columns=("fault", "right", "blamed wrongly", "cannot tell", "configurations", "most", "trainings"),
        rows=[
            *(_row(fault, [pair for pair in found if pair[0].fault is fault]) for fault in Fault),
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
            "valuable_flags_of_10_in_30": Aim(aim=8, got=lowest, at_least=True),
            **{name: aim for model, found in clinics.items() for name, aim in _aims_of_clinic(model, found)},
        },
    )


def _row(fault: Fault, found: Iterable[tuple[Past, Finding]]) -> tuple[object, ...]:
    pairs = list(found)
    configurations = [finding.cost.configurations for _, finding in pairs]
    return (
        fault.value,
        f"{sum(is_right(*pair) for pair in pairs)} of {len(pairs)}",
        sum(is_wrong(*pair) for pair in pairs),
        sum(finding.verdict is Verdict.CANNOT_TELL for _, finding in pairs),
        f"{sum(configurations) / len(pairs):.1f}",
        max(configurations),
        f"{sum(finding.cost.trainings for _, finding in pairs) / len(pairs):.1f}",
    )


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
    )


def _aims_of_clinic(model: str, found: Sequence[spoiled.Found]) -> Iterable[tuple[str, Aim]]:
    right = sum(one.is_right for one in found) / len(found)
    yield f"{model}_right", Aim(aim=1, got=right, at_least=True)
    yield f"{model}_blamed_wrongly", Aim(aim=0, got=sum(one.is_wrong for one in found))
    lowest = min(one.precision for one in found if one.wrong)
    yield f"{model}_row_precision_of_20", Aim(aim=0.8, got=round(lowest, 3), at_least=True)
