"""The values retraining works on: no database, no network, no torch."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from retrain.health import Verdict

# How `retrain.frame` puts a conversation to a model.
FRAME_VERSION = "chat-1"


class Kind(StrEnum):
    """What an example teaches: a label, a response, the last turn of a conversation, or entities as canonical JSON."""

    CLASSIFICATION = "classification"
    GENERATION = "generation"
    CONVERSATION = "conversation"
    EXTRACTION = "extraction"


class Form(StrEnum):
    """How a row can be learned from: by its answer, by a better and a worse one, or by a verdict alone."""

    SFT = "sft"
    PREFERENCE = "preference"
    SINGLE = "single"


class Split(StrEnum):
    """The part of a training set that an example is in; only evaluation reads `TEST` and `REGRESSION`.

    `REGRESSION` holds flags that were resolved and must stay so.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    REGRESSION = "regression"
    TEST = "test"


class Mode(StrEnum):
    """Where a training run starts: at the base model, or at the champion's adapter."""

    FRESH = "fresh"
    CONTINUE = "continue"


class Method(StrEnum):
    """What a run learns by: wanted answers; these and, of pairs, which is better; or verdicts on answers."""

    SFT = "sft"
    DPO = "dpo"
    KTO = "kto"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row to learn from: a prompt (ending in a user's turn) and the answer people settled on.

    For classification `answer` is the label's text, or by `label_of` that of several. `rejected` is the answer that
    people corrected; without `is_wanted` they only said that `answer` is wrong. `key` (our settlement), `group`
    (near-duplicate cluster or conversation) and what follows `attributes` belong to the lineage, not to the content.
    `person` caused the row; `was_wrong` tells what experts found of the model's own answer, None where it gave none;
    `reasons` are the flags'.
    """

    key: str
    group: str
    messages: tuple[Message, ...]
    answer: str
    kind: Kind
    label: str | None = None
    split: Split = Split.TRAIN
    weight: float = 1.0
    rejected: str | None = None
    is_wanted: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    person: str = ""
    language: str | None = None
    written: date | None = None
    was_wrong: bool | None = None
    reasons: tuple[str, ...] = ()

    @property
    def content(self) -> dict[str, Any]:
        """What the fingerprint covers, split included."""
        return content_of(self, self.split)

    @property
    def form(self) -> Form:
        """The most that the row can teach."""
        if not self.is_wanted:
            return Form.SINGLE
        return Form.SFT if self.rejected is None else Form.PREFERENCE

    @property
    def prompt(self) -> str:
        """The user's last words."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Settled:
    """One settled answer, before it has a group and a split.

    `is_random` says that its response was drawn at random and nobody had flagged it, `is_flag` that somebody had;
    `was_wrong` what experts found of it, if it is the model's own, and `reasons` what those said who flagged it.
    `subject` is who asked, `person` who caused the settlement: the first to flag, else who asked. `is_case` says that a
    suite holds it: models are judged by it, and nothing learns it.
    """

    key: str
    messages: tuple[Message, ...]
    answer: str
    kind: Kind
    label: str | None = None
    weight: float = 1.0
    rejected: str | None = None
    is_wanted: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    language: str | None = None
    written: date | None = None
    conversation: str | None = None
    subject: str | None = None
    person: str = ""
    is_random: bool = False
    is_flag: bool = False
    is_case: bool = False
    was_wrong: bool | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """A settled answer of an earlier version and the group it was put into there."""

    settled: Settled
    group: str


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """All that decides a training run's result, so that it can be run again.

    `replay_earlier` is the share of the previous sets' examples mixed in; `replay_general` the number of the base
    model's own answers to general prompts. `training_set` is a fingerprint, `base_sha256` and `parent_adapter`
    are hashes of content. `targets` names the layers that a fresh adapter changes, none named the usual ones.
    `base_bits` is what a weight of the base takes while it is learned on: 16, or 4 for QLoRA.
    """

    base_model: str
    base_sha256: str
    training_set: str
    system_prompt: str
    mode: Mode = Mode.FRESH
    method: Method = Method.SFT
    parent_adapter: str | None = None
    targets: tuple[str, ...] = ()
    base_bits: int = 16
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    learning_rate: float = 5e-4
    epochs: int = 3
    batch_size: int = 8
    max_tokens: int = 512
    replay_earlier: float = 1.0
    replay_general: int = 40
    checkpoint_every: int = 20
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; fields of later days are in it only where they say something.

        So specs that were recorded before keep their bytes, and code that was archived before reads them.
        """
        unsaid = {"method": Method.SFT, "targets": (), "base_bits": 16}
        return {name: value for name, value in asdict(self).items() if unsaid.get(name, ...) != value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "TrainingSpec":
        """Read a recorded spec."""
        read = dict(document) | {"mode": Mode(document["mode"])}
        read["method"] = Method(document.get("method", Method.SFT))
        return cls(**read | {"targets": tuple(document.get("targets", ()))})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training run is; `loss` is the last step's mean over answer tokens, `seconds` all steps' time.

    `losses` and the gradient's `norms` have one entry per step, `probes` the loss of answers that are not learned
    from, by the steps done; all grow on.
    """

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds: float = 0.0
    losses: Sequence[float] = ()
    norms: Sequence[float] = ()
    probes: Mapping[int, float] = field(default_factory=dict)
    verdict: Verdict | None = None
    out_of_memory: str = ""

    @property
    def seconds_left(self) -> float:
        """How long the rest takes if it goes on as all its steps went, those before a restart too."""
        return self.seconds / self.step * (self.steps - self.step)


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """A finished run: the adapter's directory and what training saw. `losses` has one entry per step."""

    directory: str
    losses: tuple[float, ...]
    tokens: int
    seconds: float


class Mending(StrEnum):
    """What a model answers to a flagged question, asked again: as it was corrected, as it was flagged, or otherwise."""

    CORRECTED = "corrected"
    AS_BEFORE = "as_before"
    OTHERWISE = "otherwise"


@dataclass(frozen=True, slots=True)
class Case:
    """One question of a suite. `check` says how an answer is judged: see `retrain.metrics.CHECKS`.

    What follows `slices` serves single metrics. `pair` is the key of the case that this one varies. An answer must say
    one of `accepted` and none of `forbidden`. `context` is what it may rest on, `checklist` what the conversation must
    have settled (alternatives parted by "|"), `missing` what must be asked for, and `roles` says who is who, by role.
    """

    key: str
    suite: str
    messages: tuple[Message, ...]
    expected: str
    check: str
    slices: Mapping[str, str] = field(default_factory=dict)
    pair: str = ""
    accepted: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    checklist: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_labelled(self) -> bool:
        """Whether the model chooses among the project's labels, and does not write."""
        return self.check.endswith("label")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a tag of the data repository adds, by path: `files` go to DVC, `facts` into Git.

    Nothing can be erased from Git, so facts hold no personal text.
    """

    files: Mapping[str, Path]
    facts: Mapping[str, bytes]
    at: datetime


def label_of(labels: Iterable[str]) -> str:
    """Return several labels as the one text that is learned: sorted, `Billing; Skin`."""
    return "; ".join(sorted({*labels}))


def labels_in(text: str) -> frozenset[str]:
    """Return the labels that a text names, in whatever order; what names none stands for itself."""
    return frozenset(label for part in re.split("[;\n]", text) if (label := part.strip())) or frozenset(
        {text}
    )


def version_tag(version: int, revision: int = 1) -> str:
    """Return how a revision of a set's version is named in tags: `v3`, then `v3-2`."""
    return f"v{version}" if revision == 1 else f"v{version}-{revision}"


def canonical_json(value: object) -> bytes:
    """Encode as JSON that is the same for equal values: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


def sha256_of(value: object) -> str:
    """Return `sha256:…` of a JSON value's canonical form."""
    return f"sha256:{hashlib.sha256(canonical_json(value)).hexdigest()}"


def content_of(row: Settled | Example, split: Split) -> dict[str, Any]:
    """Return what the fingerprint covers of a row."""
    return content(
        answer=row.answer,
        is_wanted=row.is_wanted,
        kind=row.kind,
        label=row.label,
        messages=[{"content": message.content, "role": message.role} for message in row.messages],
        rejected=row.rejected,
        split=split,
        weight=float(row.weight),
    )


def content(
    *,
    answer: str,
    is_wanted: bool,
    kind: str,
    label: str | None,
    messages: Sequence[Mapping[str, str]],
    rejected: str | None,
    split: str,
    weight: float,
) -> dict[str, Any]:
    """Return a row's content in the order of canonical JSON; what it lacks has no say, so that old names stay."""
    said: dict[str, Any] = {"answer": answer}
    if not is_wanted:
        said["is_wanted"] = False
    said["kind"], said["label"], said["messages"] = kind, label, messages
    if rejected is not None:
        said["rejected"] = rejected
    said["split"], said["weight"] = split, weight
    return said


def content_hash(example: Example) -> str:
    """Return the hash that names a row's content, split included."""
    return content_hash_in(example.split, example)


def content_hash_in(split: Split, row: Settled | Example) -> str:
    """Return the `content_hash` that a row has in a split."""
    return hash_of_content(content_of(row, split))


def hash_of_content(said: Mapping[str, Any]) -> str:
    """Return `sha256_of` a `content`, which is in order, by a faster encoder of equal bytes."""
    return f"sha256:{hashlib.sha256(orjson.dumps(said)).hexdigest()}"
