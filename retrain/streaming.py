"""Builds a set of more rows than fit into memory, to the same name and bytes as `build` and `parquet.write`.

Rows are read once, in partitions, and laid on disk; what decides about them stays in memory. Once their splits are
known, and so their content hashes, each partition is cut into ranges of these, which are then merged.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from retrain import parquet
from retrain.choosing import Chosen, Contents, choose, fault_of, told_apart
from retrain.collector import paused_collector
from retrain.placing import Facts, Merge, Placement, facts_of, merged, place
from retrain.recipe import Recipe
from retrain.training_set import name_of
from retrain.types import Kind, Placed, Settled, Split, content, hash_of_content

_PLACE = "place"


@dataclass(frozen=True, slots=True)
class Streamed:
    """A set that lies in a file: its name, and what `Built` tells besides its rows."""

    fingerprint: str
    counts: Mapping[Split, int]
    assignments: Mapping[str, Split]
    dropped: tuple[tuple[str, str], ...]
    merges: tuple[Merge, ...]


@paused_collector()
def stream(
    partitions: Iterable[Sequence[Settled | Placed]],
    path: Path,
    *,
    kind: Kind,
    assigned: Mapping[str, Split],
    recipe: Recipe,
) -> Streamed:
    """Build a set and write it to a file; how its rows are parted has no say.

    Rows that an earlier version placed come as `Placed`.

    Raises:
        EmptySplit: no row stays.
    """
    with TemporaryDirectory(dir=path.parent) as folder:
        runs = _Runs(Path(folder), kind)
        facts = merged([runs.read(part) for part in partitions])
        placement = place(facts, assigned=assigned, recipe=recipe)
        contents = runs.order(placement)
        chosen = choose(facts, placement, contents, recipe)
        parquet.write_batches(runs.merged(chosen), kind, path)
    return Streamed(
        fingerprint=name_of((contents.names[at] for at in chosen.kept), recipe.to_json()),
        counts=Counter(placement.splits[at] for at in chosen.kept),
        assignments=placement.assignments,
        dropped=chosen.dropped,
        merges=placement.merges,
    )


class _Runs:
    """Partitions on disk: first as they were read, then each cut into the same ranges of content hashes."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        """Begin with none."""
        self._folder = folder
        self._schema = parquet.FEATURES[kind].arrow_schema
        self._paths: list[Path] = []
        self._sources: list[str] = []
        self._persons: list[str] = []
        self._faults: list[str] = []

    def read(self, part: Sequence[Settled | Placed]) -> Facts:
        """Lay a partition on disk; return what decides where its rows go."""
        rows = [row.settled if isinstance(row, Placed) else row for row in part]
        places = range(len(self._sources), len(self._sources) + len(rows))
        self._sources += [row.source for row in rows]
        self._persons += [row.person for row in rows]
        self._faults += [fault_of(row) for row in rows]
        batch = parquet.batch_of(rows, [Split.TRAIN] * len(rows), self._schema)
        table = pa.Table.from_batches([batch]).append_column(_PLACE, [list(places)])
        self._paths.append(self._folder / f"{len(self._paths)}.arrow")
        _save([table], self._paths[-1])
        return facts_of(part)

    def order(self, placement: Placement) -> Contents:
        """Cut each partition into ranges, now that splits are known; return what decides whether rows stay."""
        names: list[str] = []
        answers: dict[int, Hashable] = {}
        for path in self._paths:
            batch = next(_load(path))
            splits = placement.splits[len(names) : len(names) + batch.num_rows]
            table = pa.Table.from_batches([batch])
            table = table.set_column(table.column_names.index("split"), "split", [splits])
            for at, said in enumerate(_contents(batch, splits), len(names)):
                if at in placement.clusters:
                    pair = said["label"], said["answer"], said.get("rejected")
                    answers[at] = told_apart(*pair, is_wanted=said.get("is_wanted", True))
                names.append(hash_of_content(said))
            _save(self._ranges(table, names[-table.num_rows :]), path)
        return Contents(names, self._sources, self._persons, self._faults, answers)

    def merged(self, chosen: Chosen) -> Iterator[pa.RecordBatch]:
        """Yield the rows that stay, in the order of their content hashes."""
        ranks = np.full(len(self._sources), -1, dtype=np.int64)
        ranks[chosen.kept] = np.arange(len(chosen.kept))
        for parts in zip(*(_load(path) for path in self._paths), strict=True):
            table = pa.Table.from_batches(parts)
            ranked = ranks[table[_PLACE].to_numpy()]
            order = np.argsort(ranked)[np.count_nonzero(ranked < 0) :]
            yield from table.drop_columns(_PLACE).take(order).combine_chunks().to_batches()

    def _ranges(self, table: pa.Table, names: Sequence[str]) -> Iterator[pa.Table]:
        count = -(-len(self._sources) // parquet.ROWS_A_GROUP)
        firsts = bytes.fromhex("".join(name[7:15] for name in names))
        of_range = np.frombuffer(firsts, ">u4").astype(np.int64) * count >> 32
        ordered = table.take(np.argsort(of_range, kind="stable"))
        start = 0
        for length in np.bincount(of_range, minlength=count):
            yield ordered.slice(start, length)
            start += length


def _contents(batch: pa.RecordBatch, splits: Sequence[Split]) -> Iterator[dict[str, Any]]:
    """Yield the `content` of each row of a partition, now that their splits are known."""
    lists, columns = batch.column("messages"), batch.schema.names
    texts, roles = (lists.values.field(name).to_pylist() for name in ("content", "role"))
    turns = [{"content": text, "role": role} for text, role in zip(texts, roles, strict=True)]
    labels = batch.column("label").to_pylist() if "label" in columns else [None] * batch.num_rows
    others = (
        batch.column(name).to_pylist() for name in ("answer", "is_wanted", "kind", "rejected", "weight")
    )
    spans = pairwise(lists.offsets.to_pylist())
    rows = zip(spans, splits, labels, *others, strict=True)
    for (start, end), split, label, answer, is_wanted, kind, rejected, weight in rows:
        yield content(
            answer=answer,
            is_wanted=is_wanted,
            kind=kind,
            label=label,
            messages=turns[start:end],
            rejected=rejected,
            split=split,
            weight=weight,
        )


def _save(tables: Iterable[pa.Table], path: Path) -> None:
    """Write tables of one schema, each as one batch, be it empty."""
    with pa.OSFile(str(path), "wb") as file:
        writer = None
        for table in tables:
            writer = writer or pa.ipc.new_file(file, table.schema)
            batches = table.combine_chunks().to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema))
        if writer:
            writer.close()


def _load(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as file:
        run = pa.ipc.open_file(file)
        for number in range(run.num_record_batches):
            yield run.get_batch(number)
