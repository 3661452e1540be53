"""Where a text stands: in which columns of a database, and whether in a file."""

import json
from pathlib import Path

import pyarrow.parquet as pq
from sqlalchemy import inspect, text

from service.db import Database


def columns_with(db: Database, words: str) -> set[str]:
    """Return every column, as `table.column`, in a row of which the words stand."""
    found = set()
    with db.reader.connect() as connection:
        for table in inspect(db.reader).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings():  # noqa: S608
                found |= {f"{table}.{name}" for name, value in row.items() if words in str(value)}
    return found


def readable(path: Path) -> str:
    """Return what stands in a file, unpacked if it is a Parquet file."""
    content = path.read_bytes()
    if content.startswith(b"PAR1"):
        return json.dumps(pq.read_table(path).to_pylist())
    return content.decode(errors="replace")
