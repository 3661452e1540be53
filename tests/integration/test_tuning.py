"""A search for better settings finds them on the validation split, sees no other, and leaves nothing behind."""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from sqlalchemy import inspect
from sqlmodel import col, select

from retrain import parquet
from retrain.audit import Finding, Severity
from retrain.errors import EmptySplit
from retrain.intervals import wilson
from retrain.suites import general_questions
from retrain.tuning.plan import Budget, Outcome, Plan, WrongPlan
from retrain.tuning.task import Task, UnseenRows
from retrain.types import Example, Kind, Message, Method, Split, TrainingSpec
from service import tunings
from service.errors import AuditBlocked, CriteriaMissing, Invalid
from service.jobs import trials
from service.jobs.tuning import Tuner
from service.queue import Lease
from service.rates import set_rates
from service.runtime import Runtime
from service.stages import training, tuning
from service.stages.curation import _finding_row
from service.tables import Job, JobKind, JobState, RunState, TrainingSet, Tuning
from tests import builders
from tests.forks import CONTEXT, preload
from tests.unit.retrain.conftest import SAID, toy_rows
from tests.waiting import eventually
from tests.words import readable
from tests.workers import do_one

COUNTS = {Split.TRAIN: 80, Split.VALIDATION: 40, Split.TEST: 20}
BAD_RATE = 0.1  # ten times what the tiny model learns well by
QUICK = {"epochs": 4, "batch_size": 4, "replay_general": 0, "learning_rate": BAD_RATE}
SERVER = "forkserver"
RATES = {"currency": "EUR", "expert_hour": 60, "compute_hour": 0.5}


def rows_of(split: Split, count: int) -> list[Example]:
    said = toy_rows(count, seed=list(Split).index(split) + 1)
    facts = {"group": "", "kind": Kind.CLASSIFICATION, "split": split}
    return [
        Example(f"{split} {number}", messages=(Message("user", text),), answer=label, label=label, **facts)
        for number, (text, label) in enumerate(said)
    ]


