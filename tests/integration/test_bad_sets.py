"""What makes no set, or cannot keep one, is refused by name; nothing half-made is seen, and a next attempt succeeds."""

import random
from pathlib import Path

import pytest
from sqlmodel import select

from retrain.audit import Repair, RepairKind, checks
from retrain.errors import BrokenArtifact, ForeignChanges
from retrain.recipe import BrokenRecipe
from service.errors import AuditBlocked, Invalid
from service.stages import intake
from service.tables import Job, JobKind, ProjectKind, Response, TrainingSet
from tests import builders
from tests.desk import Desk
from tests.integration.test_mirror import Team
from tests.limits import on_a_full_disk
from tests.storage import flip_a_bit


@pytest.fixture
def team(runtime, tmp_path) -> Team:
    return Team(runtime, str(tmp_path / "remote"))


def seen(desk: Desk) -> tuple[int, int, list[Path]]:
    """Return what a set would show in: rows, what follows from them, and files."""
    with desk.runtime.db.reading() as session:
        sets = len(session.exec(select(TrainingSet)).all())
        mirrors = len(session.exec(select(Job).where(Job.kind == JobKind.MIRROR)).all())
    store = desk.runtime.settings.data_dir / "artifacts"
    return sets, mirrors, sorted(path for path in store.rglob("*") if path.is_file())


def nothing(desk: Desk) -> None:
    """Leave it as it is."""


def settles(desk: Desk) -> str:
    return desk.settle("who?", "Ann")


def names_nobody(desk: Desk) -> None:
    desk.settle("who?", "ask [NAME]")


def withholds(desk: Desk) -> None:
    desk.settle("who?", "Ann", may_train=False)
    desk.settle("where?", "there", of_flag={"consent": False})


def drops_all(desk: Desk) -> None:
    key = settles(desk)
    desk.finds(key, proposals=[Repair(RepairKind.DROP, (key,))])
    desk.accept(desk.finding(desk.curate()))


def has_two_sources(desk: Desk) -> None:
    settles(desk)
    with desk.runtime.db.transaction() as session:
        faq = intake._source(session, desk.project, "faq").id
    desk.settle("where?", "there")
    with desk.runtime.db.transaction() as session:
        session.exec(select(Response).where(Response.text == "there")).one().source_id = faq


def is_audited_by_all(desk: Desk) -> None:
    settles(desk)
    desk.reviewer.audit = checks.run_all


def says_something_else(desk: Desk) -> None:
    desk.settle("and when?", "soon")


@pytest.mark.parametrize(
    ("arrange", "recipe", "refusal", "mend"),
    [
        (nothing, {}, (Invalid, "clinic: no settlement"), settles),
        (withholds, {}, (Invalid, "clinic: no settlement"), settles),
        (drops_all, {}, (Invalid, "clinic: .*leave none of 1 .*: repair "), says_something_else),
        (names_nobody, {}, (Invalid, "leave none of 1 .*: placeholder"), says_something_else),
        (has_two_sources, {"source_cap": 0.4}, (BrokenRecipe, "source_cap: 2 sources"), nothing),
        (is_audited_by_all, {"checks": ("tarot",)}, (checks.UnknownCheck, "tarot"), nothing),
    ],
)
def test_what_makes_no_set_is_refused_by_name(desk, arrange, recipe, refusal, mend):
    arrange(desk)
    before = seen(desk)
    error, match = refusal
    with pytest.raises(error, match=match):
        desk.curate(**recipe)
    assert seen(desk) == before
    mend(desk)
    assert desk.curate().version == before[0] + 1


def test_one_label_only_is_not_trained_on_until_there_is_another(runtime):
    desk = Desk(runtime, ProjectKind.CLASSIFICATION)
    desk.reviewer.audit = checks.run_all
    recipe = {"validation_share": 0.0, "regression_share": 0.0, "checks": ("imbalance",)}
    for number in range(6):
        desk.settle(f"question {number} about bills", builders.LABELS[0])
    with pytest.raises(AuditBlocked, match="the only label is"):
        desk.train(desk.curate(**recipe))
    for number in range(6):
        desk.settle(f"why does heart {number} race", builders.LABELS[1])
    desk.train(desk.curate(**recipe))


def test_a_full_disk_leaves_no_set(desk):
    incompressible = random.Random(0).randbytes(300_000).hex()
    desk.settle("who?", incompressible)
    before = seen(desk)
    assert desk.runtime.db.vacuum()
    desk.runtime.db.close()
    assert "File too large" in on_a_full_disk(desk.curate, max_bytes=200_000)
    assert seen(desk) == before
    assert desk.curate().version == 1


def test_a_damaged_set_is_read_by_nobody_until_it_is_built_again(team):
    settles(team)
    training_set = team.curate()
    flip_a_bit(team.runtime.settings.data_dir, training_set.artifact)
    for read in (team.rebuild, team.mirror):
        with pytest.raises(BrokenArtifact, match=training_set.artifact):
            read(training_set)
    assert team.repository.tags() == [] and training_set.artifact in team.row(training_set).failure
    assert team.curate().id == training_set.id
    assert team.rebuild(training_set)["equal"]
    assert team.mirror(training_set)["sent"] == 1 and team.row(training_set).failure is None


def test_foreign_changes_in_the_repository_are_named_and_hold_up_no_training(team):
    settles(team)
    team.mirror(team.curate())
    foreign = team.repository.directory / "notes.txt"
    foreign.write_text("mine")
    says_something_else(team)
    second = team.curate()
    with pytest.raises(ForeignChanges, match=r"notes\.txt"):
        team.mirror(second)
    assert "notes.txt" in team.row(second).failure and team.repository.tags() == ["clinic/v1"]
    team.train(second)
    foreign.unlink()
    assert team.mirror(second)["tag"] == "clinic/v2"
    assert team.row(second).failure is None and team.row(second).git_commit
