"""Data cards: what the Hub reads, what people read, and nothing that a user wrote."""

from dataclasses import replace
from datetime import date

import datasets
import pytest
from huggingface_hub import DatasetCard, metadata_load

from retrain import parquet
from retrain.card import CardFacts, Waiver, count, render
from retrain.recipe import Recipe
from retrain.types import Example, Kind, Message, Split

MARK = "marker-9f2"
ROW = Example(
    key=f"{MARK}-key",
    group=f"{MARK}-group",
    messages=(Message("user", f"{MARK} prompt"),),
    answer=f"{MARK} answer",
    kind=Kind.GENERATION,
    rejected=f"{MARK} rejected",
    attributes={"note": f"{MARK} attribute"},
    source="faq | <old>",
    language="de-AT",
)
ROWS = [
    ROW,
    replace(ROW, split=Split.TEST, language=None),
    replace(ROW, rejected=None, source=""),
    replace(ROW, is_wanted=False, split=Split.REGRESSION),
]
FACTS = CardFacts(
    name="shop/v3",
    fingerprint=f"sha256:{'0' * 64}",
    kind=Kind.GENERATION,
    frozen=date(2026, 11, 22),
    counts=count(ROWS),
    recipe=Recipe().to_json(),
    files={Split.TRAIN: "data/train.parquet", Split.TEST: "data/test.parquet"},
    findings={"tone": {"warn": 2}, "leakage": {"block": 1, "info": 3}},
    waivers=[Waiver("leakage", date(2027, 1, 1))],
    agreement={"alpha": 0.8125},
    licences={"faq | <old>": "CC-BY-4.0", "memos": "Ours alone", "production": ""},
    consent={"contract": 3, "": 1},
)


def metadata(facts, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(render(facts))
    return metadata_load(path)


def test_the_hub_reads_the_metadata(tmp_path):
    assert metadata(FACTS, tmp_path) == {
        "pretty_name": "shop/v3",
        "license": ["cc-by-4.0", "other"],
        "task_categories": ["text-generation"],
        "size_categories": ["n<1K"],
        "language": ["de"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "data/train.parquet"},
                    {"split": "test", "path": "data/test.parquet"},
                ],
            }
        ],
    }


def test_the_hub_reads_the_card():
    card = DatasetCard(render(FACTS))
    assert card.data.size_categories == ["n<1K"]
    assert card.text.strip().startswith("# Training set shop/v3")


def test_datasets_loads_the_splits_that_the_card_names(tmp_path):
    datasets.disable_progress_bars()
    (tmp_path / "data").mkdir()
    for split, path in FACTS.files.items():
        parquet.write([row for row in ROWS if row.split is split], tmp_path / path)
    (tmp_path / "README.md").write_text(render(FACTS))
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {"train": 2, "test": 1}


def test_a_weight_that_a_repair_gave_is_never_silent():
    counts = count([ROW, replace(ROW, weight=2.0), replace(ROW, weight=2.0, split=Split.TEST)])
    assert counts["weight"] == {"2": {"train": 1, "test": 1}}
    assert "| 2 | 1 | 1 | 2 |" in render(replace(FACTS, counts=counts))
    assert "weight" not in count(ROWS)


@pytest.mark.parametrize(
    ("licences", "named"),
    [({}, "unknown"), ({"a": ""}, "unknown"), ({"a": "Apache-2.0", "b": "apache 2.0"}, "apache-2.0")],
)
def test_licences_bear_the_hubs_names(tmp_path, licences, named):
    assert metadata(replace(FACTS, licences=licences), tmp_path)["license"] == named


@pytest.mark.parametrize(
    ("rows", "size"), [(999, "n<1K"), (1_000, "1K<n<10K"), (4_000_000, "1M<n<10M"), (10**7, "10M<n<100M")]
)
def test_sizes_bear_the_hubs_names(tmp_path, rows, size):
    counts = {"kind": {"generation": {"train": rows}}}
    assert metadata(replace(FACTS, counts=counts), tmp_path)["size_categories"] == [size]


def test_a_language_that_is_no_tag_is_not_named(tmp_path):
    counts = count([replace(ROW, language=tag) for tag in ("en", "de_DE", "Klingon", "x")])
    assert metadata(replace(FACTS, counts=counts), tmp_path)["language"] == ["de", "en"]


def test_rows_are_counted_by_value_and_split():
    counts = count(ROWS)
    assert counts["form"] == {
        "preference": {"train": 1, "test": 1}, "sft": {"train": 1}, "single": {"regression": 1},
    }  # fmt: skip
    assert "label" not in counts
    assert all(sum(sum(of.values()) for of in values.values()) == 4 for values in counts.values())


@pytest.mark.parametrize(
    "line",
    [
        r"| faq \| \<old\> | 1 | 1 | 1 | 3 |",
        "| not stated | 1 | 0 | 0 | 1 |",
        "| leakage | block | 1 |",
        "| leakage | 2027-01-01 |",
        "| alpha | 0.812 |",
        "| production | not stated |",
        "| contract | 3 |",
        '  "near_threshold": 0.8,',
    ],
)
def test_people_read_what_the_set_holds(line):
    assert line in render(FACTS).splitlines()


def test_nothing_that_a_user_wrote_is_in_the_card():
    assert MARK not in render(FACTS)


def test_equal_facts_give_equal_bytes():
    turned = replace(
        FACTS,
        counts=count(reversed(ROWS)),
        recipe=dict(reversed(FACTS.recipe.items())),
        files=dict(reversed(FACTS.files.items())),
        findings=dict(reversed(FACTS.findings.items())),
        licences=dict(reversed(FACTS.licences.items())),
        consent=dict(reversed(FACTS.consent.items())),
    )
    assert render(turned) == render(FACTS)


def test_a_card_without_findings_or_measures_says_so():
    bare = CardFacts("shop/v1", "sha256:0", Kind.EXTRACTION, date(2026, 1, 1), {}, {})
    text = render(bare)
    assert "Nothing was found." in text
    assert "Not measured." in text
    assert "No licence is stated." in text
