"""What a set's card says of it, as the database knows it."""

import datasets
import pytest

from retrain import parquet
from retrain.types import Split
from service.answers import cards
from service.clock import utcnow
from tests.desk import TOMORROW


@pytest.fixture
def kept(desk):
    """A set of which rows stand in two splits."""
    for number in range(12):
        desk.settle(f"word{number} other{number}", f"say{number}")
    return desk.curate(validation_share=0.3, test_from_random=False, regression_share=0)


def card_of(desk, training_set) -> str:
    return desk.runtime.artifacts.get_bytes(training_set.card).decode()


def test_datasets_finds_each_split_in_the_shards_that_the_card_names(desk, kept, tmp_path):
    datasets.disable_progress_bars()
    examples = list(desk.examples(kept).values())
    (tmp_path / "rows").mkdir()
    for split in Split:
        own = [example for example in examples if example.split is split]
        for place, shard in enumerate(part for part in (own[:2], own[2:]) if part):
            parquet.write(shard, tmp_path / f"rows/{split}-{place:05}-of-00002.parquet")
    (tmp_path / "README.md").write_text(card_of(desk, kept))
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {
        split: count for split, count in kept.counts.items() if count
    }
    assert all(set(rows["split"]) == {name} for name, rows in loaded.items()) and len(loaded) == 2


def test_waivers_in_force_are_named_without_who_gave_them(desk):
    desk.finds(desk.settle("who?", "Ann"))
    desk.waive(desk.finding(desk.curate()))
    desk.settle("where?", "there")
    text = card_of(desk, desk.curate())
    assert f"| noise | {(utcnow() + TOMORROW).date()} |" in text
    assert "olga" not in text and "| known" not in text


def test_a_waiver_that_has_ended_is_not_named(desk, monkeypatch):
    desk.finds(desk.settle("who?", "Ann"))
    desk.waive(desk.finding(desk.curate()), utcnow().date())
    desk.settle("where?", "there")
    monkeypatch.setattr(cards, "utcnow", lambda: utcnow() + TOMORROW)
    assert "| noise | 2" not in card_of(desk, desk.curate())
