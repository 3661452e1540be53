"""After an erasure a training gives what it would have given had the person never been there, bit for bit."""

import shutil

import pytest
from sqlmodel import select

from retrain.placing import facts_of, place
from retrain.recipe import Recipe
from service.answers import erasures
from service.answers.examples import settled_answers
from service.jobs.torch_tools import TorchTools
from service.runtime import build
from service.stages import training
from service.tables import Job, JobKind, ProjectKind, SplitAssignment, TrainingSet
from tests import builders
from tests.desk import Desk
from tests.integration.test_erasure import MARKER, Clinic

ALONE = "how long is the way to the moon?"
EARLY = ("who takes my stitches out?", "what does a scan of the knee cost?", "is the pool warm in winter?")
LATE = ("when may I visit the second floor?", "may we see all the instruments of the other ward here?")
NEAR = f"may we see all the instruments of the other ward here, {MARKER}?"
OTHERS = ((ALONE,), EARLY, LATE)
QUICK = {"epochs": 2, "replay_general": 0, "replay_earlier": 0.5}


class Tools(TorchTools):
    """The real tools, but nobody starts a process to see that an adapter loads."""

    reload_equals = staticmethod(lambda *_: True)


def ask(desk: Desk, *questions: str) -> None:
    for asked in questions:
        desk.settle(asked, "long" if asked == ALONE else f"yes: {asked}", subject="Ben")


def adapter(desk: Desk, training_set: TrainingSet) -> str:
    """Train afresh as an operator would, and return the name of what came of it."""
    runtime = desk.runtime
    with runtime.db.transaction() as session:
        run = training.request(runtime, session, session.get_one(TrainingSet, training_set.id), QUICK)
        job = session.exec(select(Job.id).where(Job.kind == JobKind.TRAIN, Job.row_id == run.id)).one()
    lease = runtime.queue.lease(job)
    made = training.perform(runtime, lease, run.id, Tools(runtime.settings))
    lease.finish(made)
    return made["adapter"]


@pytest.fixture
def erased(runtime, tmp_path) -> Clinic:
    """A history in every set of which a patient had rows, one of them near to another's; then they were erased."""
    (tmp_path / "remote").mkdir()
    clinic = Clinic(runtime, str(tmp_path / "remote"))
    ask(clinic, *EARLY)
    clinic.curate()
    clinic.told(NEAR)
    ask(clinic, *LATE)
    clinic.curate()
    clinic.erase()
    return clinic


@pytest.fixture
def never(settings, migrated_sqlite, tmp_path, erased) -> Desk:
    """Another installation, where everybody else's rows have the splits that they have after the erasure."""
    runtime = build(settings.model_copy(update={"data_dir": tmp_path / "never"}))
    shutil.copy(migrated_sqlite, runtime.settings.data_dir / "errata.db")
    desk = Desk(runtime, ProjectKind.GENERATION)
    with erased.runtime.db.reading() as session:
        left = settled_answers(session, erased.project.id)
    names = place(facts_of(left), assigned={}, recipe=Recipe()).groups
    rows = erased.examples(erased.curate())
    assert len({rows[one.key].split for one in left}) > 1
    with runtime.db.transaction() as session:
        of_set = {
            "project_id": desk.project.id,
            "training_set_id": builders.add_set(session, desk.project).id,
        }
        session.add_all(
            SplitAssignment(group_name=name, split=rows[one.key].split, **of_set)
            for name, one in zip(names, left, strict=True)
        )
    yield desk
    runtime.db.close()


def test_a_training_after_an_erasure_gives_what_it_would_have_without_the_person(erased, never, monkeypatch):
    for questions in OTHERS:
        ask(never, *questions)
        without = never.curate()
    after = erased.curate()
    assert after.fingerprint == without.fingerprint and after.version > without.version
    made = adapter(never, without)
    assert adapter(erased, after) == made

    with (
        monkeypatch.context() as naive
    ):  # rows that the emptied set shares with its successor are no earlier ones
        naive.setattr(erasures, "erased_rows", lambda *_: 0)
        assert adapter(erased, after) != made

    ask(never, "and one question more, of nobody else?")
    with_another = never.curate()
    assert with_another.fingerprint != after.fingerprint
    assert adapter(never, with_another) != made
