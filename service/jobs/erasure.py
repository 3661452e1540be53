"""The job that forgets a person, here, in the data repository, in Redis and in the annotation tools."""

import sqlite3
from contextlib import closing
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from retrain import parquet
from service import tools
from service.errors import TryAgain
from service.jobs.labelling import connect
from service.jobs.mirror import repository
from service.queue import QUEUES, Lease, rq_queue
from service.runtime import Runtime
from service.stages import erasure


def erase(runtime: Runtime, lease: Lease) -> dict[str, Any]:
    """Erase what an `Erasure` asks for; the result is what its certificate counts."""
    chosen = runtime.settings
    certificate = erasure.run(
        runtime,
        lease,
        repository(chosen),
        parquet,
        connect=partial(connect, chosen),
        forget=partial(forget, runtime),
    )
    return {"erasure": certificate["erasure"], **certificate["counts"]}


def forget(runtime: Runtime) -> None:
    """Remove what RQ keeps of our ended messages, and what tools' databases only mark as free.

    Another application's messages on the same Redis are its own.

    Raises:
        TryAgain: Redis or a tool's database is busy.
    """
    redis = runtime.queue.redis
    try:
        for name in QUEUES:
            of = rq_queue(name, redis)
            for ended in (of.failed_job_registry, of.finished_job_registry, of.canceled_job_registry):
                for job_id in ended.get_job_ids(cleanup=False):
                    redis.delete(f"rq:job:{job_id}", f"rq:results:{job_id}")
                    redis.zrem(ended.key, job_id)
        if not runtime.settings.redis_url:
            redis.bgrewriteaof()  # its log of writes holds them too
    except (RedisError, OSError) as error:
        raise TryAgain(f"Redis does not answer: {error}") from error
    for tool in (tools.LABEL_STUDIO, tools.ARGILLA):
        home = tools.bundled(tool).home_of(runtime.settings.data_dir)
        for file in (*home.rglob("*.db"), *home.rglob("*.sqlite3")):
            try:
                with closing(sqlite3.connect(file, timeout=10)) as database:
                    database.execute("VACUUM")
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                raise TryAgain(f"{file.name} still holds what {tool} deleted: {error}") from error
