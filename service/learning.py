"""How a spec becomes an adapter: the rows it chooses, what it replays, where it goes on from."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from annotation.triage import random_share
from retrain.errors import RowsTooLong
from retrain.machine import machine
from retrain.methods import check_method, forms_of
from retrain.suites import ask_generally, replay_prompts
from retrain.types import Example, Message, Mode, Progress, Split, TrainedAdapter, TrainingSpec, content_hash
from service.errors import NotFound
from service.runtime import Runtime
from service.settings import Settings
from service.tables import TrainingSet

PROBED, PROBED_AT_LEAST = 32, 8
ROW_CHARS = len("sha256:") + 12


class Located(Protocol):
    """A base model on this machine's disk."""

    @property
    def directory(self) -> Path: ...
    @property
    def sha256(self) -> str: ...


class Trainer(Protocol):
    """What a job hands over, so that this module loads without torch."""

    def locate(self, reference: str) -> Located: ...
    def read(self, path: Path) -> list[Example]: ...
    def write(self, examples: Sequence[Example], path: Path) -> None: ...
    def answer_as_base(self, base: Any, conversations: Sequence[Sequence[Message]]) -> list[str]: ...
    def train(
        self,
        spec: TrainingSpec,
        *,
        base: Any,
        examples: Path,
        replay: Sequence[tuple[Sequence[Message], str]],
        probe: Sequence[tuple[Sequence[Message], str]],
        output: Path,
        checkpoints: Path,
        parent: Path | None,
        report: Callable[[Progress], None],
        is_cancelled: Callable[[], bool],
    ) -> TrainedAdapter: ...
    def reload_equals(
        self, base_dir: Path, adapter: Path, conversations: Sequence[Sequence[Message]], system_prompt: str
    ) -> bool: ...


def learn(
    runtime: Runtime,
    trainer: Trainer,
    spec: TrainingSpec,
    *,
    rows: Sequence[Example],
    earlier: Collection[str],
    work: Path,
    probe: Sequence[tuple[Sequence[Message], str]] = (),
    report: Callable[[Progress], None],
    is_cancelled: Callable[[], bool],
) -> TrainedAdapter:
    """Train on rows and what the spec replays; `earlier` are contents of the set before.

    `probe` is asked now and then for its loss, which shows in what is reported.

    What an earlier try left in `work` is gone on with.

    Raises:
        WrongMethod: the rows lack what the method learns from.
        RowsTooLong: rows, named by their content, have too many tokens.
    """
    chosen = _chosen_examples(rows, spec, earlier)
    check_method(spec.method, forms_of(chosen))
    base = trainer.locate(spec.base_model)
    work.mkdir(parents=True, exist_ok=True)
    trainer.write(chosen, work / "train.parquet")
    try:
        return trainer.train(
            spec,
            base=base,
            examples=work / "train.parquet",
            replay=_replay(trainer, base, spec),
            probe=probe,
            output=work / "adapter",
            checkpoints=work / "checkpoints",
            parent=_parent(runtime, spec, work),
            report=report,
            is_cancelled=is_cancelled,
        )
    except RowsTooLong as error:
        # The file's rows are in the order of what names them.
        names = sorted(map(content_hash, chosen))
        named = {names[int(place)][:ROW_CHARS]: tokens for place, tokens in error.tokens.items()}
        raise RowsTooLong(named, error.most) from error


def environment(settings: Settings) -> dict[str, object]:
    """Return what of this machine, and of how it is used, decides an adapter's bytes."""
    processes = settings.training_processes if settings.engine == "accelerate" else 1
    return machine(settings.training_threads) | {"processes": processes}


def read_set(
    runtime: Runtime, training_set: TrainingSet, read: Callable[[Path], list[Example]]
) -> list[Example]:
    """Return a set's rows, by what reads its file."""
    with runtime.scratch() as folder:
        path = folder / "set.parquet"
        path.write_bytes(runtime.artifacts.get_bytes(training_set.artifact))
        return read(path)


def probe_of(rows: Sequence[Example], seed: int) -> list[tuple[Sequence[Message], str]]:
    """Draw wanted answers of the validation part, few, for training waits while they are asked; too few say nothing."""
    found = {row.key: row for row in rows if row.split is Split.VALIDATION and row.is_wanted}
    if len(found) < PROBED_AT_LEAST:
        return []
    chosen = random_share(sorted(found), min(1.0, PROBED / len(found)), seed=str(seed))
    return [(found[key].messages, found[key].answer) for key in chosen]


def _chosen_examples(given: Sequence[Example], spec: TrainingSpec, earlier: Collection[str]) -> list[Example]:
    """Return the rows to train on: those new in this set, and the chosen share of the earlier ones."""
    rows = {content_hash(row): row for row in given if row.split is Split.TRAIN}
    replayed = set(random_share(sorted(rows.keys() & earlier), spec.replay_earlier, seed=str(spec.seed)))
    return [row for name, row in rows.items() if name not in earlier or name in replayed]


def _replay(trainer: Trainer, base: Located, spec: TrainingSpec) -> list[tuple[Sequence[Message], str]]:
    """Let the base model answer general prompts: learning its own answers again keeps what it knows."""
    prompts = replay_prompts()
    chosen = random_share(prompts, min(1.0, spec.replay_general / len(prompts)), seed=str(spec.seed))
    conversations = [ask_generally(prompt) for prompt in chosen]
    return (
        list(zip(conversations, trainer.answer_as_base(base, conversations), strict=True)) if chosen else []
    )


def _parent(runtime: Runtime, spec: TrainingSpec, work: Path) -> Path | None:
    if spec.mode is not Mode.CONTINUE:
        return None
    if spec.parent_adapter is None:
        raise NotFound("mode: there is no adapter to continue from; the champion is the base model")
    if not (work / "parent").exists():  # an earlier attempt may have fetched it
        runtime.artifacts.fetch_directory(spec.parent_adapter, work / "parent")
    return work / "parent"
