"""The job that searches for better training settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import text

from retrain import parquet
from retrain.tuning.plan import Found, Plan, Run, Tried
from retrain.tuning.study import Study, opened
from service.jobs import trials
from service.jobs.torch_tools import TorchTools
from service.queue import Lease
from service.runtime import Runtime
from service.stages import tuning

SCHEMA = "tuning"


def tune(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Search, perhaps beside other workers."""
    return tuning.perform(runtime, lease, lease.row_id, Tuner(runtime.settings, runtime))


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
