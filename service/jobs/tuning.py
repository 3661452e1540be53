"""The job that searches for better training settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from sqlalchemy import text

from retrain import parquet, wandb_runs
from retrain.errors import TrackerRefused
from retrain.tuning.plan import Found, Plan, Run, Tried
from retrain.tuning.study import Study, opened
from service.jobs import trials
from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import tuning
from service.tables import Project, RunState, Tuning

SCHEMA = "tuning"

log = structlog.get_logger()


def tune(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Search, perhaps beside other workers."""
    found = tuning.perform(runtime, lease, lease.row_id, Tuner(runtime.settings, runtime))
    if wandb_runs.is_wanted():
        _show(runtime, lease)
    return found


def _show(runtime: Runtime, lease: Lease) -> None:
    """Report the trials of a search; one that Weights & Biases refuses is in our own tables all the same."""
    with runtime.db.reading() as session:
        asked = session.get_one(Tuning, lease.row_id)
        slug = session.get_one(Project, asked.project_id).slug
    if asked.state is not RunState.FINISHED:  # another worker goes on
        return
    try:
        wandb_runs.show(
            [
                wandb_runs.Shown(
                    id=f"{asked.id}-{trial['number']}",
                    project=slug,
                    name=f"trial {trial['number']}",
                    group=str(asked.id),
                    settings=trial["settings"],
                    summary={"state": trial["state"], **(trial["score"] or {}), "seconds": trial["seconds"]},
                    curve=trial["curve"],
                    measured=asked.metric,
                )
                for trial in asked.trials
            ],
            runtime.settings.data_dir,
        )
    except TrackerRefused as error:
        log.warning("trials_not_shown", tuning=str(asked.id), error=str(error))


@dataclass(frozen=True, slots=True)
class Tuner(TorchTools):
    """The tools that a search needs: trials in processes of their own, and Optuna's studies."""

    runtime: Runtime

    read_splits = staticmethod(parquet.read_splits)

    @property
    def run(self) -> Callable[..., Any]:
        return partial(trials.run, self.settings)

    def search(
        self, name: str, plan: Plan, run: Run, *, owner: str, told: Callable[[Sequence[Tried]], None]
    ) -> Found:
        """Go on with a study, which lies beside our own tables, never among them."""
        database = self.settings.database
        if database.startswith("sqlite"):
            url, schema = f"sqlite:///{self.settings.data_dir.resolve() / 'tuning.db'}", None
        else:
            url, schema = database, SCHEMA
            with self.runtime.db.transaction() as session:
                session.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        with opened(url, schema) as storage:
            return Study(storage, name, plan).go_on(run, owner=owner, told=told)
