"""Writes and reads training sets as Parquet, with one typed `datasets.Features` schema per kind."""

import json
import sys
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as arrow_dataset
import pyarrow.parquet as pq
from datasets import Features, List, Value

from retrain.errors import EmptySplit, RetrainError
from retrain.types import Example, Kind, Message, Settled, Split, content_hash

ROWS_A_GROUP = 10_000
ROWS_A_SHARD = 1_000
_COLUMNS = {
    "messages": List({"role": Value("string"), "content": Value("string")}),
    "answer": Value("string"),
    "kind": Value("string"),
    "split": Value("string"),
    "weight": Value("float64"),
    "rejected": Value("string"),
    "is_wanted": Value("bool"),
}
FEATURES = {
    Kind.CLASSIFICATION: Features({**_COLUMNS, "label": Value("string")}),
    Kind.GENERATION: Features(_COLUMNS),
    Kind.CONVERSATION: Features(_COLUMNS),
    Kind.EXTRACTION: Features(_COLUMNS),
}


def write(examples: Sequence[Example], path: Path) -> None:
    """Write a set's content, ordered by content hash; equal sets give equal bytes, lineage stays outside.

    Raises:
        EmptySplit: there are no examples.
        RetrainError: the examples are of several kinds.
    """
    kinds = {example.kind for example in examples}
    if not kinds:
        raise EmptySplit("a training set without examples cannot be written")
    if len(kinds) > 1:
        raise RetrainError(f"one training set holds one kind of example, not {sorted(kinds)}")
    kind = kinds.pop()
    ordered = sorted(examples, key=content_hash)
    _write(_batches(ordered, FEATURES[kind].arrow_schema), schema=FEATURES[kind].arrow_schema, path=path)


def write_batches(batches: Iterable[pa.RecordBatch], kind: Kind, path: Path) -> None:
    """Write rows that come in the order of their content hashes, in batches of any size, as `write` does.

    Raises:
        EmptySplit: there are no rows.
    """
    schema = FEATURES[kind].arrow_schema
    _write(_evenly(batches), schema=schema, path=path)
    if not pq.read_metadata(path).num_rows:
        raise EmptySplit("a training set without examples cannot be written")


def batch_of(rows: Sequence[Settled | Example], splits: Sequence[Split], schema: pa.Schema) -> pa.RecordBatch:
    """Return the content of rows, each in its split, as columns."""
    return pa.RecordBatch.from_arrays([_column(field, rows, splits) for field in schema], schema=schema)


def read(path: Path) -> list[Example]:
    """Read a set's rows; key and group are their content hash, since lineage is not in the file.

    Files from before there were `rejected` and `is_wanted` hold wanted answers alone.
    """
    batches = pq.ParquetFile(path).iter_batches(batch_size=ROWS_A_GROUP)
    return [_example(row) for batch in batches for row in batch.to_pylist()]


def read_splits(path: Path, splits: Collection[Split]) -> list[Example]:
    """Read a set's rows of these splits, as `read` does; rows of others are not made."""
    wanted = arrow_dataset.field("split").isin([split.value for split in splits])
    batches = arrow_dataset.dataset(path, format="parquet").to_batches(filter=wanted)
    return [_example(row) for batch in batches for row in batch.to_pylist()]


def leave_out(path: Path, names: Container[str], destination: Path) -> None:
    """Write a set as it would be without the rows of these content hashes; it may be empty then."""
    kept = [row for row in read(path) if row.key not in names]
    schema = Features.from_arrow_schema(pq.read_schema(path)).arrow_schema
    _write(_batches(kept, schema), schema=schema, path=destination)


def names(path: Path) -> set[str]:
    """Return the content hashes of a file's rows."""
    return {row.key for row in read(path)}


def shards(path: Path, folder: Path) -> dict[str, Path]:
    """Write a set's splits to files of at most `ROWS_A_SHARD` rows, in the set's order; return them by name.

    Equal sets give equal bytes; what is removed from one file leaves the others whole.
    """
    source = arrow_dataset.dataset(path, format="parquet")
    schema = Features.from_arrow_schema(source.schema).arrow_schema
    made: dict[str, Path] = {}
    for split in Split:
        rows = source.to_table(filter=arrow_dataset.field("split") == split.value)
        count = -(-rows.num_rows // ROWS_A_SHARD)
        for place in range(count):
            name = f"{split}-{place:05}-of-{count:05}.parquet"
            part = rows.slice(place * ROWS_A_SHARD, ROWS_A_SHARD).combine_chunks()
            made[name] = folder / name
            _write(iter(part.to_batches()), schema=schema, path=made[name])
    return made


def main() -> None:
    """Write the rows on stdin, one example's content as JSON a line, to the file named as the only argument."""
    write([_example(json.loads(line)) for line in sys.stdin.buffer], Path(sys.argv[1]))


def _write(batches: Iterator[pa.RecordBatch], *, schema: pa.Schema, path: Path) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            if batch.num_rows:
                writer.write_batch(batch)


def _batches(examples: Sequence[Example], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(examples), ROWS_A_GROUP):
        chunk = examples[start : start + ROWS_A_GROUP]
        yield batch_of(chunk, [example.split for example in chunk], schema)


def _evenly(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut batches anew, so that each but the last is one row group."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        while sum(each.num_rows for each in waiting) >= ROWS_A_GROUP:
            whole = pa.concat_batches(waiting)
            yield whole.slice(0, ROWS_A_GROUP)
            waiting = [whole.slice(ROWS_A_GROUP)]
    if waiting:
        yield pa.concat_batches(waiting)


def _column(field: pa.Field, rows: Sequence[Settled | Example], splits: Sequence[Split]) -> pa.Array:
    """Build one column at once: row by row, Arrow takes several times as long."""
    if field.name == "split":
        return pa.array(splits, field.type)
    if field.name != "messages":
        return pa.array(list(map(attrgetter(field.name), rows)), field.type)
    turns = [message for row in rows for message in row.messages]
    parts = [pa.array(list(map(attrgetter(name), turns)), pa.string()) for name in ("role", "content")]
    offsets = np.cumsum([0, *(len(row.messages) for row in rows)], dtype=np.int32)
    structs = pa.StructArray.from_arrays(parts, fields=list(field.type.value_type))
    return pa.ListArray.from_arrays(offsets, structs, type=field.type)


def _example(row: dict[str, Any]) -> Example:
    example = Example(
        key="",
        group="",
        messages=tuple(Message(**message) for message in row["messages"]),
        answer=row["answer"],
        kind=Kind(row["kind"]),
        label=row.get("label"),
        split=Split(row["split"]),
        weight=row["weight"],
        rejected=row.get("rejected"),
        is_wanted=row.get("is_wanted", True),
    )
    name = content_hash(example)
    return replace(example, key=name, group=name)


if __name__ == "__main__":
    main()
