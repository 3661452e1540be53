"""Training sets: duplicates, sticky splits, names and differences."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain import choosing, parquet, training_set
from retrain.audit import Repair, RepairKind, leakage
from retrain.audit.repairs import apply
from retrain.difference import diff
from retrain.errors import EmptySplit
from retrain.near_duplicates import overlap, similarity
from retrain.placing import facts_of, merged, place
from retrain.recipe import BrokenRecipe, Recipe
from retrain.streaming import stream
from retrain.training_set import build, fingerprint
from retrain.types import Example, Kind, Message, Placed, Settled, Split, content_hash, sha256_of

KNEE = "my left knee has been swollen since i fell off the ladder on monday evening"
ROUND = Recipe(test_share=0.3, validation_share=0.2)
CAPPED = replace(ROUND, source_cap=0.6)


def settled(prompt, label="orthopaedics", **changes):
    row = Settled(f"{prompt}/{label}", (Message("user", prompt),), label, Kind.CLASSIFICATION, label)
    return replace(row, **changes)


def build_first(*rows, recipe=ROUND):
    return build(rows, earlier=[], assigned={}, recipe=recipe)


def placed(built, rows):
    groups = {example.key: example.group for example in built.examples}
    return [Placed(row, groups[row.key]) for row in rows if row.key in groups]


def test_one_of_two_near_duplicates_survives_whatever_their_order():
    rows = [settled(KNEE), settled(f"Help, {KNEE}"), settled("my eye itches")]
    built, mirrored = build_first(*rows), build_first(*reversed(rows))
    assert built == mirrored
    assert len(built.examples) == 2
    assert [reason.split(" of ")[0] for _, reason in built.dropped] == ["duplicate"]


def compared(monkeypatch, count):
    """Build a set of one conversation's rows; return how many pairs of prompts were compared."""
    pairs = []
    monkeypatch.setattr(choosing, "overlap", lambda *pair: pairs.append(pair) or overlap(*pair))
    asked = [
        f"{' '.join(f'{n // 2}{letter}' for letter in 'abcdefgh')} {'again' * (n % 2)}" for n in range(count)
    ]
    built = build_first(*(settled(prompt, conversation="c") for prompt in asked))
    assert len(built.examples) == count / 2
    return len(pairs)


def test_a_long_conversation_is_compared_in_linear_time(monkeypatch):
    few, many = (compared(monkeypatch, count) for count in (100, 1000))
    assert few
    assert many <= 10 * few


@pytest.mark.parametrize("seed", range(5))
def test_the_duplicates_are_those_that_comparing_all_rows_of_a_group_finds(seed, monkeypatch):
    chance = random.Random(seed)
    words = [f"w{n}" for n in range(25)]
    asked = [" ".join(chance.choices(words, k=12)) for _ in range(40)]
    rows = [
        settled(
            paraphrase(chance.choice(asked), chance),
            chance.choice("xy"),
            key=f"{number:03}",
            conversation=chance.choice(["c1", "c2", None]),
        )
        for number in range(300)
    ]
    built = build_first(*rows)
    assert any(reason.startswith("duplicate") for _, reason in built.dropped)

    def in_groups(*given, **named):
        placement = place(*given, **named)
        return replace(placement, clusters={at: placement.groups[at] for at in placement.clusters})

    monkeypatch.setattr(training_set, "place", in_groups)
    assert build_first(*rows) == built


def test_near_duplicates_with_different_labels_stay_for_the_audit():
    built = build_first(settled(KNEE), settled(f"Help, {KNEE}", "emergency"))
    assert len(built.examples) == 2
    assert len({example.group for example in built.examples}) == 1


def test_a_row_of_an_earlier_version_survives_its_later_duplicates():
    old = settled(KNEE)
    first = build_first(old)
    rivals = [settled(f"{word} {KNEE}") for word in ("hello", "please", "so", "well", "hi")]
    again = build([old, *rivals], earlier=placed(first, [old]), assigned=first.assignments, recipe=ROUND)
    assert [example.key for example in again.examples] == [old.key]


def test_a_row_whose_prompt_a_repair_changed_stays_in_its_split():
    rows = [settled(f"word{n} other{n}") for n in range(20)]
    first = build_first(*rows)
    turned = [replace(row, messages=(Message("user", f"new{n}"),)) for n, row in enumerate(rows)]
    again = build(turned, earlier=placed(first, rows), assigned=first.assignments, recipe=ROUND)
    splits = [{row.key: row.split for row in built.examples} for built in (first, again)]
    assert splits[0] == splits[1]


