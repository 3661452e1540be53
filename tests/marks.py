"""What an intruder would have a worker do."""

from pathlib import Path

from redis import Redis
from rq.job import Job


def make_folder(job: Job, _redis: Redis, *_: object) -> None:
    """Leave a trace, as a callback of any kind."""
    Path(job.meta["folder"]).mkdir(exist_ok=True)
