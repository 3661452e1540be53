"""Runs Argilla in one process: its database migrated, its owner made, its jobs beside the server.

`python serve.py PORT`, in an environment of its own; OWNER_PASSWORD and OWNER_API_KEY come by the environment, as
do Argilla's settings. Jobs are done by a thread: what a webhook's receiver refused is not tried again.
"""

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import blind  # noqa: F401  takes its place by itself
import sql_search  # noqa: F401  registers itself
import uvicorn
from alembic import command, config
from argilla_server.contexts import accounts
from argilla_server.database import ALEMBIC_CONFIG_FILE, AsyncSessionLocal
from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
from argilla_server.models import User, UserRole
from argilla_server.settings import settings
from rq import SimpleWorker
from rq.timeouts import TimerDeathPenalty
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

OWNER = "owner"


class ThreadWorker(SimpleWorker):
    """A worker that needs neither signals nor processes of its own."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        """Leave signals to the server: only a main thread may take them."""


def main() -> None:
    """Prepare and serve until told to stop."""
    command.upgrade(config.Config(ALEMBIC_CONFIG_FILE), "head")
    share_no_connections()
    asyncio.run(ensure_owner(os.environ.pop("OWNER_PASSWORD"), os.environ.pop("OWNER_API_KEY")))
    worker = ThreadWorker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION)
    threading.Thread(target=worker.work, kwargs={"logging_level": "WARNING"}, daemon=True).start()
    uvicorn.run("argilla_server:app", host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


def share_no_connections() -> None:
    """Let each use of the database open its own connection.

    The jobs' thread has another event loop than the server, and once either has waited for a connection of
    SQLAlchemy's pool, the pool is bound to that loop: every request of the other fails for ever after.
    """
    engine = create_async_engine(settings.database_url, poolclass=NullPool, **settings.database_engine_args)
    AsyncSessionLocal.configure(bind=engine)


async def ensure_owner(password: str, api_key: str) -> None:
    """Make the owner's account unless it is there."""
    async with AsyncSessionLocal() as session:
        if await accounts.get_user_by_username(session, OWNER):
            return
        facts: dict[str, Any] = {
            "first_name": OWNER,
            "username": OWNER,
            "role": UserRole.owner,
            "workspaces": [],
        }
        hashed = accounts.hash_password(password)
        await User.create(session, **facts, api_key=api_key, password_hash=hashed)


if __name__ == "__main__":
    main()
