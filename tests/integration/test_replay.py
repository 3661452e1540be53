"""What a training repeats against forgetting is part of its set's recipe, and on record."""

import pytest
from sqlmodel import select

from retrain.recipe import BrokenRecipe, Recipe
from retrain.training_set import fingerprint
from service.stages import training
from service.tables import TrainingRun, TrainingSet
from tests.integration.test_training_stage import Workshop

LATER = ("subject_cap", "replay_earlier", "replay_general")


class TestRuns:
    @pytest.fixture
    def workshop(self, runtime, tmp_path) -> Workshop:
        workshop = Workshop(runtime, tmp_path)
        with runtime.db.transaction() as session:
            kept = session.get_one(TrainingSet, workshop.set.id)
            kept.recipe = Recipe(replay_earlier=0.25, replay_general=3).to_json()
        return workshop

    def spec(self, workshop: Workshop, **chosen) -> dict:
        """What a run's spec came to, up to where training would begin."""
        with workshop.runtime.db.transaction() as session:
            kept = session.get_one(TrainingSet, workshop.set.id)
            run_id = training.request(workshop.runtime, session, kept, chosen).id
        workshop.is_cut_off(run_id)
        with workshop.runtime.db.reading() as session:
            return session.get_one(TrainingRun, run_id).spec

    def test_a_run_repeats_what_its_sets_recipe_says(self, workshop):
        spec = self.spec(workshop)
        assert (spec["replay_earlier"], spec["replay_general"]) == (0.25, 3)
        assert workshop.tools.seen[0].replay_earlier == 0.25

    def test_a_request_that_names_another_value_counts(self, workshop):
        spec = self.spec(workshop, replay_general=0)
        assert (spec["replay_earlier"], spec["replay_general"]) == (0.25, 0)


def test_the_card_shows_what_is_repeated(desk):
    desk.settle("who?", "Ann")
    card = desk.runtime.artifacts.get_bytes(desk.curate(replay_earlier=0.5, replay_general=7).card).decode()
    assert '"replay_earlier": 0.5' in card and '"replay_general": 7' in card


@pytest.mark.parametrize("broken", [{"replay_earlier": 1.5}, {"replay_general": -1}, {"subject_cap": 0.0}])
def test_a_recipe_that_repeats_the_impossible_is_refused(broken):
    with pytest.raises(BrokenRecipe, match=next(iter(broken))):
        Recipe(**broken)


def test_a_set_whose_recipe_was_written_before_keeps_its_name(any_desk):
    any_desk.settle("who?", "Ann")
    old = any_desk.curate()
    with any_desk.runtime.db.transaction() as session:
        kept = session.get_one(TrainingSet, old.id)
        kept.recipe = {name: value for name, value in old.recipe.items() if name not in LATER}
        kept.fingerprint = fingerprint(any_desk.examples(old).values(), kept.recipe)
    again = any_desk.curate()
    assert (again.id, again.fingerprint) == (old.id, kept.fingerprint) and any_desk.rebuild(again)["equal"]
    other = any_desk.curate(replay_general=0)
    assert other.id != old.id and other.recipe["replay_general"] == 0
    with any_desk.runtime.db.reading() as session:
        assert len(session.exec(select(TrainingSet.id)).all()) == 2
