"""Asks the responder: the one process that holds the models."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from uuid import UUID

import httpx
from flask import current_app

from service.errors import NotFound, ResponderUnavailable
from service.secrets import RESPONDER
from service.web.state import runtime

ANSWER_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered, and which version it was."""

    text: str
    model_version: str
    model_version_id: UUID


def ask(slug: str, messages: Sequence[dict[str, str]], *, number: int | None = None) -> Said:
    """Let a project's champion, or the version of this number, answer; no transaction is open meanwhile.

    Raises:
        NotFound: there is no such project or version.
        ResponderUnavailable: the responder is not up, or too many ask.
    """
    question = {"project": slug, "messages": list(messages), "number": number}
    known, url = runtime(), runtime().settings.responder_url.rstrip("/")
    transport = None if url else httpx.HTTPTransport(uds=str(known.settings.responder_socket))
    ours = {"Authorization": f"Bearer {known.secrets.salted(RESPONDER)}"}
    try:
        with (
            _one_of_the_places(),
            httpx.Client(transport=transport, timeout=ANSWER_SECONDS, trust_env=False) as client,
        ):
            answer = client.post(f"{url or 'http://responder'}/answer", json=question, headers=ours)
    except httpx.HTTPError as error:
        raise ResponderUnavailable("the responder is not up; try again in a few seconds") from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotFound(answer.text)
    if answer.is_error:
        raise ResponderUnavailable("the responder cannot answer; its log says why")
    said = answer.json()
    return Said(said["text"], said["model_version"], UUID(said["model_version_id"]))


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
