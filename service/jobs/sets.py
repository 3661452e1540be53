"""Jobs that build training sets."""

from dataclasses import dataclass
from typing import Any

from retrain import parquet
from retrain.audit import checks
from retrain.embedding import encode
from retrain.recipe import Recipe
from service import triggers
from service.queue import Lease
from service.runtime import Runtime
from service.stages import corpus, curation


@dataclass(frozen=True, slots=True)
class Tools:
    """The `Tools` of the curation stage."""

    write = staticmethod(parquet.write)
    audit = staticmethod(checks.audit_set)
    versions = staticmethod(checks.versions_of_set)
    encode = staticmethod(encode)


def curate(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Build the project's next set, by a recipe that the job names or the newest one, and train on it if it says so."""
    options = dict(lease.options)
    train = options.pop("train", None)
    recipe = Recipe.from_json(options or curation.newest_recipe(runtime, lease.row_id))
    corpus.decide_all(lease, lease.row_id, actor="curation")
    built = curation.run(runtime, lease, lease.row_id, recipe, Tools())
    return built if train is None else built | triggers.go_on(runtime, lease, train)


def rebuild(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Build a set again and compare."""
    return curation.rebuild(runtime, lease, lease.row_id, Tools())
