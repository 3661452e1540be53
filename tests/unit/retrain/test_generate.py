"""Answering and scoring: batches give what single forward passes give."""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save_file

from retrain import generate
from retrain.base_models import BaseModel, load
from retrain.errors import ForeignAdapter, WrongBaseModel
from retrain.frame import encode_example, encode_prompt, end_of_turn
from retrain.generate import LanguageModel, check_base
from retrain.types import Message, TrainedAdapter
from tests.unit.retrain.conftest import SAID, SYSTEM_PROMPT, toy_rows

LABELS = ["Billing", "Cardiology", "Cardiology ward", "Dermatology", "C", ""]
ASKED = [[Message("user", text)] for text, _ in toy_rows(9, seed=5)]
EXACT = 1e-3


@pytest.fixture
def model(tiny: BaseModel, taught: TrainedAdapter) -> LanguageModel:
    model = LanguageModel.load(tiny.directory, system_prompt=SYSTEM_PROMPT)
    model.add_adapter("taught", Path(taught.directory))
    return model


@pytest.fixture
def exact(tiny: BaseModel) -> LanguageModel:
    """The base in float32, where two right ways of computing differ by next to nothing."""
    model, tokenizer = load(tiny.directory)
    return LanguageModel(model.float(), tokenizer, system_prompt=SYSTEM_PROMPT, sha256=tiny.sha256)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(generate, "MAX_BATCH", 2)
    return


def naive_scores(base: BaseModel, messages: list[Message]) -> list[float]:
    """Score each label by a forward pass of its own."""
    model, tokenizer = load(base.directory)
    scores = []
    for label in LABELS:
        ids, start = encode_example(tokenizer, messages, label, SYSTEM_PROMPT)
        with torch.inference_mode():
            chances = model.float()(torch.tensor([ids])).logits[0, start - 1 : -1].log_softmax(-1)
        scores.append(float(chances.gather(1, torch.tensor(ids[start:])[:, None]).sum()))
    return scores