def test_a_conversation_is_one_group():
    turns = [settled(text, conversation="c1") for text in ("my eye itches", "thanks, since when is it open")]
    assert len({example.group for example in build_first(*turns).examples}) == 1


def test_random_responses_become_the_test_split():
    built = build_first(settled("my eye itches", is_random=True), settled("a rash"), recipe=Recipe())
    assert {row.key.split("/")[0]: row.split for row in built.examples}["my eye itches"] is Split.TEST


def test_random_responses_are_drawn_like_others_once_the_test_split_is_big_enough():
    recipe = Recipe(test_from_random=False, validation_share=0.0)
    assert build_first(settled(KNEE, is_random=True), recipe=recipe).examples[0].split is Split.TRAIN


def test_shares_are_met():
    built = build_first(*(settled(f"word{n} other{n}") for n in range(2000)))
    shares = [sum(row.split is split for row in built.examples) / 2000 for split in Split]
    assert shares == pytest.approx([0.5, 0.2, 0, 0.3], abs=0.04)


def test_each_labels_shares_are_met_to_within_a_row():
    labels = ["eyes"] * 10 + ["heart"] * 100 + ["skin"] * 1000
    built = build_first(*(settled(f"word{n} other{n}", label) for n, label in enumerate(labels)))
    for label in set(labels):
        splits = [row.split for row in built.examples if row.label == label]
        for split, share in ((Split.TRAIN, 0.5), (Split.VALIDATION, 0.2), (Split.TEST, 0.3)):
            assert splits.count(split) == pytest.approx(share * len(splits), abs=1)


def test_resolved_flags_alone_become_regression_cases():
    rows = [settled(f"word{n} other{n}", is_flag=n % 2 == 0) for n in range(200)]
    built = build_first(*rows, recipe=Recipe(regression_share=0.3))
    cases = {row.key for row in built.examples if row.split is Split.REGRESSION}
    assert cases and cases < {row.key for row in rows if row.is_flag}


def test_the_group_of_a_suites_case_is_never_learned():
    rows = [settled(f"word{n} other{n}") for n in range(20)]
    case = settled(KNEE, is_case=True)
    built = build_first(*rows, case, settled(f"help, {KNEE}", "skin"), recipe=Recipe(validation_share=0))
    cases = {row.key for row in built.examples if row.split is Split.REGRESSION}
    assert cases == {case.key, f"help, {KNEE}/skin"}


def test_a_suites_case_near_what_was_learned_is_left_out_and_no_other_row_is():
    first = [settled(KNEE)]
    learned = build_first(*first, recipe=Recipe(validation_share=0))
    near = settled(f"help, {KNEE}", "skin")
    for is_case, kept in ((True, 1), (False, 2)):
        rows = [*first, replace(near, is_case=is_case)]
        built = build(
            rows,
            earlier=placed(learned, first),
            assigned=learned.assignments,
            recipe=Recipe(validation_share=0),
        )
        assert len(built.examples) == kept
        assert [why for _, why in built.dropped] == ["a suite's case near what was learned"] * is_case


def test_a_person_is_one_group_if_the_recipe_says_so():
    rows = [settled(KNEE, subject="s"), settled("a rash", "skin", subject="s")]
    assert len({row.group for row in build_first(*rows).examples}) == 2
    together = build_first(*rows, recipe=replace(ROUND, group_by_subject=True))
    assert len({row.group for row in together.examples}) == 1


def test_a_source_has_at_most_its_share_of_the_training_rows():
    rows = [settled(f"word{n} other{n}", source="memos" if n < 90 else "faq") for n in range(100)]
    recipe = Recipe(validation_share=0, source_cap=0.6)
    built = build_first(*rows, recipe=recipe)
    sources = [row.source for row in built.examples]
    assert (sources.count("memos"), sources.count("faq")) == (15, 10)
    assert {reason for _, reason in built.dropped} == {"source cap: memos"}
    assert build_first(*rows[::-1], recipe=recipe) == built


def test_nobody_learns_to_say_a_placeholder():
    rows = [
        settled("whom do i ask", None, answer="write to [EMAIL]", kind=Kind.GENERATION),
        settled("and [EMAIL]?", None, answer="see section [3]", kind=Kind.GENERATION),
    ]
    built = build_first(*rows)
    assert [row.answer for row in built.examples] == ["see section [3]"]
    assert dict(built.dropped) == {rows[0].key: "placeholder in the answer"}


