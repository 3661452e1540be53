"""Jobs that build training sets."""

from typing import Any

from retrain import parquet
from retrain.training_set import Recipe
from service.queue import Lease
from service.runtime import Runtime
from service.stages import curation


def curate(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Build the project's next training set."""
    recipe = Recipe.from_json(dict(lease.options))
    return curation.run(runtime, lease, lease.row_id, recipe, parquet.write)


def rebuild(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Build a set again and compare."""
    return curation.rebuild(runtime, lease, lease.row_id, parquet.write)
