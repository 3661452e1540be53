"""Facts taught to SmolLM2 in two batches: what the later takes of the earlier and all else, and what replay saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from retrain import parquet
from retrain.base_models import BaseModel, locate
from retrain.generate import LanguageModel
from retrain.lora import train
from retrain.suites import ask_generally, general_questions, replay_prompts
from retrain.types import Example, Kind, Message, Mode, TrainingSpec
from service.settings import Settings
from tests.benchmarks.report import Aim, Report
from tests.repetitions import Repetitions

SYSTEM_PROMPT = "You answer for a sports club, briefly."
GENERAL, SAID_TOKENS = 30, 48
THINGS = (
    *("a locker", "the sauna", "a towel", "a tennis court", "a racket", "a swimming lesson", "a bicycle"),
    *("a guest pass", "a lost key", "the climbing wall", "a rowing boat", "a massage", "a trial day"),
    *("a parking space", "the ice rink", "a yoga mat", "a judo suit", "a photo card", "a summer camp"),
    *("a golf cart", "the archery range", "a table", "a birthday party", "a fencing mask", "a canoe"),
)
PRICE = (
    *("What does {} cost?", "How much is {}?", "What is the price of {}?", "How much do I pay for {}?"),
    *("Please tell me what you charge for {}.", "I would like {}. What will it cost me?"),
)
TIME = (
    *("When can I book {}?", "From what time is there {}?"),
    *("At what hour do bookings open for {}?", "I want {}. From when on?"),
)
UNSAID = 2
"""How many phrasings at the end of each list are asked and never taught."""


@dataclass(frozen=True, slots=True)
class Club:
    """A base model and where adapters of it are made."""

    base: BaseModel
    folder: Path
    spec: TrainingSpec

    def teach(
        self,
        name: str,
        rows: Sequence[Example],
        replay: Sequence[tuple[Sequence[Message], str]] = (),
        parent: Path | None = None,
    ) -> Path:
        """Train an adapter, on the base or going on from another, and return it."""
        parquet.write(rows, self.folder / f"{name}.parquet")
        mode = Mode.CONTINUE if parent else Mode.FRESH
        made = train(
            replace(self.spec, mode=mode, parent_adapter=parent and parent.name),
            base=self.base,
            examples=self.folder / f"{name}.parquet",
            replay=replay,
            output=self.folder / name,
            checkpoints=self.folder / f"{name}-work",
            parent=parent,
            report=lambda _: None,
            is_cancelled=lambda: False,
        )
        return Path(made.directory)


def measure(repetitions: Repetitions) -> Report:
    """Teach two batches with and without replay; ask each adapter in words that it was not taught in."""
    taught, asked = facts(PRICE, lambda draw: f"{draw} crowns")
    taught_later, asked_later = facts(TIME, lambda draw: f"from {6 + draw % 12}:{draw % 6}0")
    base = locate("bundled:smollm2", Settings().cache_dir / "models")
    model = LanguageModel.load(base.directory, system_prompt=SYSTEM_PROMPT)
    replay = own_answers(model)
    spec = TrainingSpec(
        base.reference,
        base.sha256,
        "sha256:bench",
        SYSTEM_PROMPT,
        rank=16,
        alpha=32,
        learning_rate=1e-3,
        epochs=6,
    )
    with TemporaryDirectory() as folder:
        club = Club(base, Path(folder), spec)
        first, kept = club.teach("first", taught), club.teach("kept", taught, replay)
        adapters = {
            "base": None,
            "A": first,
            "A, base's answers replayed": kept,
            "A then B": club.teach("then", taught_later, parent=first),
            "A then B, A replayed": club.teach("replayed", [*taught_later, *taught[::2]], parent=first),
        }
        found = {
            name: score(model, adapter, {"A": asked, "B": asked_later}) for name, adapter in adapters.items()
        }
    return Report(
        columns=("adapter", "A, exact", "B, exact", "general"),
        rows=[(name, *(f"{share:.2f}" for share in shares.values())) for name, shares in found.items()],
        figures={
            f"{name} {what}": round(share, 3)
            for name, shares in found.items()
            for what, share in shares.items()
        },
        aims={
            "A_saved_by_replay": Aim(
                aim=0.2, got=found["A then B, A replayed"]["A"] - found["A then B"]["A"], at_least=True
            ),
            "general_saved_by_replay": Aim(
                aim=0.05,
                got=found["A, base's answers replayed"]["general"] - found["A"]["general"],
                at_least=True,
            ),
        },
    )


def facts(phrasings: Sequence[str], told) -> tuple[list[Example], list[Example]]:
    """Return a made-up fact of each thing in the words that are taught, and in those that are not."""
    numbers = Random(len(phrasings)).sample(range(10, 99), len(THINGS))
    rows = [
        Example(phrasing, thing, (Message("user", phrasing.format(thing)),), told(number), Kind.GENERATION)
        for phrasing in phrasings
        for thing, number in zip(THINGS, numbers, strict=True)
    ]
    taught = len(rows) - UNSAID * len(THINGS)
    return rows[:taught], rows[taught:]


def own_answers(model: LanguageModel) -> list[tuple[Sequence[Message], str]]:
    """Return what the base model says to general prompts."""
    asked = [ask_generally(prompt) for prompt in replay_prompts()[:GENERAL]]
    return list(zip(asked, model.answer(asked, max_new_tokens=SAID_TOKENS), strict=True))


def score(
    model: LanguageModel, adapter: Path | None, asked: Mapping[str, Sequence[Example]]
) -> dict[str, float]:
    """Return the share of exact answers to each batch, and of general questions that are answered right."""
    name = adapter and adapter.name
    if adapter:
        model.add_adapter(adapter.name, adapter)
    general = general_questions()
    with model.using(name):
        said = model.answer([ask_generally(one["question"]) for one in general], max_new_tokens=SAID_TOKENS)
        shares = {
            batch: share(
                answer == row.answer
                for row, answer in zip(
                    rows, model.answer([row.messages for row in rows], max_new_tokens=16), strict=True
                )
            )
            for batch, rows in asked.items()
        }
    if name:
        model.remove_adapter(name)
    return shares | {
        "general": share(one["key"] in answer for one, answer in zip(general, said, strict=True))
    }


def share(rights) -> float:
    found = list(rights)
    return sum(found) / len(found)