@pytest.mark.parametrize("answer", ["", " \n"])
def test_nobody_learns_to_say_nothing(answer):
    nothing = settled("whom do i ask", None, answer=answer, kind=Kind.GENERATION)
    wrong = replace(nothing, key="wrong", is_wanted=False)
    built = build_first(nothing, wrong)
    assert [row.key for row in built.examples] == ["wrong"]
    assert dict(built.dropped) == {nothing.key: "empty answer"}


def test_repairs_that_leave_nothing_of_an_answer_leave_its_row_out():
    row = settled("when are you open", None, answer="Thank you. Have a nice day.", kind=Kind.GENERATION)
    repairs = {
        said: Repair(RepairKind.REPLACE, (row.key,), find=said) for said in ("Thank you.", "Have a nice day.")
    }
    repaired, _ = apply([row], repairs)
    assert build_first(*repaired).dropped == ((row.key, "empty answer"),)


def test_an_answer_that_was_only_found_wrong_is_no_duplicate_of_a_right_one():
    rows = [settled(KNEE), settled(KNEE, key="wrong", is_wanted=False)]
    assert len(build_first(*rows).examples) == 2


def test_another_rejected_answer_makes_another_pair():
    said = {"label": None, "answer": "rest it", "kind": Kind.GENERATION}
    rows = [settled(KNEE, key=key, rejected=key, **said) for key in ("run", "jump")]
    assert {row.rejected for row in build_first(*rows).examples} == {"run", "jump"}
    assert len(build_first(*rows, settled(KNEE, key="again", rejected="Run!", **said)).examples) == 2


def test_another_seed_draws_another_split():
    rows = [settled(f"word{n} other{n}") for n in range(50)]
    assert build_first(*rows).assignments != build_first(*rows, recipe=replace(ROUND, seed=1)).assignments


def test_a_new_neighbour_joins_the_old_group_and_its_split():
    old = settled(KNEE, is_random=True)
    first = build_first(old)
    neighbour = settled(f"Help, {KNEE}", "emergency")
    second = build([neighbour], earlier=placed(first, [old]), assigned=first.assignments, recipe=ROUND)
    assert second.examples[0].split is Split.TEST
    assert second.examples[0].group == first.examples[0].group
    assert second.assignments == {}


def test_a_group_keeps_its_split_when_its_rows_are_gone():
    first = build_first(settled(KNEE, is_random=True))
    again = build([settled(KNEE)], earlier=[], assigned=first.assignments, recipe=ROUND)
    assert again.examples[0].split is Split.TEST


def test_when_train_and_test_groups_meet_all_join_test_and_it_is_reported():
    recipe = Recipe(validation_share=0.0)
    rows = [
        settled("my eye itches", is_random=True, conversation="a"),
        settled("a rash", conversation="b"),
        settled("chest pain", conversation="c"),
    ]
    first = build_first(*rows, recipe=recipe)
    trained = {row.group for row in first.examples if row.split is Split.TRAIN}
    bridges = [
        settled("my eye itches", "eyes", conversation="b"),
        settled("a rash", "skin", conversation="c"),
    ]
    second = build([*rows, *bridges], earlier=placed(first, rows), assigned=first.assignments, recipe=recipe)
    assert len(trained) == 2
    assert {row.split for row in second.examples} == {Split.TEST}
    assert second.assignments == dict.fromkeys(trained, Split.TEST)
    [merge] = second.merges
    assert set(merge.contaminated) == trained
    assert {merge.group, *merge.absorbed} == {*trained, *first.assignments}


def test_the_fingerprint_covers_content_split_and_recipe_only():
    rows = [settled(KNEE), settled("a rash", "dermatology")]
    examples = build_first(*rows).examples
    renamed = [replace(row, key="k", group="g", attributes={"clinic": "north"}) for row in reversed(examples)]
    recipe = ROUND.to_json()
    assert fingerprint(renamed, recipe) == fingerprint(examples, recipe)
    assert fingerprint(examples, replace(ROUND, seed=1).to_json()) != fingerprint(examples, recipe)
    moved = [replace(row, split=Split.VALIDATION) for row in examples]
    assert fingerprint(moved, recipe) != fingerprint(examples, recipe)
    worse = [replace(row, rejected="a worse answer") for row in examples]
    assert fingerprint(worse, recipe) != fingerprint(examples, recipe)