class Workshop:
    """A project whose labels the tiny model can learn, with a set of three splits."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.runtime, self.file = runtime, folder / "set.parquet"
        self.workers: list[BaseProcess] = []
        parquet.write([row for split, count in COUNTS.items() for row in rows_of(split, count)], self.file)
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session, labels=tuple(SAID))
            builders.add_criteria(session, self.project)
            self.set = builders.add_set(session, self.project)
            self.set.counts = {split.value: count for split, count in COUNTS.items()}
            self.set.artifact = runtime.artifacts.put_bytes(self.file.read_bytes())

    def request(self, *, start=QUICK, **wish) -> UUID:
        with self.runtime.db.transaction() as session:
            training_set = session.get_one(TrainingSet, self.set.id)
            wished = tunings.Wish(**wish)
            return tunings.request(self.runtime, session, training_set, start, wished, actor="test").id

    def tuning(self, tuning_id: UUID) -> Tuning:
        with self.runtime.db.reading() as session:
            return session.get_one(Tuning, tuning_id)

    def job(self, tuning_id: UUID, *states: JobState) -> UUID:
        """The newest job of a search, or the newest in one of these states."""
        with self.runtime.db.reading() as session:
            jobs = select(Job.id).where(Job.row_id == tuning_id, col(Job.state).in_(states or list(JobState)))
            return session.exec(jobs.order_by(col(Job.id).desc())).first()

    def lease(self, tuning_id: UUID) -> Lease:
        lease = self.runtime.queue.lease(self.job(tuning_id, JobState.PENDING))
        assert lease is not None
        return lease

    def is_due(self, tuning_id: UUID) -> bool:
        """Take back what was lost, and say whether the search waits for a worker again."""
        self.runtime.queue.sweep()
        return self.job(tuning_id, JobState.PENDING) is not None

    def worker(self, job_id: UUID) -> BaseProcess:
        """Have a process of its own do a job."""
        chosen = self.runtime.settings
        names = ("data_dir", "cache_dir", "redis_url", "training_threads")
        environment = {f"ERRATA_{name.upper()}": str(getattr(chosen, name)) for name in names}
        environment["ERRATA_LEASE_SECONDS"] = "3"
        process = CONTEXT.Process(target=do_one, args=(environment, job_id))
        process.start()
        self.workers.append(process)
        return process

    def left_behind(self) -> list[object]:
        """Processes and files of trials."""
        return [
            *forked(),
            *(path for path in self.runtime.settings.work.rglob("*") if path.name != "scratch"),
        ]


def forked() -> list[psutil.Process]:
    """Return what the server of this process has forked and still lives."""
    family = psutil.Process().children(recursive=True)
    servers = {one.pid for one in family if is_running(one) and SERVER in "".join(one.cmdline())}
    return [one for one in family if one.pid in servers and one.ppid() in servers]


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture(autouse=True)
def own_server() -> None:
    """The server that trials are forked from is what it is in a worker."""
    preload([trials.__name__])


@pytest.fixture
def workshop(runtime, tmp_path) -> Iterator[Workshop]:
    workshop = Workshop(runtime, tmp_path)
    yield workshop
    for process in workshop.workers:
        process.kill()
        process.join()


def test_from_a_rate_ten_times_too_high_a_run_a_sixth_better_is_found(workshop, work, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    found = workshop.request(trials=8, search=("learning_rate",))
    work()
    done = workshop.tuning(found)
    assert (done.state, done.trials[0]["settings"]["learning_rate"]) == (RunState.FINISHED, BAD_RATE)
    assert done.result["better"] >= 0.15, done.result["sentence"]
    assert done.result["settings"]["learning_rate"] < BAD_RATE
    whole = [one for one in done.trials if one["state"] == "complete"]
    assert all(len(one["curve"]) > 2 and one["score"]["n"] == 40 for one in whole)
    assert not workshop.left_behind()
    home = workshop.runtime.settings.data_dir
    assert len(list(home.rglob("*.wandb"))) == len(done.trials)
    learned, *_ = (row.prompt for row in rows_of(Split.TRAIN, COUNTS[Split.TRAIN]))
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {path.relative_to(home).parts[0] for path in files if learned in readable(path)} == {"artifacts"}


def test_what_was_best_trains_as_it_is_told_to_and_starts_the_next_search(workshop):
    best = {"learning_rate": 0.01, "epochs": 4, "batch_size": 4}
    tuning_id = workshop.request()
    with workshop.runtime.db.transaction() as session:
        earlier = session.get_one(Tuning, tuning_id)
        earlier.state, earlier.result = RunState.FINISHED, {"settings": best, "best": 3}
        told = tunings.describe(session, earlier)
    command, *options = told["train"].split(" --option ")
    assert command == "errata train --project clinic --set clinic/v1"
    assert training.check_options(dict(each.split("=") for each in options)) == best
    assert workshop.tuning(workshop.request()).plan["earlier"] == [best]


class Watching(Tuner):
    """The real tools, which write down what each trial is handed instead of training."""

    seen: list[Task] = []  # noqa: RUF012  a slot cannot be written

    specs: list[TrainingSpec] = []  # noqa: RUF012

    def run(self, spec, task, **_):
        self.seen.append(task)
        self.specs.append(spec)
        score = wilson(20, 40)
        known = [case.key for case in task.general[:3]] if task else []
        return Outcome(score, is_higher_better=True, kept=None, seconds=1.0, cpu_seconds=1.0, known=known)


def test_a_search_reads_no_row_of_the_test(workshop):
    tuning_id = workshop.request(trials=1)
    tools = Watching(workshop.runtime.settings, workshop.runtime)
    tuning.perform(workshop.runtime, workshop.lease(tuning_id), tuning_id, tools)
    [task] = Watching.seen
    assert Counter(row.split for row in task.rows) == {Split.TRAIN: 80, Split.VALIDATION: 40}
    with pytest.raises(UnseenRows):  # what would happen if the whole file were read
        replace(task, rows=tools.read(workshop.file))


def test_a_trial_is_trained_by_what_was_asked_for_and_the_base_is_asked_once_what_it_knows(workshop):
    tuning_id = workshop.request(start=QUICK | {"method": "dpo", "targets": ["q_proj"]}, trials=2)
    tools = Watching(workshop.runtime.settings, workshop.runtime)
    tuning.perform(workshop.runtime, workshop.lease(tuning_id), tuning_id, tools)
    assert (Watching.specs[-1].method is Method.DPO, Watching.specs[-1].targets) == (True, ("q_proj",))
    first, second = Watching.seen[-2:]
    assert (first.is_known, len(first.general)) == (False, len(general_questions()))
    assert (second.is_known, second.general) == (True, first.general[:3])


def test_a_cancelled_search_ends_its_trial_and_goes_on_when_it_is_tried_again(workshop, work):
    queue, tuning_id = workshop.runtime.queue, workshop.request(start=QUICK | {"epochs": 100}, trials=2)
    ended = threading.Thread(target=work)
    ended.start()
    eventually(workshop.left_behind, seconds=60)
    queue.cancel(workshop.job(tuning_id), actor="test")
    eventually(lambda: not ended.is_alive(), seconds=5)
    ended.join()
    assert workshop.tuning(tuning_id).state is RunState.CANCELLED
    assert not workshop.left_behind()

    queue.retry(workshop.job(tuning_id), actor="test")
    tools = Watching(workshop.runtime.settings, workshop.runtime)
    tuning.perform(workshop.runtime, workshop.lease(tuning_id), tuning_id, tools)
    done = workshop.tuning(tuning_id)
    assert [one["state"] for one in done.trials] == ["fail", "complete", "complete"]
    assert done.state is RunState.FINISHED


def test_the_trial_of_a_killed_worker_ends_with_it_and_what_was_finished_stays(workshop, tmp_path):
    tuning_id = workshop.request(start=QUICK | {"epochs": 1}, trials=4, pruner="none", search=("epochs",))
    killed = workshop.worker(workshop.job(tuning_id))
    eventually(lambda: workshop.tuning(tuning_id).trials and len(forked()) > 1, seconds=120)
    before = workshop.tuning(tuning_id).trials[0]
    killed.kill()
    killed.join()
    eventually(lambda: not forked())

    eventually(lambda: workshop.is_due(tuning_id))
    tools = Watching(workshop.runtime.settings, workshop.runtime)
    tuning.perform(workshop.runtime, workshop.lease(tuning_id), tuning_id, tools)
    done = workshop.tuning(tuning_id)
    assert done.trials[0] == before
    assert sum(one["state"] == "complete" for one in done.trials) == 4


def test_a_second_worker_that_comes_late_finds_all_done(workshop):
    tuning_id = workshop.request(trials=2, workers=2)
    tools = Watching(workshop.runtime.settings, workshop.runtime)
    first, second = workshop.lease(tuning_id), workshop.lease(tuning_id)
    done = tuning.perform(workshop.runtime, first, tuning_id, tools)
    told = tuning.perform(workshop.runtime, second, tuning_id, tools)
    assert (told["sentence"], len(told["trials"])) == (done["sentence"], 2)


def test_a_study_lies_beside_our_own_tables(any_runtime):
    plan = Plan(start={"learning_rate": 0.1}, searched=("learning_rate",), budget=Budget(trials=1))
    tools = Watching(any_runtime.settings, any_runtime)
    run = lambda settings, watch, seconds: tools.run(None, None)  # noqa: E731
    found = tools.search("one", plan, run, owner="job", told=lambda _: None)
    assert [one.state for one in found.tried] == ["complete"]
    assert not {"trials", "studies"} & set(inspect(any_runtime.db.engine).get_table_names())


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"trials": 0}, WrongPlan),
        ({"sampler": "grid"}, WrongPlan),
        ({"seconds": 0.0}, WrongPlan),
        ({"search": ("mode",)}, WrongPlan),
        ({"workers": 0}, Invalid),
        ({"start": {"mode": "continue"}}, Invalid),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_waits(workshop, wish, error):
    with pytest.raises(error):
        workshop.request(**wish)
    with workshop.runtime.db.reading() as session:
        assert not session.exec(select(Job).where(Job.kind == JobKind.TUNE)).all()


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"counts": {"train": 80, "test": 20}}, EmptySplit),
        ({"is_blocked": True}, AuditBlocked),
    ],
)
def test_a_set_that_cannot_be_searched_on_is_refused(workshop, facts, error):
    with workshop.runtime.db.transaction() as session:
        found = session.get_one(TrainingSet, workshop.set.id)
        found.sqlmodel_update(facts)
        blocks = Finding("noise", 1, Severity.BLOCK, ("k",), "rows say nothing", "")
        session.add(_finding_row(found.id, blocks))
    with pytest.raises(error):
        workshop.request()


def test_without_criteria_there_is_nothing_to_judge_trials_by(runtime):
    with runtime.db.transaction() as session:
        found = builders.add_set(session, builders.add_project(session))
        found.counts = {"train": 80, "validation": 40}
        with pytest.raises(CriteriaMissing):
            tunings.plan(session, found, {}, tunings.Wish())


def test_the_command_line_says_what_it_would_search_and_refuses_what_it_cannot(errata, workshop):
    asked = ("tune", "--project", "clinic", "--set", "v1")
    _, planned = errata(*asked, "--trials", "3", "--option", "epochs=2", "--search", "rank", "--dry-run")
    assert (planned["metric"], planned["budget"]["trials"]) == ("accuracy", 3)
    assert (planned["start"]["epochs"], planned["searched"]) == (2, ["rank"])
    assert (planned["budget"]["cost"], planned["budget"]["compute_hour"]) == (None, 0)
    with workshop.runtime.db.transaction() as session:
        set_rates(session, workshop.project, RATES, actor="test")
    _, planned = errata(*asked, "--cost", "2", "--dry-run")
    assert planned["budget"] | {"cost": 2, "compute_hour": 0.5, "currency": "EUR"} == planned["budget"]
    for wrong, code in (
        (("--cost", "0"), "wrong_plan"),
        (("--sampler", "grid"), "wrong_plan"),
        (("--trials", "0"), "wrong_plan"),
        (("--option", "epochs=many"), "invalid"),
        (("--set", "v9"), "not_found"),
    ):
        status, problem = errata(*asked, *wrong)
        assert (status, problem["code"]) == (1, code)
