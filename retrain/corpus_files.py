"""Reads a corpus from files, folders, the hub and tools, whatever state it is in: one bad line loses nothing else.

Imported by workers only, for it loads `datasets`.
"""

import codecs
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, load_dataset

from retrain.amounts import how_many
from retrain.corpus import CorpusRow, Found, UnreadableCorpus, check_columns, nothing_in, row_of

# Where a record stands, and the record or why there is none.
Records = Iterator[tuple[str, Mapping[str, Any] | str]]
# What each kind of result of a Label Studio annotation says, and under which name.
_SAID = {"choices": ("label", "choices"), "textarea": ("answer", "text")}


def read(reference: str, *, columns: Mapping[str, str]) -> Iterator[Found]:
    """Yield what stands at each place of a file, of a folder's files in their order, or of a data set of the hub.

    A row without a source of its own has its file's name, or the split's. `columns` is as for `row_of`.

    Raises:
        UnreadableCorpus: there is no such thing, or `columns` names what rows do not have.
    """
    check_columns(columns)
    path = Path(reference)
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix.lower() in _FORMATS and each.is_file())
        if not files:
            raise UnreadableCorpus(f"{reference}: no file in it ends with {', '.join(_FORMATS)}")
        for each in files:
            yield from _file(each, each.relative_to(path).as_posix(), columns)
    elif path.is_file():
        yield from _file(path, path.name, columns)
    else:
        yield from _hub(reference, columns)


def read_records(
    name: str, records: Iterable[Mapping[str, Any]], *, columns: Mapping[str, str]
) -> Iterator[Found]:
    """Yield what records of an annotation tool's project hold, each in the form in which the tool exports it.

    A row without a source of its own has the project's `name`. `columns` is as for `row_of`.

    Raises:
        UnreadableCorpus: `columns` names what rows do not have.
    """
    check_columns(columns)
    for number, record in enumerate(records, start=1):
        yield _found(f"{name} record {record.get('id', number)}", _content(record), columns, source=name)


def sort_out(places: Iterable[Found]) -> tuple[dict[str, CorpusRow], list[Found]]:
    """Return the rows by their places, and what could not be read.

    Raises:
        UnreadableCorpus: there is no row at all.
    """
    rows, unread = {}, []
    for found in places:
        if found.row:
            rows[found.place] = found.row
        else:
            unread.append(found)
    if not rows:
        raise nothing_in(unread, len(unread))
    return rows, unread


def _file(path: Path, name: str, columns: Mapping[str, str]) -> Iterator[Found]:
    records = _FORMATS.get(path.suffix.lower())
    if records is None:
        yield Found(name, reason=f"no format of ours; there are {', '.join(_FORMATS)}")
        return
    is_empty = True
    try:
        for where, record in records(path):
            is_empty = False
            yield _found(f"{name} {where}", record, columns, source=path.stem)
    except (UnreadableCorpus, OSError, ValueError) as error:
        yield Found(name, reason=str(error))
    else:
        if is_empty:
            yield Found(name, reason="holds no rows")


def _hub(reference: str, columns: Mapping[str, str]) -> Iterator[Found]:
    looks_like_a_path = reference.startswith(("/", ".", "~")) or Path(reference).suffix.lower() in _FORMATS
    if looks_like_a_path or reference.count("/") > 1:
        raise UnreadableCorpus(f"{reference}: no such file or folder")
    try:
        loaded = load_dataset(reference)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreadableCorpus(
            f"{reference}: no such file or folder, and not from the hub: {error}"
        ) from error
    splits: Mapping[str, Dataset] = loaded if isinstance(loaded, dict) else {"rows": loaded}
    for split, rows in splits.items():
        for number, record in enumerate(_with_class_names(rows), start=1):
            yield _found(f"{reference} {split} row {number}", record, columns, source=f"{reference}/{split}")


def _with_class_names(rows: Dataset) -> Iterator[Mapping[str, Any]]:
    """Yield records in which a class is its name, not its number; a negative one stands for none."""
    classes = {name: each for name, each in rows.features.items() if isinstance(each, ClassLabel)}
    for record in rows:
        yield record | {
            name: None if (number := record[name]) is None or number < 0 else each.int2str(number)
            for name, each in classes.items()
        }


def _found(place: str, record: Mapping[str, Any] | str, columns: Mapping[str, str], *, source: str) -> Found:
    if isinstance(record, str):
        return Found(place, reason=record)
    try:
        row = row_of(record, columns)
    except UnreadableCorpus as error:
        return Found(place, reason=str(error))
    return Found(place, row if row.source else replace(row, source=source))


