"""The rows of a run as its method learns from them, encoded as they are read."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import torch
from transformers import PreTrainedTokenizerBase

from retrain.errors import EmptySplit, RowsTooLong
from retrain.frame import encode_example
from retrain.likelihood import Row
from retrain.methods import check_method
from retrain.types import Form, Message, Method, Split, TrainingSpec, canonical_json


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one answer teaches.

    `other` is the worse answer to the same prompt (DPO), or another prompt's, by which a model's drift is told (KTO).
    """

    row: Row
    other: Row | None = None
    is_wanted: bool = True

    @property
    def rows(self) -> list[Row]:
        """All that the model reads for it."""
        return [self.row] if self.other is None else [self.row, self.other]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    `before` is how likely the lessons' answers were before the run, shaped (n_lessons, 2); `mean_weight` all rows'.
    """

    method: Method
    lessons: Sequence[Lesson]
    before: torch.Tensor
    mean_weight: float

    def parted(self, count: int) -> list["Batch"]:
        """Return the batch in so many parts, fewer if it is small."""
        size = -(-len(self.lessons) // count)
        return [
            replace(
                self, lessons=self.lessons[start : start + size], before=self.before[start : start + size]
            )
            for start in range(0, len(self.lessons), size)
        ]


class Lessons:
    """The lessons of a run: the file stays memory-mapped, only lengths are held.

    Raises:
        EmptySplit: no row is left to train on.
        RowsTooLong: rows of the file, named by their place in it, have too many tokens.
        WrongMethod: the rows lack what the method learns from.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        tokenizer: PreTrainedTokenizerBase,
        table: datasets.Dataset,
        replay: Sequence[tuple[Sequence[Message], str]],
    ) -> None:
        self._spec, self._tokenizer, self._table, self._replay = spec, tokenizer, table, replay
        self._kept: list[tuple[int, int]] = []
        self._masses = {True: 0.0, False: 0.0}
        self.lengths: list[int] = []
        self.left_out = 0
        too_long: dict[str, int] = {}
        forms: Counter[Form] = Counter()
        digest = hashlib.sha256()
        for index in range(len(table) + len(replay)):
            kept = list(enumerate(self._read(index)))
            self.left_out += not kept
            most = max((len(row.ids) for _, lesson in kept for row in lesson.rows), default=0)
            if most > spec.max_tokens:
                if index < len(table):
                    too_long[str(index)] = most
                continue  # of the base's own answers there are others
            for place, lesson in kept:
                self._kept.append((index, place))
                self.lengths.append(max(len(row.ids) for row in lesson.rows))
                self._masses[lesson.is_wanted] += lesson.row.weight
                for row in lesson.rows:
                    digest.update(canonical_json([row.ids, row.answer_start, repr(row.weight)]))
            if index < len(table) and any(lesson.row.weight for _, lesson in kept):
                forms[_form(table[index])] += 1
        if too_long:
            raise RowsTooLong(too_long, spec.max_tokens)
        if not any(self._masses.values()):
            raise EmptySplit("no training row has a weight")
        check_method(spec.method, forms)
        self.mean_weight = sum(self._masses.values()) / len(self._kept)
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> Lesson:
        lesson = self._lesson(number)
        if self._spec.method is not Method.KTO:
            return lesson
        # Half the lessons away, so that the two answers of one pair, which are neighbours, do not meet.
        far = self._lesson((number + len(self) // 2) % len(self)).row
        row = lesson.row
        ids = [*row.ids[: row.answer_start], *far.ids[far.answer_start :]][: self._spec.max_tokens]
        # Both verdicts weigh alike in all, whatever their numbers.
        weight = row.weight * sum(self._masses.values()) / (2 * self._masses[lesson.is_wanted])
        return replace(lesson, row=replace(row, weight=weight), other=replace(row, ids=ids))

    def encoded(self, answers: Sequence[tuple[Sequence[Message], str]]) -> list[Row]:
        """Return other answers as the lessons' are read, without those that are too long."""
        rows = [self._row(messages, answer, 1.0) for messages, answer in answers]
        return [row for row in rows if len(row.ids) <= self._spec.max_tokens]

    def _lesson(self, number: int) -> Lesson:
        index, place = self._kept[number]
        return list(self._read(index))[place]

    def _read(self, index: int) -> Iterator[Lesson]:
        """Yield what a row teaches by this method; of another split than `train`, nothing."""
        if index >= len(self._table):
            messages, answer = self._replay[index - len(self._table)]
            yield Lesson(self._row(messages, answer, 1.0))
            return
        found: Mapping[str, Any] = self._table[index]
        form, method = _form(found), self._spec.method
        if found.get("split", Split.TRAIN) != Split.TRAIN or (
            form is Form.SINGLE and method is not Method.KTO
        ):
            return
        turns = [Message(turn["role"], turn["content"]) for turn in found["messages"]]
        weight = found.get("weight", 1.0)
        row = self._row(turns, found["answer"], weight)
        if form is not Form.PREFERENCE or method is Method.SFT:
            yield Lesson(row, is_wanted=form is not Form.SINGLE)
            return
        worse = self._row(turns, found["rejected"], weight)
        if method is Method.DPO:
            yield Lesson(row, other=worse)
        else:
            yield from (Lesson(row), Lesson(worse, is_wanted=False))

    def _row(self, messages: Sequence[Message], answer: str, weight: float) -> Row:
        ids, start = encode_example(self._tokenizer, messages, answer, self._spec.system_prompt)
        return Row(ids, start, weight)


def _form(found: Mapping[str, Any]) -> Form:
    if not found.get("is_wanted", True):
        return Form.SINGLE
    return Form.SFT if found.get("rejected") is None else Form.PREFERENCE
