"""DPO and KTO: what pairs and verdicts change in a model, beside a control that they do not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from retrain.base_models import BaseModel, load
from retrain.errors import Cancelled, WrongMethod, WrongTargets
from retrain.frame import encode_example
from retrain.likelihood import Row, log_likelihoods
from retrain.methods import check_method, method_for
from retrain.types import Form, Message, Method, Mode, TrainedAdapter, TrainingSpec
from tests.unit.retrain.conftest import SAID, SYSTEM_PROMPT, toy_rows
from tests.unit.retrain.test_lora import CancelAfter, all_bytes

Run = Callable[..., TrainedAdapter]
Said = tuple[str, str]
ROWS = toy_rows(48, seed=3)
UNSEEN = toy_rows(24, seed=7)
OTHER = dict(zip(SAID, [*list(SAID)[1:], next(iter(SAID))], strict=True))
PAIRED = {"rows": ROWS, "rejected": [OTHER[label] for _, label in ROWS]}
JUDGED = {"rows": ROWS, "wanted": [label != "Billing" for _, label in ROWS]}


def exchanged(rows: Sequence[Said]) -> list[Said]:
    return [(text, OTHER[label]) for text, label in rows]


@pytest.fixture
def further(quick_run: Run, spec: TrainingSpec, taught: TrainedAdapter) -> Run:
    """Go on from an adapter that has learnt the toy task."""
    spec = replace(spec, mode=Mode.CONTINUE, dropout=0.0)

    def run(method: Method, *, batch_size: int = 8, **given) -> TrainedAdapter:
        going_on = replace(spec, method=method, batch_size=batch_size)
        return quick_run(going_on, parent=Path(taught.directory), **given)

    return run


@pytest.fixture
def likelihood(tiny: BaseModel) -> Callable[[TrainedAdapter, Sequence[Said]], float]:
    """Return an adapter's mean log-likelihood of answers."""

    def measure(adapter: TrainedAdapter, rows: Sequence[Said]) -> float:
        model, tokenizer = load(tiny.directory)
        adapted = PeftModel.from_pretrained(model, adapter.directory).eval()
        encoded = [
            encode_example(tokenizer, [Message("user", text)], answer, SYSTEM_PROMPT) for text, answer in rows
        ]
        with torch.no_grad():
            return log_likelihoods(adapted, [Row(*one, 1.0) for one in encoded]).mean().item()

    return measure


@pytest.mark.parametrize("given", [(Method.DPO, PAIRED), (Method.KTO, JUDGED)], ids=["dpo", "kto"])
def test_a_resumed_run_equals_an_undisturbed_one(quick_run: Run, spec: TrainingSpec, given):
    method, rows = given
    spec = replace(spec, method=method)
    undisturbed = quick_run(spec, name="undisturbed", **rows)
    with pytest.raises(Cancelled, match="before the first step"):
        quick_run(spec, name="resumed", is_cancelled=CancelAfter(1), **rows)
    with pytest.raises(Cancelled, match="at step"):
        quick_run(spec, name="resumed", is_cancelled=CancelAfter(11), **rows)
    steps = []
    resumed = quick_run(spec, name="resumed", report=steps.append, **rows)
    assert steps[0].step > 1
    assert all_bytes(resumed) == all_bytes(undisturbed)


def test_dpo_parts_better_from_worse_on_unseen_questions(further: Run, likelihood):
    def margin(adapter: TrainedAdapter) -> float:
        return likelihood(adapter, UNSEEN) - likelihood(adapter, exchanged(UNSEEN))

    of_answers = margin(further(Method.SFT, name="sft", **PAIRED))
    of_pairs = margin(further(Method.DPO, name="dpo", **PAIRED))
    the_other_way = {"rows": exchanged(ROWS), "rejected": [label for _, label in ROWS]}
    assert of_pairs > of_answers + 1
    assert margin(further(Method.DPO, name="swapped", **the_other_way)) < of_answers - 1


def test_kto_unlearns_what_was_judged_wrong_on_unseen_questions(further: Run, likelihood):
    billing = [row for row in UNSEEN if row[1] == "Billing"]
    judged_wrong = further(Method.KTO, name="wrong", **JUDGED)
    right = [not is_wanted for is_wanted in JUDGED["wanted"]]
    judged_right = further(Method.KTO, name="right", rows=ROWS, wanted=right)
    assert likelihood(judged_wrong, billing) < likelihood(judged_right, billing) - 1


def test_by_kto_both_verdicts_weigh_alike_whatever_their_numbers(further: Run):
    doubled = [2.0 if is_wanted else 1.0 for is_wanted in JUDGED["wanted"]]
    plain = further(Method.KTO, name="plain", **JUDGED)
    weighed = further(Method.KTO, name="weighed", weights=doubled, **JUDGED)
    assert weighed.losses == pytest.approx(plain.losses, abs=1e-5)


def test_a_run_that_goes_on_is_compared_with_its_parent(further: Run):
    at_once = further(Method.KTO, batch_size=len(ROWS), **JUDGED)
    assert at_once.losses[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("forms", "method"),
    [
        ({}, Method.SFT),
        ({Form.SFT: 3, Form.PREFERENCE: 2}, Method.SFT),
        ({Form.SFT: 2, Form.PREFERENCE: 2}, Method.DPO),
        ({Form.SFT: 2, Form.SINGLE: 2}, Method.SFT),
        ({Form.SFT: 2, Form.SINGLE: 3}, Method.KTO),
    ],
)
def test_the_method_is_what_most_rows_can_teach(forms, method):
    assert method_for(forms) is method


@pytest.mark.parametrize(
    ("method", "forms", "problem"),
    [
        (Method.DPO, {Form.SFT: 5, Form.SINGLE: 5}, "no row has a rejected answer"),
        (Method.KTO, {Form.SFT: 5}, "no answer was judged wrong"),
        (Method.KTO, {Form.SINGLE: 5}, "no answer was judged right"),
    ],
)
def test_rows_that_lack_what_the_method_learns_from_are_refused(method, forms, problem):
    with pytest.raises(WrongMethod, match=problem):
        check_method(method, forms)
    check_method(method, forms | {Form.PREFERENCE: 1})


def test_a_run_refuses_verdicts_of_one_kind(quick_run: Run, spec: TrainingSpec):
    with pytest.raises(WrongMethod, match="judged wrong"):
        quick_run(replace(spec, method=Method.KTO), rows=ROWS[:8])


def test_an_adapter_changes_the_layers_named(quick_run: Run, spec: TrainingSpec):
    few = all_bytes(quick_run(replace(spec, targets=("q_proj", "v_proj")), rows=ROWS[:8]))
    assert (
        b"q_proj" in few["adapter_model.safetensors"] and b"up_proj" not in few["adapter_model.safetensors"]
    )
    with pytest.raises(WrongTargets, match="no layer c_attn; there are down_proj, gate_proj"):
        quick_run(replace(spec, targets=("c_attn",)), rows=ROWS[:8])


def test_a_spec_recorded_before_there_were_methods_reads_as_it_was(spec: TrainingSpec):
    old = spec.to_json()
    assert not {"method", "targets"} & old.keys()
    assert TrainingSpec.from_json(old) == spec
    told = replace(spec, method=Method.DPO, targets=("q_proj",))
    assert TrainingSpec.from_json(told.to_json() | {"targets": ["q_proj"]}) == told
