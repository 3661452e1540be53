"""Processes forked from a server that has loaded what they do: to import it at each start would take seconds."""

import multiprocessing
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess

CONTEXT = multiprocessing.get_context("forkserver")


def fork(target: Callable[..., object], *args: object, **named: object) -> BaseProcess:
    """Start a process that does `target`."""
    preload([target.__module__])
    process = CONTEXT.Process(target=target, args=args, kwargs=named)
    process.start()
    return process


def preload(modules: list[str]) -> None:
    """Have the server be one that has loaded these modules alone: a process has one, and others load less or more."""
    if forkserver._forkserver._preload_modules != modules:
        forkserver._forkserver._stop()
        CONTEXT.set_forkserver_preload(modules)
