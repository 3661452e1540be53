"""Every background job: what a worker does when the bell rings."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from annotation.errors import AnnotationError, ToolUnavailable
from retrain.errors import RetrainError
from service.errors import LeaseLost, ServiceError, TryAgain, code_of
from service.logs import bound
from service.queue import QUEUE_OF, Lease
from service.runtime import Runtime, from_environment
from service.tables import JobKind

Perform = Callable[[Runtime, Lease], dict[str, Any]]

# By name, so that a worker of one queue loads only what that queue needs: a fork beside torch costs 90 ms, else 4.
PERFORM: dict[JobKind, str] = {
    JobKind.TRIAGE: "triage.triage",
    JobKind.SEND: "labelling.send",
    JobKind.SYNC: "labelling.sync",
    JobKind.IMPORT: "labelling.import_answers",
    JobKind.QUALITY: "quality.assess",
    JobKind.CORPUS: "corpus.work",
    JobKind.CURATE: "sets.curate",
    JobKind.REBUILD: "sets.rebuild",
    JobKind.MIRROR: "mirror.mirror",
    JobKind.COLLECT: "mirror.collect",
    JobKind.ERASE: "erasure.erase",
    JobKind.TRAIN: "training.train",
    JobKind.EVALUATE: "evaluation.evaluate",
    JobKind.COMPARE: "comparing.compare",
    JobKind.NOTIFY: "notices.notify",
    JobKind.SERVE: "serving.serve",
    JobKind.BISECT: "bisecting.bisect",
    JobKind.VALUE: "bisecting.value",
    JobKind.BASES: "bases.compare",
    JobKind.TUNE: "tuning.tune",
    JobKind.REPRODUCE: "training.reproduce",
    JobKind.RECHECK: "rechecking.recheck",
    JobKind.MONITOR: "monitoring.monitor",
}
# Asked for seldom, and their libraries would weigh on each fork: they are loaded when one is done.
SELDOM = frozenset(
    {
        JobKind.CORPUS,
        JobKind.CURATE,
        JobKind.REBUILD,
        JobKind.MIRROR,
        JobKind.COLLECT,
        JobKind.QUALITY,
        JobKind.COMPARE,
        JobKind.ERASE,
        JobKind.SERVE,
        JobKind.TUNE,
        JobKind.MONITOR,
    }
)
MAX_BEAT_SECONDS = 2.0  # how soon a job notices that it was cancelled

log = structlog.get_logger()


def run(job_id: str) -> None:
    """Do one job in this process, if it can be leased; this is all that a message may ask for."""
    runtime = from_environment()
    if lease := runtime.queue.lease(UUID(job_id)):
        with bound(job_id=job_id, job=lease.kind.value):
            began = time.monotonic()
            with _beating(lease):
                perform(runtime, lease)
            log.info("job_ended", seconds=round(time.monotonic() - began, 3))


def perform(runtime: Runtime, lease: Lease) -> None:
    """Do a leased job and record how it ended; only what nobody foresaw is raised."""
    try:
        lease.finish(performer(lease.kind)(runtime, lease))
    except LeaseLost:
        log.warning("lease_lost")
    except (ToolUnavailable, TryAgain) as error:
        log.warning("job_postponed", error=str(error))
        lease.fail(error, code=code_of(error))
    except (ServiceError, AnnotationError, RetrainError) as error:
        log.warning("job_refused", error=str(error))
        lease.bury(error, code=code_of(error))
    except Exception as error:
        log.exception("job_broke")
        lease.fail(error, code="unexpected")
        raise


def preload(queue: str) -> None:
    """Load what the queue's usual jobs need before the first fork, so that each work-horse starts at once."""
    for kind in JobKind:
        if QUEUE_OF[kind] == queue and kind not in SELDOM:
            performer(kind)


def performer(kind: JobKind) -> Perform:
    """Return what does a kind of job."""
    module, _, name = PERFORM[kind].partition(".")
    found: Perform = getattr(import_module(f"{__name__}.{module}"), name)
    return found


@contextmanager
def _beating(lease: Lease) -> Iterator[None]:
    """Extend the lease from a thread; when it is lost, or the worker is, this process ends at once."""
    done = threading.Event()
    parent = os.getppid()
    seconds = min(lease.queue.settings.lease_seconds / 3, MAX_BEAT_SECONDS)

    def beat() -> None:
        while not done.wait(seconds):
            try:
                lease.extend()
            except LeaseLost:
                if not lease.is_ended():
                    log.warning("lease_lost")
                    os._exit(os.EX_TEMPFAIL)
            except DBAPIError as error:
                log.warning("heartbeat_missed", error=str(error))
            if os.getppid() != parent:
                os._exit(os.EX_TEMPFAIL)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
