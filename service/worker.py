"""One worker process for one queue, with RQ's forked work-horses tied to their parent's life."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import structlog
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Worker
from rq.executions import Execution
from rq.job import Job as RqJob
from rq.queue import Queue
from rq.serializers import JSONSerializer

from service import jobs, logs, settings, valkey
from service.queue import AllowedJob, rq_queue

_PR_SET_PDEATHSIG = 1
# An idle worker turns at least once a minute, one whose job is at work each second.
STUCK_SECONDS = 180.0

log = structlog.get_logger()


class TiedWorker(Worker):
    """RQ's worker, whose work-horse dies with it: a training must not go on beside its own second attempt."""

    max_connection_wait_time = 5.0
    turned = 0.0  # when the main loop came by last; a thread's heartbeat would go on beside one that hangs

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        self.turned = time.monotonic()
        super().heartbeat(timeout, pipeline)

    def main_work_horse(self, job: RqJob, queue: Queue) -> None:
        die_with_parent(self.pid)
        super().main_work_horse(job, queue)

    def maintain_heartbeats(self, job: RqJob, execution: Execution) -> None:
        """Tell Redis that the work goes on; the work itself needs no Redis and outlives its absence."""
        self.turned = time.monotonic()
        try:
            super().maintain_heartbeats(job, execution)
        except RedisError as error:
            log.warning("worker_not_seen", error=str(error))


def main() -> None:
    """Work on the queue named on the command line until told to stop, or do the one job named by `--job`."""
    logs.configure()
    if sys.argv[1] == "--job":
        jobs.run(sys.argv[2])
    else:
        work(sys.argv[1])


def work(queue: str) -> None:
    """Work on one queue."""
    jobs.preload(queue)
    chosen = settings.load()
    # The runtime, with its connections, is built after the fork.
    redis = Redis.from_url(chosen.redis_url or valkey.url(chosen.data_dir))
    worker = TiedWorker(
        [rq_queue(queue, redis)],
        connection=redis,
        serializer=JSONSerializer,
        job_class=AllowedJob,
        worker_ttl=60,
        job_monitoring_interval=1,
        log_job_description=False,
    )
    worker.turned = time.monotonic()
    end_when_stuck(lambda: time.monotonic() - worker.turned, STUCK_SECONDS, leave=os._exit)
    worker.work(logging_level="WARNING", with_scheduler=False)


def end_when_stuck(
    idle: Callable[[], float], seconds: float, *, leave: Callable[[int], object]
) -> threading.Thread:
    """Leave once nothing has got on for so long, to be started again; the job at work is taken back by its lease."""

    def look() -> None:
        while idle() < seconds:
            time.sleep(seconds / 10)
        log.error("worker_stuck", seconds=seconds)
        leave(os.EX_TEMPFAIL)

    thread = threading.Thread(target=look, name="watchdog", daemon=True)
    thread.start()
    return thread


def die_with_parent(parent: int | None) -> None:
    """Ask the kernel to kill this process when `parent` ends; elsewhere than on Linux the heartbeat looks."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    main()
