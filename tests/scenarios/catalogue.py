"""All scenarios: what each shows, how it is run, its negative control, and what must come of both.

A scenario runs on a model, returns figures between limits, and holds if the worse limit of each is past its threshold
in `thresholds.json`, while the control misses those that it is to miss. Thresholds were set once by a first
honest run, on seed 0 (of SmolLM2 with 100 cases), with a margin beyond the worse limit, and are not moved to make a
run hold; runs use seeds from `UNSEEN` on.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrain.intervals import Interval
from tests.scenarios import advising, correcting, judging, rates, triage
from tests.scenarios.figures import Figures
from tests.scenarios.taught import Learner

UNSEEN = 10
BOTH = ("tiny", "smollm2")
THRESHOLDS: Mapping[str, Mapping[str, Any]] = json.loads(
    Path(__file__).with_name("thresholds.json").read_text()
)
Run = Callable[[int, Learner], Figures]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that can go wrong, shown going wrong and going well; `models` are those that it is run on."""

    name: str
    shows: str
    run: Run
    control: Run
    models: Sequence[str] = ("tiny",)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A scenario that `./run test` or another bench runs already."""

    name: str
    shows: str
    where: Sequence[str]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure beside its threshold; of a control, `holds` says that it misses what it is to miss."""

    figure: str
    interval: Interval
    threshold: str
    holds: bool


SCENARIOS = (
    Scenario(
        "conflation",
        "corrections stop a clerk from confusing plaintiff and defendant, and reversed ones are refused",
        correcting.conflation,
        correcting.reversed_conflation,
        models=BOTH,
    ),
    Scenario(
        "three-cycles",
        "people find twice as many answers right after three cycles, the first refused, and ROUGE hardly moves",
        correcting.three_cycles,
        correcting.uncorrected_cycles,
    ),
    Scenario(
        "forgetting",
        "with replay corrections cost nothing of what was right; without, nearly all of it",
        correcting.forgetting,
        correcting.forgetting_without_replay,
        # SmolLM2 loses nothing of this without replay either: of 95 briefs one.
    ),
    Scenario(
        "triage",
        "corrected rows of two clinics end most misdirection, and one more missed red flag is refused all the same",
        triage.triage,
        triage.triage_uncorrected,
    ),
    Scenario(
        "learning-rate",
        "a rate guessed too high ruins a run; the monitor stops it, and what it proposes works",
        rates.too_high,
        rates.never_stopped,
    ),
    Scenario(
        "sarcasm",
        "a model that is perfect on plain words falls apart on sarcasm, until flags of it are corrected",
        judging.sarcasm,
        judging.sarcasm_uncorrected,
        models=BOTH,
    ),
    Scenario(
        "bias",
        "the audit names the desk that treats women worse, and its proposal makes decisions alike",
        judging.bias_in_decisions,
        judging.bias_unrepaired,
        # SmolLM2 hardly takes the desk's bias over: five flips of 50, so that there is little to repair.
    ),
    Scenario(
        "phantom-products",
        "without rows of products that are gone the assistant names none, and passes on what is not its field",
        advising.phantom_products,
        advising.phantoms_unrepaired,
        models=BOTH,
    ),
    Scenario(
        "sycophancy",
        "what objecting users liked teaches a model to give in, and the gate refuses it",
        advising.sycophancy,
        advising.sycophancy_by_thumbs,
    ),
    Scenario(
        "conversation",
        "metrics of conversations tell turns with faults from sound ones, and reworded ones from neither",
        advising.turns_gone_wrong,
        advising.turns_reworded,
    ),
)

ELSEWHERE = (
    Elsewhere(
        "audit",
        "faults put into texts and groups are found, and sound data is left in peace (D.6, D.7, D.8)",
        ("tests/scenarios/test_audit.py::test_every_fault_is_found_and_little_else", "./run bench audit"),
    ),
    Elsewhere(
        "garbage",
        "repaired rows teach more than unrepaired ones, and few clean ones more than many noisy ones (D.8)",
        (
            "tests/scenarios/test_garbage.py::test_training_on_the_repaired_set_beats_the_unrepaired_one",
            "./run bench garbage",
        ),
    ),
    Elsewhere(
        "bisect",
        "of many changes the one that made a model worse is named (D.9)",
        (
            "tests/scenarios/test_bisect.py::test_what_is_guilty_is_named_within_the_budget",
            "./run bench bisect",
        ),
    ),
    Elsewhere(
        "annotators",
        "how far each annotator can be trusted is recovered from their answers (D.0)",
        ("tests/scenarios/test_annotators.py", "tests/scenarios/test_crowds_in_tools.py"),
    ),
    Elsewhere(
        "poisoning",
        "false flags teach nothing without an expert's word; what is in quarantine stays out of sets",
        (
            "tests/scenarios/test_through_the_service.py::test_coordinated_false_flags_teach_nothing",
            "tests/integration/test_quarantine.py::test_its_rows_stay_out_of_the_next_set_and_come_back",
            "tests/integration/test_bisecting.py::test_the_poisoned_batch_is_named_with_its_rows",
        ),
    ),
    Elsewhere(
        "leakage",
        "what paraphrases a test case stays out of training, in every later set",
        (
            "tests/scenarios/test_through_the_service.py::test_flags_that_paraphrase_test_cases_are_never_trained_on",
            "tests/unit/retrain/test_training_set.py::test_a_new_neighbour_joins_the_old_group_and_its_split",
        ),
    ),
    Elsewhere(
        "forgetting, live",
        "an increment without replay is refused, with replay it passes",
        ("tests/scenarios/test_through_the_service.py::test_without_replay_the_increment_is_refused",),
    ),
    Elsewhere(
        "stale approval",
        "a yes does not outlive what it was said to",
        (
            "tests/scenarios/test_through_the_service.py::test_an_approval_is_stale_once_the_champion_changed",
            "tests/integration/test_promotion.py::test_what_changes_after_the_approval_makes_it_stale",
        ),
    ),
    Elsewhere(
        "rollback",
        "one action brings the version before back, with its answers",
        (
            "tests/scenarios/test_through_the_service.py::test_a_rollback_brings_back_the_answers",
            "tests/integration/test_promotion.py::test_a_rollback_brings_back_what_was_live_before",
        ),
    ),
)


def lines(scenario: Scenario, model: str, figures: Figures) -> list[Line]:
    """Hold figures against the scenario's thresholds."""
    wanted = THRESHOLDS[scenario.name][model]
    return [_line(name, figures[name], wanted[name]) for name in wanted]


def missed(scenario: Scenario, model: str, figures: Figures) -> list[Line]:
    """Say of each figure that the control must miss whether it does."""
    wanted = THRESHOLDS[scenario.name][model]
    found = [_line(name, figures[name], wanted[name]) for name in THRESHOLDS[scenario.name]["control_misses"]]
    return [Line(one.figure, one.interval, f"not {one.threshold}", not one.holds) for one in found]


def _line(name: str, found: Interval, wanted: Mapping[str, float]) -> Line:
    ((side, threshold),) = wanted.items()
    holds = found.low >= threshold if side == "at_least" else found.high <= threshold
    return Line(name, found, f"{side.replace('_', ' ')} {threshold:g}", holds)