def test_a_set_of_the_first_recipe_keeps_its_name():
    examples = [replace(row, split=Split.TRAIN) for row in build_first(settled(KNEE)).examples]
    recipe = {"near_threshold": 0.8, "validation_share": 0.2, "test_share": 0.3, "test_from_random": True}
    pinned = "sha256:7eefd47d686998d361e59d998b7ed73cb22a3b883d2c70eae5a99bd395a7bb44"
    assert fingerprint(examples, recipe | {"seed": 0, "version": 1}) == pinned


@given(st.text(), st.floats(0.001, 1e6), st.sampled_from(Split), st.none() | st.text(), st.booleans())
def test_a_rows_name_is_the_hash_of_its_contents_canonical_form(answer, weight, split, rejected, is_wanted):
    row = Example("k", "g", (Message("user", answer),), answer, Kind.GENERATION, weight=weight, split=split)
    row = replace(row, rejected=rejected, is_wanted=is_wanted)
    assert content_hash(row) == sha256_of(row.content)


def test_a_diff_tells_added_removed_changed_and_moved_rows():
    stays, goes, moves, changes = build_first(*(settled(f"word{n} other{n}") for n in range(4))).examples
    comes = replace(goes, key="another", messages=(Message("user", "unheard of"),))
    moved = replace(moves, split=Split.TEST if moves.split is Split.TRAIN else Split.TRAIN)
    changed = replace(changes, answer="eyes", label="eyes")
    found = diff([stays, goes, moves, changes], [changed, moved, comes, stays])
    assert (found.added, found.removed) == ((comes,), (goes,))
    assert (found.changed, found.moved) == (((changes, changed),), ((moves, moved),))


def test_a_diff_pairs_the_two_prompts_of_one_row():
    [row] = build_first(settled(KNEE)).examples
    reworded = replace(row, messages=(Message("user", "unheard of"),))
    assert diff([row], [reworded]).changed == ((row, reworded),)


def test_a_diff_counts_repeated_rows():
    [row] = build_first(settled(KNEE)).examples
    assert diff([row], [row, row]).added == (row,)
    assert diff([row], [row]) == diff([], [])


def test_a_recipe_survives_json():
    assert Recipe.from_json(ROUND.to_json()) == ROUND
    assert Recipe.from_json({"test_share": 0}) == Recipe()


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"near": 1}, "near"),
        ({"seed": True}, "seed"),
        ({"near_threshold": "high"}, "near_threshold"),
        ({"near_threshold": 0.0}, "near_threshold"),
        ({"test_share": 0.95}, "test_share"),
        ({"validation_share": float("nan")}, "validation_share"),
        (
            {"validation_share": 0.5, "test_share": 0.3, "regression_share": 0.2},
            "must leave some for training",
        ),
        ({"source_cap": 0}, "source_cap"),
        ({"checks": "leakage"}, "checks must be a list of texts"),
        ({"group_by_subject": 1}, "group_by_subject must be true or false"),
        ({"seed": "7"}, "seed must be a whole number"),
        ({"validation_share": 10**400}, "validation_share is too large a number"),
        ({"version": 99}, "version must be from 1 to 2"),
    ],
)
def test_a_broken_recipe_is_refused_by_name(document, named):
    with pytest.raises(BrokenRecipe, match=named):
        Recipe.from_json(document)


def paraphrase(base, rng):
    """Add, drop or swap words as people do when they ask again."""
    words = base.split()
    for _ in range(rng.randrange(3)):
        place = rng.randrange(len(words))
        edits = [[*words[:place], "please", *words[place:]], words[:place] + words[place + 1 :]]
        words = rng.choice([*edits, [*words[:place], "really", *words[place + 1 :]]])
    return " ".join(words) + rng.choice(["", "!", "?"])