def naive_answer(base: BaseModel, messages: list[Message], n_tokens: int) -> str:
    """Take the likeliest token again and again, by a forward pass over all that stands there."""
    model, tokenizer = load(base.directory)
    ids = encode_prompt(tokenizer, messages, SYSTEM_PROMPT)
    start = len(ids)
    for _ in range(n_tokens):
        with torch.inference_mode():
            ids.append(int(model.float()(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in (end_of_turn(tokenizer), tokenizer.eos_token_id):
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_answers_equal_those_of_single_forward_passes(tiny: BaseModel, exact: LanguageModel):
    asked = [[*ASKED[0], Message("assistant", "Why?"), *ASKED[1]], *ASKED[:2]]
    assert exact.answer(asked, max_new_tokens=12) == [naive_answer(tiny, one, 12) for one in asked]


def test_label_scores_equal_those_of_single_forward_passes(tiny: BaseModel, exact: LanguageModel):
    naive = [naive_scores(tiny, messages) for messages in ASKED]
    assert exact.score_labels(ASKED, LABELS) == [pytest.approx(row, abs=EXACT) for row in naive]


def test_one_conversation_alone_scores_alike(tiny: BaseModel, exact: LanguageModel):
    assert exact.score_labels(ASKED[:1], LABELS)[0] == pytest.approx(naive_scores(tiny, ASKED[0]), abs=EXACT)


def test_conversations_that_share_no_beginning_score_alike(tiny: BaseModel, exact: LanguageModel):
    mixed = [[Message("system", "What?"), *ASKED[0]], [Message("system", "My order is late."), *ASKED[1]]]
    naive = [naive_scores(tiny, messages) for messages in mixed]
    assert exact.score_labels(mixed, LABELS) == [pytest.approx(row, abs=EXACT) for row in naive]


@pytest.mark.usefixtures("small_batches")
def test_scores_keep_the_order_of_the_conversations(tiny: BaseModel, exact: LanguageModel):
    naive = [naive_scores(tiny, messages) for messages in ASKED[:5]]
    assert exact.score_labels(ASKED[:5], LABELS) == [pytest.approx(row, abs=EXACT) for row in naive]


def test_no_conversations_give_no_scores(model: LanguageModel):
    assert model.score_labels([], LABELS) == []
    assert model.answer([], max_new_tokens=4) == []


def test_scores_are_the_same_every_time(model: LanguageModel):
    assert model.score_labels(ASKED, LABELS) == model.score_labels(ASKED, LABELS)


def test_the_likeliest_label_is_the_class(model: LanguageModel):
    scores = model.score_labels(ASKED, LABELS)
    assert model.classify(ASKED, LABELS) == [LABELS[row.index(max(row))] for row in scores]


def test_equal_labels_give_the_first(model: LanguageModel):
    assert model.classify(ASKED[:1], ["Billing", "Billing"]) == ["Billing"]


def test_a_taught_adapter_answers_the_task(model: LanguageModel):
    rows = toy_rows(30, seed=9)
    with model.using("taught"):
        answers = model.answer([[Message("user", text)] for text, _ in rows], max_new_tokens=8)
        classes = model.classify([[Message("user", text)] for text, _ in rows], list(SAID))
    labels = [label for _, label in rows]
    assert sum(a == b for a, b in zip(answers, labels, strict=True)) > 25
    assert sum(a == b for a, b in zip(classes, labels, strict=True)) > 25


@pytest.mark.usefixtures("small_batches")
def test_answers_keep_the_order_of_the_conversations(model: LanguageModel):
    with model.using("taught"):
        alone = [model.answer([messages], max_new_tokens=8)[0] for messages in ASKED]
        assert model.answer(ASKED, max_new_tokens=8) == alone


def test_an_answer_that_has_ended_leaves_the_batch(model: LanguageModel):
    rows: list[int] = []
    decoder = model._model.get_decoder()
    decoder.register_forward_pre_hook(lambda *told: rows.append(len(told[2]["input_ids"])), with_kwargs=True)
    with model.using("taught"):
        answers = model.answer(ASKED, max_new_tokens=8)
    assert rows[:2] == [1, len(ASKED)]  # what all open with, then all
    assert len(ASKED) > rows[-1] > 0
    assert all(answers)


def test_the_base_is_left_as_it_was(model: LanguageModel, tiny: BaseModel):
    untouched = LanguageModel.load(tiny.directory, system_prompt=SYSTEM_PROMPT)
    with model.using("taught"):
        taught = model.score_labels(ASKED, LABELS)
    with model.using(None):
        assert model.score_labels(ASKED, LABELS) == untouched.score_labels(ASKED, LABELS) != taught


def test_outside_its_block_no_adapter_answers(model: LanguageModel):
    with model.using(None):
        base = model.score_labels(ASKED, LABELS)
    with model.using("taught"), model.using(None):
        assert model.score_labels(ASKED, LABELS) == base
    assert model.score_labels(ASKED, LABELS) == base


def test_an_adapter_in_use_is_back_after_an_inner_block(model: LanguageModel):
    with model.using("taught"):
        before = model.score_labels(ASKED, LABELS)
        with model.using(None):
            pass
        assert model.score_labels(ASKED, LABELS) == before


def test_an_unknown_adapter_cannot_be_used(model: LanguageModel):
    with pytest.raises(KeyError), model.using("unknown"):
        pass


def test_a_removed_adapter_is_gone(model: LanguageModel, tiny: BaseModel):
    model.remove_adapter("taught")
    untouched = LanguageModel.load(tiny.directory, system_prompt=SYSTEM_PROMPT)
    assert model.score_labels(ASKED, LABELS) == untouched.score_labels(ASKED, LABELS)
    with pytest.raises(KeyError), model.using("taught"):
        pass


def test_two_adapters_stand_side_by_side(model: LanguageModel, taught: TrainedAdapter):
    with model.using("taught"):
        before = model.score_labels(ASKED, LABELS)
    model.add_adapter("other", Path(taught.directory))
    model.remove_adapter("taught")
    with model.using("other"):
        assert model.score_labels(ASKED, LABELS) == before


def test_an_adapter_of_another_base_is_refused(model: LanguageModel, taught: TrainedAdapter, tmp_path: Path):
    foreign = Path(shutil.copytree(taught.directory, tmp_path / "foreign"))
    record = json.loads((foreign / "errata.json").read_text())
    (foreign / "errata.json").write_text(json.dumps(record | {"base_sha256": "sha256:other"}))
    with pytest.raises(WrongBaseModel, match="sha256:other"):
        model.add_adapter("foreign", foreign)


def test_an_adapter_that_names_no_base_is_refused(model: LanguageModel, tmp_path: Path):
    with pytest.raises(WrongBaseModel, match="does not say"):
        model.add_adapter("unknown", tmp_path)


WEIGHTS = "adapter_model.safetensors"
HUGE = struct.pack("<Q", 2**63)


def _pickled(adapter: Path) -> None:
    torch.save(load_weights((adapter / WEIGHTS).read_bytes()), adapter / WEIGHTS)


def _with_a_pickle_beside(adapter: Path) -> None:
    torch.save({}, adapter / "adapter_model.bin")


def _configured(**more: object) -> Callable[[Path], None]:
    def change(adapter: Path) -> None:
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | more))

    return change


def _changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(adapter: Path) -> None:
        tensors = load_weights((adapter / WEIGHTS).read_bytes())
        change(tensors)
        save_file(tensors, adapter / WEIGHTS)

    return rewrite


def _headed(header: bytes) -> Callable[[Path], None]:
    return lambda adapter: (adapter / WEIGHTS).write_bytes(header)


def _described(**tensors: list[int]) -> bytes:
    """Return a file of eight bytes of weights, whose header says where each tensor lies."""
    described = {name: {"dtype": "F32", "shape": [2], "data_offsets": at} for name, at in tensors.items()}
    header = json.dumps(described).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


TWICE = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}'
DAMAGED = {
    "pickled weights under the usual name": _pickled,
    "pickled weights beside": _with_a_pickle_beside,
    "code of a class to import": _configured(auto_mapping={"parent_library": "os", "base_model_class": "x"}),
    "whole layers": _configured(modules_to_save=["lm_head"]),
    "another method": _configured(peft_type="IA3"),
    "no number": _changed(lambda tensors: next(iter(tensors.values())).fill_(float("nan"))),
    "infinite": _changed(lambda tensors: next(iter(tensors.values())).fill_(float("inf"))),
    "a weight of the base": _changed(lambda tensors: tensors.update({"model.embed_tokens": torch.ones(2)})),
    "a header of 2^63 bytes": _headed(HUGE),
    "weights that overlap": _headed(_described(a=[0, 8], b=[0, 8])),
    "weights beyond the end": _headed(_described(a=[0, 2**40])),
    "a name twice": _headed(struct.pack("<Q", len(TWICE)) + TWICE + bytes(8)),
    "nothing": _headed(b""),
}


@pytest.fixture
def adapter(taught: TrainedAdapter, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught.directory, tmp_path / "adapter"))


def _base_of(adapter: Path) -> str:
    return json.loads((adapter / "errata.json").read_text())["base_sha256"]


def test_an_adapter_of_ours_is_taken(adapter):
    check_base(adapter, _base_of(adapter))


@pytest.mark.parametrize("damage", DAMAGED)
def test_an_adapter_that_somebody_changed_is_refused(adapter, damage):
    base = _base_of(adapter)
    DAMAGED[damage](adapter)
    with pytest.raises(ForeignAdapter):
        check_base(adapter, base)
