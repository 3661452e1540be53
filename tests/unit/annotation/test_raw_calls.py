"""Where a connector goes past its tool's SDK, a comment names the trap that it avoids."""

import re
from pathlib import Path

import annotation

RAW = re.compile(r"_client_wrapper|\.http_client\.|client\.api\.")
SAYS = re.compile(r"# (?!noqa)")
CONNECTORS = ("argilla.py", "label_studio.py")
ABOVE = 4  # lines in which the comment may stand


def unexplained(source: str) -> list[int]:
    """Return the numbers of the lines that call past the SDK without a comment just above, or on them."""
    lines = source.splitlines()
    return [
        number
        for number, line in enumerate(lines)
        if RAW.search(line) and not any(map(SAYS.search, lines[max(0, number - ABOVE) : number + 1]))
    ]


def raw_calls() -> dict[str, int]:
    root = Path(annotation.__file__).parent
    return {name: len(RAW.findall((root / name).read_text())) for name in CONNECTORS}


def test_each_call_past_an_sdk_says_why():
    root = Path(annotation.__file__).parent
    assert {name: unexplained((root / name).read_text()) for name in CONNECTORS} == {
        name: [] for name in CONNECTORS
    }


def test_a_call_without_a_reason_is_found():
    assert unexplained("def f(client):\n    return client.http_client.get('/x')  # noqa: SLF001\n") == [1]


def test_calls_past_the_sdks_are_those_that_are_known():
    assert raw_calls() == {"argilla.py": 9, "label_studio.py": 1}


def test_other_modules_that_know_an_sdk_make_no_call_past_it():
    root = Path(annotation.__file__).parent
    others = {path.name for path in root.glob("*.py")} - set(CONNECTORS)
    assert [name for name in sorted(others) if RAW.search((root / name).read_text())] == []