def a_round(rng, families, number):
    prompts = [paraphrase(rng.choice(families), rng) for _ in range(8)]
    return [
        settled(
            prompt,
            rng.choice(["eyes", "heart", "skin"]),
            key=f"{number}-{index}",
            conversation=rng.choice([None, None, None, f"c{rng.randrange(6)}"]),
            is_random=rng.random() < 0.2,
        )
        for index, prompt in enumerate(prompts)
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_group_stands_in_train_and_test_over_ten_growing_versions(seed):
    rng = random.Random(seed)
    families = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(10)]
    assigned, earlier, rows, once_test = {}, [], [], set()
    for number in range(10):
        rows += a_round(rng, families, number)
        built = build(rows, earlier=earlier, assigned=assigned, recipe=ROUND)
        assigned |= built.assignments
        earlier += placed(built, rows)
        assert not leakage.find(built.examples)
        assert all(assigned[group] is Split.TEST for group in once_test)
        assert all(assigned[row.group] is row.split for row in built.examples)
        once_test |= {row.group for row in built.examples if row.split is Split.TEST}
    # Every pair, so that what the sketches miss would show.
    tested, learned = (
        [row.prompt for row in built.examples if row.split is split] for split in (Split.TEST, Split.TRAIN)
    )
    assert max((similarity(one, other) for one in tested for other in learned), default=0) < 0.8


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_fingerprint_depends_on_neither_order_nor_keys(seed):
    rng = random.Random(seed)
    families = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(6)]
    rows = [row for number in range(3) for row in a_round(rng, families, number)]
    shuffled = [replace(row, key=f"other-{rng.random()}") for row in rng.sample(rows, len(rows))]
    names = {fingerprint(build_first(*each).examples, ROUND.to_json()) for each in (rows, shuffled)}
    assert len(names) == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_was_dropped_has_a_near_equal_survivor_with_its_answer(seed):
    rng = random.Random(seed)
    families = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(6)]
    rows = {row.key: row for number in range(3) for row in a_round(rng, families, number)}
    built = build_first(*rows.values())
    survivors = {row.key: row for row in built.examples}
    assert len(survivors) + len(built.dropped) == len(rows)
    for key, reason in built.dropped:
        twin = survivors[reason.removeprefix("duplicate of ")]
        assert similarity(twin.prompt, rows[key].messages[-1].content) >= ROUND.near_threshold
        assert twin.label == rows[key].label


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_streamed_set_has_the_name_and_the_bytes_of_a_built_one_however_rows_are_parted(
    seed, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("sets")
    rng = random.Random(seed)
    families = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(10)]
    old = a_round(rng, families, 0)
    first = build(old, earlier=[], assigned={}, recipe=CAPPED)
    earlier = placed(first, old)
    rows = [
        replace(
            row,
            source=rng.choice(["faq", "memos"]),
            weight=rng.choice([1, 2.5]),
            rejected=rng.choice([None, "Eyes."]),
            is_wanted=rng.random() < 0.9,
        )
        for row in old + a_round(rng, families, 1)
    ]
    rows.append(settled("say [EMAIL]", None, kind=Kind.CLASSIFICATION, answer="[EMAIL]", key="secret"))
    built = build(rows, earlier=earlier, assigned=first.assignments, recipe=CAPPED)
    parquet.write(built.examples, folder / "built.parquet")
    every = [*earlier, *rows]
    cuts = sorted({0, len(every), *rng.choices(range(len(every)), k=rng.randrange(5))})
    streamed = stream(
        [every[start:end] for start, end in pairwise(cuts)],
        folder / "streamed.parquet",
        kind=Kind.CLASSIFICATION,
        assigned=first.assignments,
        recipe=CAPPED,
    )
    assert streamed.fingerprint == fingerprint(built.examples, CAPPED.to_json())
    assert (folder / "streamed.parquet").read_bytes() == (folder / "built.parquet").read_bytes()
    assert (streamed.assignments, streamed.merges) == (built.assignments, built.merges)
    assert streamed.dropped == built.dropped
    assert streamed.counts == Counter(row.split for row in built.examples)


def test_more_rows_than_a_row_group_are_streamed_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_A_GROUP", 7)
    rows = [settled(f"word{n} other{n}") for n in range(40)]
    parquet.write(build_first(*rows).examples, tmp_path / "built.parquet")
    parts = [rows[:3], rows[3:33], rows[33:]]
    stream(parts, tmp_path / "streamed.parquet", kind=Kind.CLASSIFICATION, assigned={}, recipe=ROUND)
    assert (tmp_path / "streamed.parquet").read_bytes() == (tmp_path / "built.parquet").read_bytes()


def test_facts_of_partitions_add_up_whichever_are_joined_first():
    one, two, three = (facts_of([settled(f"word{n}"), settled(f"other{n}")]) for n in range(3))
    assert merged([merged([one, two]), three]) == merged([one, merged([two, three])])


def test_a_set_of_which_no_row_stays_is_not_written(tmp_path):
    with pytest.raises(EmptySplit):
        stream([], tmp_path / "x.parquet", kind=Kind.CLASSIFICATION, assigned={}, recipe=ROUND)
