"""What is pinned is not older than the floor that a known fault sets."""

import re
from pathlib import Path

import bootstrap
import pytest
from packaging.version import Version

FLOORS = Path(bootstrap.CONSTRAINTS).with_name("floors.txt")
LINE = re.compile(r"^([a-z0-9-]+)>=([0-9.]+)  # (\S.{9,})$")


def floors() -> dict[str, str]:
    lines = [line for line in FLOORS.read_text().splitlines() if not line.startswith("#")]
    return {found[1]: found[2] for found in map(LINE.match, lines)}


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)$", text, re.MULTILINE))


def below(pinned: dict[str, str]) -> list[str]:
    """Name what is pinned below its floor."""
    return [name for name, floor in floors().items() if Version(pinned[name]) < Version(floor)]


def test_each_floor_is_of_something_pinned_and_says_why():
    assert set(floors()) <= set(pins(bootstrap.CONSTRAINTS.read_text()))
    assert list(floors()) == sorted(floors())


def test_no_pin_is_below_its_floor():
    assert below(pins(bootstrap.CONSTRAINTS.read_text())) == []


@pytest.mark.parametrize("name", ["jinja2", "torch", "mlflow-skinny"])
def test_a_pin_below_its_floor_is_found(name):
    assert below(pins(bootstrap.CONSTRAINTS.read_text()) | {name: "1.27.0"}) == [name]
