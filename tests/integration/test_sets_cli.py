"""`errata sets`: training sets for other tools."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from sqlmodel import select

from retrain import parquet
from retrain.types import Kind, Split
from service import runtime
from service.tables import LedgerEntry, Response, TrainingSetExample
from tests.builders import add_project, add_response, add_set, add_settlement, add_task

ROWS = [("who bills me?", Split.TRAIN), ("my heart races", Split.VALIDATION), ("what do I owe?", Split.TEST)]


@pytest.fixture
def clinic(errata) -> str:
    """The name of a set with a row in each of three splits, all corrected to Billing."""
    errata("init", "--admin", "olga")
    with runtime.from_environment().db.transaction() as session:
        project = add_project(session)
        project.system_prompt = "Name the department."
        training_set = add_set(session, project)
        for asked, split in ROWS:
            task = add_task(session, project, add_response(session, project, asked=asked))
            settlement = add_settlement(session, task)
            session.add(
                TrainingSetExample(
                    training_set_id=training_set.id,
                    settlement_id=settlement.id,
                    content_sha256="sha256:0",
                    split=split,
                    group_name=asked,
                )
            )
    return "clinic/v1"


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sets_are_listed_with_their_names(errata, clinic):
    status, document = errata("sets", "list", "--project", "clinic")
    assert status == 0
    assert [(each["name"], each["counts"]["train"]) for each in document["items"]] == [(clinic, 60)]


def test_a_set_is_shown_with_its_recipe(errata, clinic):
    status, document = errata("sets", "show", clinic)
    assert (status, document["name"], document["recipe"]) == (0, clinic, {})


def test_an_unknown_set_is_a_problem_document(errata, clinic):
    assert errata("sets", "show", "clinic/v9")[1]["code"] == "not_found"


def test_a_file_holds_what_may_be_learned_from(errata, clinic, tmp_path):
    status, document = errata(
        "sets", "export", clinic, "--format", "sft", "--to", str(tmp_path / "sft.jsonl")
    )
    assert (status, document["rows"], document["left_out"]) == (0, 2, {"split": 1})
    assert document["weights_lost"] == 0
    written = read_lines(tmp_path / "sft.jsonl")
    assert {row["prompt"][-1]["content"] for row in written} == {"who bills me?", "my heart races"}
    assert written[0]["prompt"][0] == {"role": "system", "content": "Name the department."}


def test_one_split_can_be_asked_for(errata, clinic, tmp_path):
    file = tmp_path / "test.jsonl"
    errata("sets", "export", clinic, "--format", "classification", "--to", str(file), "--split", "test")
    assert read_lines(file) == [{"text": "what do I owe?", "label": "Billing"}]


def test_a_notebook_loads_the_exported_parquet_in_one_line(errata, clinic, tmp_path):
    file = tmp_path / "set.parquet"
    assert errata("sets", "export", clinic, "--format", "parquet", "--to", str(file))[0] == 0
    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows.features == parquet.FEATURES[Kind.CLASSIFICATION]
    assert sorted(rows["split"][:]) == ["train", "validation"]


@pytest.mark.parametrize("format_name", ["kto", "parquet"])
def test_the_same_set_gives_the_same_bytes(errata, clinic, tmp_path, format_name):
    for name in ("a", "b"):
        errata("sets", "export", clinic, "--format", format_name, "--to", str(tmp_path / name))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_row_without_consent_any_more_is_not_exported(errata, clinic, tmp_path):
    with runtime.from_environment().db.transaction() as session:
        for response in session.exec(select(Response)):
            response.may_train = response.messages[0]["content"] != "who bills me?"
    errata("sets", "export", clinic, "--format", "sft", "--to", str(tmp_path / "sft.jsonl"))
    assert "who bills me?" not in (tmp_path / "sft.jsonl").read_text()


def test_an_export_stands_in_the_ledger(errata, clinic, tmp_path):
    errata("sets", "export", clinic, "--format", "kto", "--to", str(tmp_path / "kto.jsonl"))
    with runtime.from_environment().db.reading() as session:
        entry = session.exec(select(LedgerEntry).where(LedgerEntry.action == "training_set_exported")).one()
    assert entry.facts == {"format": "kto", "splits": ["train", "validation"], "rows": 2}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--format", "sft", "--split", "regression"), "nothing_to_export"),
        (("--format", "sft", "--split", "train", "--split", "test"), "mixed_splits"),
        (("--format", "vibes"), "usage"),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(errata, clinic, tmp_path, more, code):
    assert errata("sets", "export", clinic, "--to", str(tmp_path / "file"), *more)[1]["code"] == code
    assert not list(tmp_path.glob("file*"))


@pytest.mark.parametrize("format_name", ["sft", "parquet"])
def test_a_file_that_cannot_be_written_is_named(errata, clinic, tmp_path, format_name):
    missing = tmp_path / "nowhere" / "file"
    status, document = errata("sets", "export", clinic, "--format", format_name, "--to", str(missing))
    assert (status, document["code"]) == (1, "invalid")
    assert str(missing) in document["detail"]


def test_an_export_loads_no_trainer():
    code = "import sys, service.cli; print([m for m in ('torch', 'datasets', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