def _csv(path: Path) -> Records:
    lines = list(_lines(path))
    header_line = next((line for line in lines if line.strip()), "")
    rows = _fields(lines, delimiter=max(",;\t|", key=header_line.count))
    header = next(((line, fields) for line, fields in rows if fields), None)
    if header is None:
        return
    if isinstance(header[1], str):
        raise UnreadableCorpus(f"the header cannot be read: {header[1]}")
    names = [name.strip() for name in header[1]]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UnreadableCorpus(f"two columns are called {repeated[0]!r}; rename one")
    for line, fields in rows:
        if isinstance(fields, str):
            yield f"line {line}", fields
        elif fields and len(fields) != len(names):
            yield f"line {line}", f"{how_many(len(fields), 'field')}, but the header has {len(names)}"
        elif any(field.strip() for field in fields):
            yield f"line {line}", dict(zip(names, fields, strict=True))


def _fields(lines: Sequence[str], *, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield each row's first line and its fields, or why it has none; after a broken row the next line goes on."""
    start = 0
    while start < len(lines):
        reader = csv.reader(
            map(lines.__getitem__, range(start, len(lines))), delimiter=delimiter, strict=True
        )
        first = start
        try:
            for fields in reader:
                yield first + 1, fields
                first = start + reader.line_num
        except csv.Error as error:
            yield first + 1, f"not CSV: {error}"
            start = first + 1
        else:
            return


def _json_lines(path: Path) -> Records:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"line {number}", f"not JSON: {error}"
            else:
                is_object = isinstance(record, dict)
                yield f"line {number}", record if is_object else "not an object"


def _json(path: Path) -> Records:
    """Yield the objects of a list, also of one under a name, or what Label Studio or Argilla exported."""
    text = "".join(_lines(path))
    try:
        whole = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError):
        yield from _json_lines(path)
        return
    if isinstance(whole, dict):
        whole = next((value for value in whole.values() if isinstance(value, list)), [whole])
    if not isinstance(whole, list):
        raise UnreadableCorpus("not a list of objects")
    for number, record in enumerate(whole, start=1):
        yield f"item {number}", _content(record) if isinstance(record, dict) else "not an object"


def _content(record: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """Return what a record says, also in the form of Label Studio or Argilla, or why it says nothing."""
    try:
        if isinstance(record.get("data"), dict) and "annotations" in record:
            return _labelled(record)
        if isinstance(record.get("fields"), dict) and isinstance(record.get("responses"), dict):
            return _answered(record)
    except (AttributeError, KeyError, TypeError) as error:
        return f"not as Label Studio or Argilla exports it: {error}"
    return record


def _labelled(task: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """Return a task's data with what its first annotation that counts says."""
    given = [
        one for one in task["annotations"] or [] if isinstance(one, dict) and not one.get("was_cancelled")
    ]
    if not given:
        return "nobody has annotated it"
    first, who = given[0], given[0].get("completed_by")
    said: dict[str, Any] = {}
    for result in first.get("result") or []:
        role, key = _SAID.get(str(result.get("type")), ("", ""))
        if role and (texts := result.get("value", {}).get(key)):
            said.setdefault(role, texts if isinstance(texts, str) else texts[0])
    said["author"] = str(who.get("email", "")) if isinstance(who, dict) else ""
    said["written"] = str(first.get("updated_at") or first.get("created_at") or "")[:10]
    data: dict[str, Any] = task["data"]
    return data | {role: text for role, text in said.items() if text}


def _answered(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an Argilla record's fields with what the first answer to each question says, where it is a text."""
    given = {question: answers[0] for question, answers in record["responses"].items() if answers}
    said = {question: answer.get("value") for question, answer in given.items()}
    fields: dict[str, Any] = record["fields"]
    return fields | {question: text for question, text in said.items() if isinstance(text, str)}


def _parquet(path: Path) -> Records:
    number = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1000):
        for record in batch.to_pylist():
            number += 1
            yield f"row {number}", record


def _lines(path: Path) -> Iterator[str]:
    """Yield a text's lines: UTF-16 by its mark, else UTF-8, and what is not UTF-8 as Windows-1252, line by line."""
    with path.open("rb") as file:
        is_wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        file.seek(0)
        if not is_wide:
            for line in file:
                yield _decoded(line)
    if is_wide:
        with path.open(encoding="utf-16", newline="") as text:
            yield from text


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


_FORMATS = {
    ".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".parquet": _parquet
}  # fmt: skip
