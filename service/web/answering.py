"""Asks the responder, which holds the models, from as many of the web's threads as may wait for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore

from flask import current_app

from service import playground
from service.errors import ResponderUnavailable
from service.web.state import runtime


def ask(slug: str, messages: Sequence[dict[str, str]], *, number: int | None = None) -> playground.Said:
    """Let a project's champion, or the version of this number, answer; no transaction is open meanwhile.

    Raises:
        NotFound: there is no such project or version.
        ResponderUnavailable: the responder is not up, or too many ask.
    """
    with _one_of_the_places():
        return playground.ask(runtime(), slug, messages, number=number)


@contextmanager
def _one_of_the_places() -> Iterator[None]:
    """Hold one of half the web's threads: however many ask, the others are there for feedback and webhooks.

    Raises:
        ResponderUnavailable: all places are taken.
    """
    places: BoundedSemaphore = current_app.extensions["chat_places"]
    if not places.acquire(blocking=False):
        raise ResponderUnavailable("too many questions at once; try again in a few seconds")
    try:
        yield
    finally:
        places.release()
