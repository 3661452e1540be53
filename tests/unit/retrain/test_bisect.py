"""A search for what made a model worse, on trainings that are a formula: what is to blame is known exactly."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain.bisect.changes import BrokenHistory, Change, ChangeKind, Configuration, History
from retrain.bisect.finding import Verdict
from retrain.bisect.rules import BudgetTooSmall, Rules, expect
from retrain.bisect.search import find
from retrain.bisect.trials import Scores

CASES = 200
ENOUGH = Rules(max_configurations=60)


@dataclass
class Trained:
    """Loses the first cases, as many as `loses` says of the changes made; each answer is wrong by chance at times."""

    loses: Callable[[frozenset[str]], int]
    slips: float = 0.01
    asked: list[tuple[Configuration, int]] = field(default_factory=list)

    def __call__(self, configuration: Configuration, seed: int) -> Scores:
        self.asked.append((configuration, seed))
        rng = random.Random(f"{sorted(configuration.changes)} {len(configuration.untouched)} {seed}")
        lost = self.loses(configuration.changes)
        return Scores(tuple(float(case >= lost and rng.random() >= self.slips) for case in range(CASES)), 2.0)


def history(n=8, **changed):
    changes = [Change(f"c{place}", ChangeKind.BATCH, f"batch {place}") for place in range(n)]
    return History(
        "base", tuple(replace(one, **changed[one.id]) if one.id in changed else one for one in changes)
    )


def together(*guilty, lost=60):
    return Trained(lambda made: lost if made >= set(guilty) else 0)


def blamed(finding):
    return [{change.id for change in cause.changes} for cause in finding.causes]


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 16), data=st.data())
def test_a_set_of_changes_that_only_together_do_harm_is_found_exactly(n, data):
    guilty = data.draw(st.sets(st.sampled_from([f"c{place}" for place in range(n)]), min_size=1, max_size=3))
    finding = find(history(n), together(*guilty), rules=ENOUGH)
    assert blamed(finding) == [guilty]
    assert finding.verdict is (Verdict.DATA if len(guilty) == 1 else Verdict.INTERACTION)


def blamed_at_random(seed):
    """Search changes that work on each other in any way; say if anything was blamed, and if a training bears it out."""
    whole = history(6)

    def is_bad(made):
        return len(made) == 6 or (bool(made) and random.Random(f"{seed} {sorted(made)}").random() < 0.4)

    finding = find(whole, Trained(lambda made: 60 * is_bad(made)), rules=ENOUGH)
    guilty = frozenset().union(*blamed(finding))
    rest = frozenset(change.id for change in whole.changes) - guilty
    return finding.verdict is not Verdict.CANNOT_TELL, is_bad(guilty) and not is_bad(rest)


def test_however_changes_work_on_each_other_only_what_is_bad_alone_and_missed_by_a_good_rest_is_blamed():
    found = [blamed_at_random(seed) for seed in range(40)]
    assert all(is_so for is_told, is_so in found if is_told)
    assert sum(is_told for is_told, _ in found) > 20


def test_without_the_confirmation_some_would_be_blamed_wrongly(monkeypatch):
    monkeypatch.setattr("retrain.bisect.search._Search._doubt", lambda *_: 0.0)
    assert not all(is_so for is_told, is_so in map(blamed_at_random, range(40)) if is_told)


@pytest.mark.parametrize("n", [8, 16, 64])
def test_one_guilty_change_takes_about_log2_configurations(n):
    worst = max(find(history(n), together(f"c{place}")).cost.configurations for place in range(0, n, 7))
    assert worst <= Rules().allowed(n)


@pytest.mark.parametrize("kind", [ChangeKind.CODE, ChangeKind.CONFIGURATION])
def test_code_and_configuration_are_told_from_data(kind):
    finding = find(history(c3={"kind": kind}, c5={"kind": ChangeKind.CODE}), together("c3"))
    assert (finding.verdict, blamed(finding)) == (Verdict(kind), [{"c3"}])


def test_data_and_configuration_that_do_harm_only_together_are_an_interaction():
    finding = find(history(c3={"kind": ChangeKind.CONFIGURATION}), together("c3", "c6"))
    assert (finding.verdict, blamed(finding)) == (Verdict.INTERACTION, [{"c3", "c6"}])
    assert finding.sentence.startswith(
        "the interaction of configuration batch 3 and batch batch 6 made the model worse by 30."
    )


def test_two_changes_whose_harm_adds_up_are_two_causes_and_no_interaction():
    finding = find(history(), Trained(lambda made: 40 * ("c2" in made) + 30 * ("c6" in made)), rules=ENOUGH)
    assert sorted(map(sorted, blamed(finding))) == [["c2"], ["c6"]]
    assert finding.verdict is Verdict.DATA


def test_either_of_two_changes_that_do_the_same_harm_is_named():
    finding = find(history(), Trained(lambda made: 60 if {"c2", "c6"} & made else 0), rules=ENOUGH)
    assert sorted(map(sorted, blamed(finding))) == [["c2"], ["c6"]]


def test_gains_elsewhere_do_not_hide_a_loss():
    def scores(configuration, seed):
        cases = list(together("c4")(configuration, seed).cases)
        gained = 3 * len(configuration.changes)
        return Scores((*cases, *(float(place < gained) for place in range(40))), 1.0)

    assert blamed(find(history(), scores)) == [{"c4"}]


def test_equal_models_have_no_significant_regression():
    finding = find(history(), Trained(lambda _: 0))
    assert (finding.verdict, finding.causes, finding.cost.configurations) == (Verdict.NONE, (), 2)
    assert "no significant regression" in finding.sentence


def test_without_the_guilty_change_nothing_is_blamed():
    whole = history()
    rest = History("base", tuple(change for change in whole.changes if change.id != "c4"))
    assert find(whole, together("c4")).verdict is Verdict.DATA
    assert find(rest, together("c4")).verdict is Verdict.NONE


def test_what_chance_could_have_done_is_not_told_and_the_answer_says_what_it_would_take():
    def scores(configuration, seed):
        lost = random.Random(f"{sorted(configuration.changes)} {seed}").choice([0, 60])
        return Trained(lambda _: lost)(configuration, seed)

    for base in range(10):
        finding = find(replace(history(), base=f"{base}"), scores, rules=Rules(seed=base * 10))
        assert finding.verdict in (Verdict.CANNOT_TELL, Verdict.NONE)
        assert finding.verdict is Verdict.NONE or "repeats" in finding.needs


def test_a_search_that_is_over_its_budget_says_who_is_left():
    finding = find(history(64), together("c20", "c40"), rules=Rules(max_configurations=5))
    assert (finding.verdict, finding.cost.configurations) == (Verdict.CANNOT_TELL, 5)
    assert {"c40"} <= {change.id for change in finding.suspects}
    assert finding.needs == "more than 5 configurations"


def test_a_search_goes_on_from_what_was_remembered():
    remembered, first, second = {}, together("c5"), together("c5")
    whole = find(history(), together("c5"))

    def end_soon(step):
        if step.cost.trainings == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(history(), first, remembered=remembered, progress=end_soon)
    assert find(history(), second, remembered=remembered) == whole
    assert len(first.asked) + len(second.asked) == whole.cost.trainings == len(remembered)


def test_progress_tells_the_narrowing_and_the_cost():
    steps = []
    finding = find(history(16), together("c5"), progress=steps.append)
    assert [step.n_suspects for step in steps] == sorted((step.n_suspects for step in steps), reverse=True)
    assert steps[-1].cost == finding.cost
    assert steps[0].kept is None and steps[-1].kept.low > 0.5


def test_a_change_is_made_with_what_it_needs_and_undone_with_what_needs_it():
    needing = history(c5={"needs": frozenset({"c2"})})
    assert needing.making(needing.named(["c5"])).changes == {"c2", "c5"}
    assert {change.id for change in needing.without(needing.named(["c2"]))} == {
        "c0",
        "c1",
        "c3",
        "c4",
        "c6",
        "c7",
    }
    asked = together("c5")
    assert blamed(find(needing, asked)) == [{"c5"}]
    assert all("c2" in made.changes for made, _ in asked.asked if "c5" in made.changes)


def with_rows():
    return history(
        c1={"added": tuple(f"a{place}" for place in range(40))},
        c4={"added": tuple(f"b{place}" for place in range(40))},
        c6={"removed": tuple(f"d{place}" for place in range(40))},
    )


def by_rows(configuration, seed):
    wrong = (
        0
        if "c4" not in configuration.changes
        else 10 - sum(f"b{place}" in configuration.untouched for place in range(10))
    )
    return Trained(lambda _: 60 if wrong >= 5 else 0)(configuration, seed)


def test_the_rows_of_a_cause_come_worst_first_and_so_many_as_are_enough_are_tried():
    finding = find(
        with_rows(),
        by_rows,
        harm=lambda rows, _: {row: 50.0 - int(row[1:]) for row in rows if row.startswith("b")},
        rules=ENOUGH,
    )
    rows = finding.causes[0].rows
    assert [row.key for row in rows[:10]] == [f"b{place}" for place in range(10)]
    assert 5 <= sum(row.reproducing for row in rows) < 20


def test_rows_that_were_removed_harm_by_their_absence():
    finding = find(
        with_rows(),
        together("c6"),
        harm=lambda rows, _: {row: -1.0 for row in rows if row in {"d3", "d5"}},
    )
    assert [row.key for row in finding.causes[0].rows] == ["d3", "d5"]


def test_an_estimate_that_is_wrong_costs_trainings_and_never_the_answer():
    right = find(with_rows(), together("c4"), harm=lambda rows, _: {f"b{place}": 1.0 for place in range(40)})
    wrong = find(with_rows(), together("c4"), harm=lambda rows, _: {f"a{place}": 1.0 for place in range(40)})
    assert blamed(right) == blamed(wrong) == [{"c4"}]


def by_ann(places):
    """Changes of which some have answers of one annotator; learning any of their rows is estimated to harm."""
    shared = frozenset({"annotator ann", "source web"})
    whole = history(10, **{f"c{place}": {"added": (f"r{place}",), "shared": shared} for place in places})
    return whole, {f"r{place}": 1.0 for place in places}


def test_an_annotator_who_spoiled_some_rows_of_each_batch_is_one_suspect():
    whole, harm = by_ann(range(1, 9, 2))
    guilty = {f"c{place}" for place in range(1, 9, 2)}
    wrong = Trained(lambda made: 60 if len(made & guilty) > 2 else 0)
    finding = find(whole, wrong, harm=lambda *_: harm)
    assert (blamed(finding), finding.verdict) == ([guilty], Verdict.DATA), finding.sentence
    assert finding.sentence.startswith("annotator ann, in 4 changes, made the model worse by 30.")
    strangers = History("base", tuple(replace(one, shared=frozenset()) for one in whole.changes))
    assert find(strangers, wrong, harm=lambda *_: harm).verdict is not Verdict.DATA


def test_two_batches_that_interact_are_named_and_not_all_that_their_annotator_did():
    whole, _ = by_ann(range(1, 9, 2))
    finding = find(whole, together("c1", "c5"), harm=lambda *_: {"r1": 1.0, "r5": 1.0})
    assert (blamed(finding), finding.verdict) == ([{"c1", "c5"}], Verdict.INTERACTION)


def test_the_cost_is_told_before():
    likely, most = expect(history(8), Rules(), seconds_each=10)
    found = find(history(8), together("c4")).cost
    assert found.configurations <= likely.configurations <= most.configurations == 10
    assert found.trainings <= likely.trainings <= most.trainings == 30
    assert likely.seconds == 10 * likely.trainings


def test_what_no_answer_fits_into_is_refused():
    with pytest.raises(BudgetTooSmall):
        Rules(repeats=1)
    with pytest.raises(BudgetTooSmall):
        Rules(max_configurations=3)
    with pytest.raises(BrokenHistory, match="nothing changed"):
        History("base", ())
    with pytest.raises(BrokenHistory, match="two changes"):
        History("base", (history().changes[0],) * 2)
    with pytest.raises(BrokenHistory, match="needs c9"):
        history(c1={"needs": frozenset({"c9"})})


def test_trainings_scored_on_other_cases_are_refused():
    def scores(configuration, seed):
        return Scores((1.0,) * (10 + len(configuration.changes)), 1.0)

    with pytest.raises(BrokenHistory, match="cases"):
        find(history(), scores)
