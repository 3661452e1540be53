"""Waiting for what another process does: asked again until it is so, never slept for."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def eventually(check: Callable[[], Seen], seconds: float = 20, *, every: float = 0.02) -> Seen:
    """Return what `check` returns as soon as that is true; fail when it never was."""
    until = time.monotonic() + seconds
    while not (seen := check()):
        if time.monotonic() > until:
            raise AssertionError(f"not so within {seconds:g} s: {getattr(check, '__qualname__', check)}")
        time.sleep(every)
    return seen
