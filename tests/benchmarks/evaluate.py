"""How fast SmolLM2 sits an exam: in batches and one by one, labels behind one reading of a prompt and by themselves."""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import GenerationConfig

from retrain import parquet
from retrain.base_models import BaseModel, load, locate
from retrain.examination import answer_all
from retrain.frame import encode_answer, encode_prompt
from retrain.generate import LanguageModel
from retrain.lora import train
from retrain.suites import general_cases, general_questions
from retrain.types import Case, Example, Kind, Message, TrainingSpec
from service.demo import enquiries
from service.settings import Settings
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions

TOKENS = 32
FEW = 8  # of what is slow
LABELS = enquiries.departments()
NO_RIVAL = "no figure: pip install 'errata[rivals]'"


@dataclass(slots=True)
class Spent:
    """What a block took, filled in at its end."""

    cpu: float = 0.0
    wall: float = 0.0


def measure(repetitions: Repetitions) -> Report:
    """Time the same questions by ours and by transformers alone, then a whole exam of two models."""
    base = locate("bundled:smollm2", Settings().cache_dir / "models")
    asked = [(Message("user", one.text),) for one in enquiries.load(0)][: repetitions.exam_questions]
    model = LanguageModel.load(base.directory, system_prompt=enquiries.SYSTEM_PROMPT)
    plain, tokenizer = load(base.directory)
    prompts = [encode_prompt(tokenizer, one, enquiries.SYSTEM_PROMPT) for one in asked]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other spin, which counts as CPU seconds
    rates = {
        "write, in batches": _rate(lambda: model.answer(asked, max_new_tokens=TOKENS), len(asked)),
        "write, by generate one by one": _rate(lambda: _generate(plain, prompts[:FEW]), FEW),
        "choose, labels behind one prompt": _rate(lambda: model.score_labels(asked, LABELS), len(asked)),
        "choose, each label for itself": _rate(lambda: _likelihoods(plain, tokenizer, prompts[:FEW]), FEW),
    }
    by_rival = _by_lm_eval(plain, tokenizer, [tokenizer.decode(prompt) for prompt in prompts])
    cases = [*_cases(repetitions.exam_cases), *general_cases(general_questions())]
    with TemporaryDirectory() as folder:
        model.add_adapter("sha256:new", _adapter(base, Path(folder)))
    adapters = {"champion": None, "challenger": "sha256:new"}
    torch.set_num_threads(threads)
    with _spent() as exam:
        answer_all(model, adapters, cases, LABELS, report=_tell)
    written = round(rates["write, in batches"] / rates["write, by generate one by one"], 1)
    chosen = round(rates["choose, labels behind one prompt"] / rates["choose, each label for itself"], 1)
    return Report(
        columns=("asked to", "questions a CPU second"),
        rows=[
            *((name, f"{rate:.2f}") for name, rate in rates.items()),
            *by_rival.items(),
        ],
        figures={
            "questions": len(asked),
            "labels": len(LABELS),
            "cases_of_the_exam": len(cases),
            "exam_cpu_s": round(exam.cpu),
            "exam_s": round(exam.wall),
            "threads_of_the_exam": threads,
        },
        ratios={"write": written, "choose": chosen},
        aims={
            "write_over_one_by_one": Aim(aim=10, got=written, at_least=True),
            "exam_of_two_models_s": Aim(aim=600, got=round(exam.wall)),
        },
    )


def _tell(*, step: int, steps: int, asking: str) -> None:
    sys.stderr.write(f"{asking}: {step} of {steps} answers\n")


def _rate(act: Callable[[], object], count: int) -> float:
    with _spent() as spent:
        act()
    return count / spent.cpu


@contextmanager
def _spent():
    spent = Spent()
    cpu, wall = time.process_time(), time.perf_counter()
    yield spent
    spent.cpu, spent.wall = time.process_time() - cpu, time.perf_counter() - wall


def _generate(model, prompts: Sequence[Sequence[int]]) -> None:
    """Answer by transformers' own loop, a question at a time, for as long as ours may take."""
    settings = GenerationConfig(do_sample=False, max_new_tokens=TOKENS, pad_token_id=0)
    for prompt in prompts:
        with torch.inference_mode():
            model.generate(torch.tensor([prompt]), generation_config=settings)


def _likelihoods(model, tokenizer, prompts: Sequence[Sequence[int]]) -> None:
    """Score each label by a reading of the whole prompt with it."""
    answers = [encode_answer(tokenizer, label) for label in LABELS]
    for prompt in prompts:
        for answer in answers:
            ids = torch.tensor([[*prompt, *answer]])
            with torch.inference_mode():
                logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
            logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).sum()


def _by_lm_eval(model, tokenizer, prompts: Sequence[str]) -> dict[str, str]:
    """Return how many questions a CPU second EleutherAI's harness asks the same model, in batches of our size."""
    names = ("write, by lm-eval in batches", "choose, by lm-eval in batches")
    try:
        instance = importlib.import_module("lm_eval.api.instance").Instance
        harness = importlib.import_module("lm_eval.models.huggingface").HFLM
    except ModuleNotFoundError:
        return dict.fromkeys(names, NO_RIVAL)
    theirs = harness(model, tokenizer=tokenizer, device="cpu", batch_size=16)
    until = {"until": [], "max_gen_toks": TOKENS, "do_sample": False}
    written = [instance("generate_until", {}, (prompt, until), 0) for prompt in prompts]
    chosen = [
        instance("loglikelihood", {}, (prompt, one), at)
        for prompt in prompts
        for at, one in enumerate(LABELS)
    ]
    rates = (
        _rate(lambda: theirs.generate_until(written, disable_tqdm=True), len(prompts)),
        _rate(lambda: theirs.loglikelihood(chosen, disable_tqdm=True), len(prompts)),
    )
    return {name: f"{rate:.2f}" for name, rate in zip(names, rates, strict=True)}


def _cases(count: int) -> list[Case]:
    """Return so many cases to choose a label for, of which no two are alike."""
    found = enquiries.load(0)
    openings = ("", "Hello. ", "Good morning. ", "One question: ", "Please help. ")
    told = [(f"{opening}{one.text}", one.department) for opening in openings for one in found]
    return [
        Case(f"case {number}", "test", (Message("user", text),), label, "label")
        for number, (text, label) in enumerate(told[:count])
    ]


def _adapter(base: BaseModel, folder: Path) -> Path:
    """Train an adapter by one step."""
    one = enquiries.load(0)[0]
    turns = (Message("user", one.text),)
    row = Example("k", "k", turns, one.department, Kind.CLASSIFICATION, one.department)
    parquet.write([row], folder / "set.parquet")
    spec = TrainingSpec(base.reference, base.sha256, "sha256:bench", enquiries.SYSTEM_PROMPT, epochs=1)
    made = train(
        spec,
        base=base,
        examples=folder / "set.parquet",
        replay=[],
        output=folder / "adapter",
        checkpoints=folder / "work",
        report=lambda _: None,
        is_cancelled=lambda: False,
    )
    return Path(made.directory)
