"""Weights & Biases, offline: what was shown stands in the run's file."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from struct import Struct

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from retrain.errors import TrackerRefused
from retrain.wandb_runs import Shown, is_wanted, show

HEADER, BLOCK, FRAGMENT, WHOLE, LAST = 7, 32_768, Struct("<IHB"), 1, 4
RUN = Shown(
    id="run-1",
    project="clinic",
    name="v2",
    group="set v1",
    settings={"rank": 8},
    summary={"test.accuracy": 0.75},
    curve=[(1, 2.5), (2, 1.25)],
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def records(folder: Path) -> list[list[Record]]:
    """Return what each offline run's file holds."""
    return [list(_read(path)) for path in sorted(folder.rglob("*.wandb"))]


def _read(path: Path) -> Iterator[Record]:
    """Yield the records of a log of LevelDB's form: blocks of 32 KiB, each fragment with checksum, length and kind."""
    content, at, parts = path.read_bytes(), HEADER, b""
    while at + FRAGMENT.size <= len(content):
        if (room := BLOCK - at % BLOCK) < FRAGMENT.size:
            at += room
            continue
        _, size, kind = FRAGMENT.unpack_from(content, at)
        at += FRAGMENT.size
        parts += content[at : at + size]
        at += size
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)
            parts = b""


def test_an_offline_run_can_be_read_back(tmp_path: Path):
    show([RUN], tmp_path)
    show([RUN, replace(RUN, id="run-2")], tmp_path)
    first, second = records(tmp_path)
    [run] = [one.run for one in first if one.HasField("run")]
    assert (run.run_id, run.project, run.display_name, run.run_group) == ("run-1", "clinic", "v2", "set v1")
    assert {one.key: json.loads(one.value_json) for one in run.config.update}["rank"] == 8
    logged = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in one.history.item}
        for one in first
        if one.HasField("history")
    ]
    assert [(one["step"], one["loss"]) for one in logged] == [(1, 2.5), (2, 1.25)]
    told = {
        item.key or item.nested_key[0]: json.loads(item.value_json)
        for one in first
        if one.HasField("summary")
        for item in one.summary.update
    }
    assert told["test.accuracy"] == 0.75
    assert [one.run.run_id for one in second if one.HasField("run")] == ["run-2"]


def test_it_is_wanted_only_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch):
    assert is_wanted()
    monkeypatch.delenv("WANDB_MODE")
    assert not is_wanted()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert is_wanted()


def test_where_it_is_not_installed_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackerRefused, match=r"pip install 'errata\[wandb\]'"):
        show([RUN], tmp_path)
