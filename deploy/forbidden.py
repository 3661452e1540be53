"""What no line of the product may do, whatever a linter lets pass: `./run check` looks for it.

ruff's rules S (bandit's) are on as well; these are the ones that it lacks, or that a `noqa` would silence.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ("annotation", "deploy", "retrain", "service")
# What runs code when it reads data.
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# Functions by what they are called, and why nobody calls them.
CALLS = {
    "os.system": "an argument would become a command",
    "os.popen": "an argument would become a command",
    "subprocess.getoutput": "an argument would become a command",
    "pandas.read_pickle": "reading would run code",
}
# A keyword, and why nothing but False may stand beside it.
ONLY_FALSE = {
    "trust_remote_code": "a model's repository would run code here",
    "shell": "an argument would become a command",
    "allow_pickle": "an array's file would run code here",
}
TEMPLATE = re.compile(r"\|\s*safe\b|\bautoescape\s+false\b|\bsafe\s*\(")


def main() -> int:
    """Print what is forbidden and where; return 1 if there is any."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for tree in TREES
        for path in sorted((ROOT / tree).rglob("*"))
        for line, why in in_file(path)
    ]
    sys.stdout.writelines(f"{each}\n" for each in found)
    return int(bool(found))


def in_file(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a file that do what is forbidden, and why it is."""
    if path.suffix == ".py":
        return sorted(in_code(path.read_text(encoding="utf-8")))
    if path.suffix == ".html":
        return in_template(path.read_text(encoding="utf-8"))
    return []


def in_code(source: str) -> Iterator[tuple[int, str]]:
    """Yield what is forbidden in Python code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node)
        elif isinstance(node, ast.Call):
            yield from _called(node)


def in_template(source: str) -> list[tuple[int, str]]:
    """Return what is forbidden in a page's template."""
    return [
        (number, "a text would be taken for mark-up")
        for number, line in enumerate(source.splitlines(), start=1)
        if TEMPLATE.search(line)
    ]


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[int, str]]:
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
    for name in names:
        if name.partition(".")[0] in PICKLES:
            yield node.lineno, f"{name}: reading would run code"


def _called(node: ast.Call) -> Iterator[tuple[int, str]]:
    name = _name(node.func)
    given = {each.arg: each.value for each in node.keywords if each.arg}
    for keyword, why in ONLY_FALSE.items():
        if keyword in given and not _is_constant(given[keyword], of=False):
            yield node.lineno, f"{keyword}: {why}"
    if name == "torch.load" and not _is_constant(given.get("weights_only"), of=True):
        yield node.lineno, "torch.load without weights_only=True: reading would run code"
    if name in CALLS:
        yield node.lineno, f"{name}: {CALLS[name]}"


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}"
    return ""


def _is_constant(node: ast.expr | None, *, of: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is of


if __name__ == "__main__":
    sys.exit(main())
