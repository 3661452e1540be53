"""Training sets as files: typed, deterministic, complete."""

from dataclasses import replace

import datasets
import pyarrow.parquet as pq
import pytest

from retrain import parquet
from retrain.errors import EmptySplit, RetrainError
from retrain.parquet import FEATURES, leave_out, names, read, shards, write
from retrain.types import Example, Kind, Message, Split, content_hash


def examples(kind=Kind.CLASSIFICATION):
    turns = (Message("system", "Route."), Message("user", "Mi rodilla está hinchada 🦵"))
    row = Example("key", "group", turns, "orthopaedics", kind, None, Split.TRAIN, 0.5)
    if kind is Kind.CLASSIFICATION:
        row = replace(row, label="orthopaedics")
    return [
        row,
        replace(row, weight=1.0, rejected="eyes"),
        replace(row, split=Split.TEST),
        replace(row, answer="eyes", is_wanted=False),
    ]


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.mark.parametrize("kind", Kind)
def test_what_was_written_is_read(tmp_path, kind):
    write(examples(kind), tmp_path / "set.parquet")
    assert {content_hash(row) for row in read(tmp_path / "set.parquet")} == set(
        map(content_hash, examples(kind))
    )


def test_of_the_splits_that_are_asked_for_alone_rows_are_read(tmp_path):
    write(examples(), tmp_path / "set.parquet")
    read_alone = parquet.read_splits(tmp_path / "set.parquet", [Split.TRAIN, Split.VALIDATION])
    assert read_alone == [row for row in read(tmp_path / "set.parquet") if row.split is Split.TRAIN]
    assert len(read_alone) == 3


def test_forms_survive_the_file(tmp_path):
    write(examples(), tmp_path / "set.parquet")
    assert sorted(row.form for row in read(tmp_path / "set.parquet")) == [
        "preference",
        "sft",
        "sft",
        "single",
    ]


def test_a_file_from_before_there_were_forms_holds_wanted_answers(tmp_path):
    write(examples()[:1], tmp_path / "set.parquet")
    table = pq.read_table(tmp_path / "set.parquet").drop_columns(["rejected", "is_wanted"])
    pq.write_table(table, tmp_path / "old.parquet")
    assert list(map(content_hash, read(tmp_path / "old.parquet"))) == [content_hash(examples()[0])]


def test_equal_sets_give_equal_bytes(tmp_path):
    write(examples(), tmp_path / "a.parquet")
    renamed = [replace(row, key="k", group="g") for row in reversed(examples())]
    write(renamed, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_rows_are_ordered_by_content(tmp_path):
    write(examples(), tmp_path / "set.parquet")
    names = [row.key for row in read(tmp_path / "set.parquet")]
    assert names == sorted(names)


def test_a_set_is_mapped_with_its_types(tmp_path):
    write(examples(), tmp_path / "set.parquet")
    rows = datasets.Dataset.from_parquet(str(tmp_path / "set.parquet"), cache_dir=str(tmp_path / "cache"))
    assert rows.features == FEATURES[Kind.CLASSIFICATION]
    assert rows.cache_files


@pytest.mark.parametrize("kind", [Kind.CLASSIFICATION, Kind.GENERATION])
def test_a_set_without_some_rows_is_what_the_others_would_have_given(tmp_path, kind):
    gone, *rest = examples(kind)
    write([gone, *rest], tmp_path / "whole.parquet")
    write(rest, tmp_path / "expected.parquet")
    leave_out(tmp_path / "whole.parquet", {content_hash(gone)}, tmp_path / "rest.parquet")
    assert (tmp_path / "rest.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()
    leave_out(tmp_path / "rest.parquet", set(map(content_hash, rest)), tmp_path / "none.parquet")
    assert read(tmp_path / "none.parquet") == []


def test_an_empty_or_mixed_set_is_refused(tmp_path):
    with pytest.raises(EmptySplit):
        write([], tmp_path / "set.parquet")
    with pytest.raises(RetrainError, match="one kind"):
        write([*examples(), *examples(Kind.GENERATION)], tmp_path / "set.parquet")


def test_shards_hold_a_split_each_in_order_and_equal_sets_give_equal_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_A_SHARD", 2)
    rows = [replace(row, group="another") for row in examples()]
    written = []
    for name, order in (("one", rows), ("other", rows[::-1])):
        (tmp_path / name).mkdir()
        write(order, tmp_path / f"{name}.parquet")
        made = shards(tmp_path / f"{name}.parquet", tmp_path / name)
        written.append({each: path.read_bytes() for each, path in made.items()})
    assert written[0] == written[1]
    assert list(made) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "test-00000-of-00001.parquet",
    ]
    held = [[row.key for row in read(path)] for path in made.values()]
    assert sorted(held[0] + held[1]) == held[0] + held[1] and len(held[0]) == 2
    assert {key for keys in held for key in keys} == names(tmp_path / "one.parquet")
