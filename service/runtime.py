"""Everything a process needs while it runs, wired in one place."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from redis import Redis

from retrain import scratch
from retrain.artifacts import ArtifactStore
from service import secrets, settings, valkey
from service.db import Database
from service.errors import ConfigurationError
from service.queue import JobQueue
from service.secrets import Secrets
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Runtime:
    """The process's settings, secrets, database, queue and artifact store."""

    settings: Settings
    secrets: Secrets
    db: Database
    queue: JobQueue
    artifacts: ArtifactStore

    def scratch(self) -> AbstractContextManager[Path]:
        """Lend a folder that is gone afterwards; an erasure finds what a killed process left in one."""
        return scratch.lend(self.settings.scratch)


def build(chosen: Settings) -> Runtime:
    """Wire a runtime; nothing is opened until it is used, so a server that is down fails the call, not the start.

    Raises:
        ConfigurationError: a setting cannot be what it is.
    """
    # First, for it makes the data directory, which is for its owner alone.
    own = secrets.load(chosen.data_dir)
    db = Database(chosen.database)
    redis = Redis.from_url(
        chosen.redis_url or valkey.url(chosen.data_dir), socket_timeout=5, socket_connect_timeout=1
    )
    return Runtime(
        settings=chosen,
        secrets=own,
        db=db,
        queue=JobQueue(db, redis, chosen),
        artifacts=_artifacts(chosen.artifacts, chosen.scratch),
    )


@cache
def from_environment() -> Runtime:
    """Return the process's own runtime, built on first use so that importing has no effect."""
    return build(settings.load())


def _artifacts(url: str, drafts: Path) -> ArtifactStore:
    try:
        return ArtifactStore(url, drafts)
    except (ImportError, ValueError) as error:  # fsspec names the package that is missing
        raise ConfigurationError(f"ERRATA_ARTIFACTS_URL: {error}") from error
