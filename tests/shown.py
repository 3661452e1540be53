"""Names of tests that catalogues refer to, looked up in the tests' own source."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def of(path: str, *names: str) -> tuple[str, ...]:
    """Name tests of one file below `tests/`."""
    return tuple(f"tests/{path}::{name}" for name in names)


def node_id(reference: str) -> str:
    """Return pytest's own name, with its class, of the one test that is called `path::test`.

    Raises:
        LookupError: there is none, or more than one.
    """
    path, _, name = reference.partition("::")
    found = [place for place in _tests(path) if place.rpartition("::")[2] == name]
    if len(found) != 1:
        raise LookupError(f"{reference}: {len(found)} tests are called so")
    return f"{path}::{found[0]}"


@cache
def _tests(path: str) -> tuple[str, ...]:
    file = ROOT / path
    return tuple(_named(ast.parse(file.read_text(encoding="utf-8")).body)) if file.is_file() else ()


def _named(body: list[ast.stmt], within: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _named(node.body, f"{within}{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield within + node.name
