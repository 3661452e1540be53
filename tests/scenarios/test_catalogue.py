"""The catalogue on one seed that no threshold was set on; the bench runs all of it."""

import ast
from pathlib import Path

import pytest

from retrain.frame import encode_example
from tests.scenarios import court
from tests.scenarios.catalogue import ELSEWHERE, SCENARIOS, THRESHOLDS, UNSEEN, lines, missed
from tests.scenarios.taught import SYSTEM_PROMPT, Learner

ROOT = Path(__file__).resolve().parents[2]
SUITE = {"conversation", "sarcasm"}  # the bench has time for the others


@pytest.fixture(scope="module")
def learner(cache_dir) -> Learner:
    return Learner("tiny", cache_dir)


QUICK = [pytest.param(one, id=one.name) for one in SCENARIOS if one.name in SUITE]


@pytest.mark.parametrize("scenario", QUICK)
def test_a_scenario_is_as_its_thresholds_say(scenario, learner):
    assert not [line for line in lines(scenario, "tiny", scenario.run(UNSEEN, learner)) if not line.holds]


@pytest.mark.parametrize("scenario", QUICK)
def test_its_control_is_not(scenario, learner):
    found = missed(scenario, "tiny", scenario.control(UNSEEN, learner))
    assert found
    assert not [line for line in found if not line.holds]


def test_every_scenario_has_thresholds_on_each_of_its_models():
    assert {one.name: {*one.models, "control_misses"} for one in SCENARIOS} == {
        name: set(wanted) for name, wanted in THRESHOLDS.items()
    }


@pytest.mark.parametrize("where", [where for one in ELSEWHERE for where in one.where])
def test_what_is_run_elsewhere_is_there(where):
    path, _, name = where.partition("::")
    if path.startswith("./run bench "):
        path = f"tests/benchmarks/{path.removeprefix('./run bench ')}.py"
    tree = ast.parse((ROOT / path).read_text())
    assert not name or name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_base_is_made_of_the_committed_rows_in_the_frame_of_adapters():
    assert court.RECIPE == "sha256:3aabca4daa638ce9b0aa4ed92b3b06c099ef7b6c6c421226e83085adf34a7172"
    tokenizer, (one,) = court._tokenizer(), court.disputes("any", 1)
    ids, wanted = court._batch(tokenizer, [one])
    framed, start = encode_example(tokenizer, one.messages, one.answer, SYSTEM_PROMPT)
    assert ids[0].tolist() == framed
    assert [token for token in wanted[0].tolist() if token != court.NOT_WANTED] == framed[start:]
