"""A disk without room, for one process."""

import os
import resource
from collections.abc import Callable


def on_a_full_disk(action: Callable[[], object], *, max_bytes: int) -> str:
    """Do something in a child process whose files cannot outgrow a size; return the error that it met."""
    outcome, told = os.pipe()
    if not (child := os.fork()):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))
            action()
        except Exception as error:  # noqa: BLE001  the parent looks at it
            os.write(told, f"{type(error).__name__}: {error}".encode()[:4000])
        finally:
            os._exit(0)
    os.close(told)
    with os.fdopen(outcome) as error:
        os.waitpid(child, 0)
        return error.read()
