"""Base models are compared on rows that none of them was shown, before one is chosen."""

from dataclasses import replace

import pytest

from retrain.base_models import load
from retrain.errors import EmptySplit, UnknownBaseModel
from retrain.types import Message, Split
from service.jobs.torch_tools import TorchTools
from service.stages import bases
from service.tables import JobKind
from tests.integration.test_training_stage import ROWS, Workshop, workshop

__all__ = ["workshop"]

VALIDATION = [
    replace(row, messages=(Message("user", f"please, {row.prompt}"),), split=Split.VALIDATION) for row in ROWS
]


class Tools(TorchTools):
    """The real tools, which remember the models that were loaded."""

    opened: list[str] = []  # noqa: RUF012  one test's

    def open(self, base_model, system_prompt):
        self.opened.append(base_model)
        return super().open(base_model, system_prompt)


def compare(workshop: Workshop, *names: str) -> dict:
    queue = workshop.runtime.queue
    with workshop.runtime.db.transaction() as session:
        job = queue.ask(session, JobKind.BASES, workshop.set.id, project_id=workshop.project.id)
    Tools.opened.clear()
    tools = Tools(workshop.runtime.settings)
    return bases.compare(workshop.runtime, queue.lease(job), workshop.set.id, names, tools)


def test_each_base_is_scored_with_and_without_examples_and_says_what_it_takes(workshop):
    workshop.fill([*ROWS, *VALIDATION])
    told = compare(workshop, "bundled:tiny")
    (tiny,) = told["bases"]
    tools = TorchTools(workshop.runtime.settings)
    model = tools.open("bundled:tiny", workshop.project.system_prompt)
    said = model.classify([row.messages for row in VALIDATION], ["Billing", "Cardiology"])
    rights = [answer == row.answer for answer, row in zip(said, VALIDATION, strict=True)]
    assert told["metric"] == "accuracy"
    assert (tiny["zero_shot"]["value"], tiny["zero_shot"]["n"]) == (sum(rights) / len(rights), len(rights))
    assert tiny["few_shot"]["n"] == len(rights)
    weights = load(tools.locate("bundled:tiny").directory)[0].state_dict()
    tied = weights.pop("lm_head.weight")
    assert tied.shape == weights["model.embed_tokens.weight"].shape
    assert tiny["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert (tiny["context_tokens"], tiny["licence"]) == (2048, "none needed")


def test_the_examples_shown_are_of_training_and_of_each_label(workshop):
    shown = bases.shots(ROWS)
    assert [turn.role for turn in shown] == ["user", "assistant"] * bases.FEW
    assert {turn.content for turn in shown[1:4:2]} == {"Billing", "Cardiology"}


def test_an_unknown_base_is_refused_before_any_is_asked(workshop):
    workshop.fill([*ROWS, *VALIDATION])
    with pytest.raises(UnknownBaseModel, match="bundled:huge"):
        compare(workshop, "bundled:tiny", "bundled:huge")
    assert Tools.opened == []


def test_a_set_without_validation_rows_is_refused_with_the_remedy(workshop):
    workshop.fill(ROWS)
    with pytest.raises(EmptySplit, match="larger validation_share"):
        compare(workshop, "bundled:tiny")
