"""Sends answers and feedback to Errata's intake: with a short timeout, and again under the same ids."""

import json
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as NotYet
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener
from uuid import UUID, uuid4

from .signing import sign

MAX_UNSENT = 32
BUSY = (408, 429)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0

log = logging.getLogger("errata_client")


class IntakeError(Exception):
    """Intake did not take what was sent: try again later with the same `event_id`, unless it `is_refusal`."""

    def __init__(self, told: str, *, is_refusal: bool) -> None:
        super().__init__(told)
        self.is_refusal = is_refusal


class Errata:
    """A project's intake; threads may share it.

    With `project` and `token_key`, which `errata keys rotate` prints, tokens are signed here and no answer waits for
    intake; otherwise each waits at most `patience` seconds for its token.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        project: str | None = None,
        token_key: str | None = None,
        timeout: float = 2.0,
        tries: int = 4,
        patience: float = 1.0,
    ) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError("url: write https://host")
        if bool(project) != bool(token_key):
            raise ValueError("project and token_key sign tokens together")
        self._url, self._key, self._signing = url.rstrip("/"), key, (token_key, project)
        self._timeout, self._tries, self._patience = timeout, tries, patience
        self._open: set[Future[str | None]] = set()
        self._ask = build_opener(_Stay).open

    def log_response(self, messages: Sequence[Mapping[str, str]], response: str, **facts: Any) -> str | None:
        """Log an answer and return the token for the page that shows it, or None.

        `facts` are what `POST /v1/responses` takes, such as `model_version`, `subject` or `context`. Nothing is ever
        raised: what went wrong is logged, and sending goes on in the background.
        """
        try:
            body = {"external_id": str(uuid4()), **facts, "messages": list(messages), "response": response}
            sent = self._send(json.dumps(body).encode())
            key, project = self._signing
            if key and project:
                model, subject = facts.get("model_version"), facts.get("subject")
                return sign(key, project, body["external_id"], response, model=model, subject=subject)
            return sent.result(self._patience) if sent else None
        except NotYet:
            log.warning("intake has not answered within %s s: the answer has no token", self._patience)
        except Exception:  # the answer matters more than whatever is wrong here
            log.exception("an answer was not logged")
        return None

    def feedback(
        self,
        rating: str,
        *,
        feedback_token: str | None = None,
        response_id: str | None = None,
        event_id: UUID | None = None,
        **said: Any,
    ) -> dict[str, Any]:
        """Give feedback on the answer that one of the two names; return its `id`, `state` and `status_url`.

        `said` is what `POST /v1/feedback` takes, such as `reasons`, `comment` or `correction`. The same `event_id`
        again adds nothing.

        Raises:
            IntakeError: it was not taken.
        """
        named = {"feedback_token": feedback_token, "response_id": response_id}
        body = {"event_id": str(event_id or uuid4()), "rating": rating, **said}
        body |= {name: value for name, value in named.items() if value is not None}
        return self._post("/v1/feedback", json.dumps(body).encode())

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait for answers that are still on their way, as before the process ends; return whether none is left."""
        return not wait(set(self._open), timeout).not_done

    def _send(self, body: bytes) -> "Future[str | None] | None":
        """Start to send an answer; a thread of its own keeps a hanging intake from whoever waits for the model."""
        if len(self._open) >= MAX_UNSENT:
            log.error(
                "intake is too slow: %d answers are on their way to it, this one is not logged", MAX_UNSENT
            )
            return None
        sent: Future[str | None] = Future()
        self._open.add(sent)
        sent.add_done_callback(self._open.discard)
        threading.Thread(target=self._deliver, args=(body, sent), daemon=True).start()
        return sent

    def _deliver(self, body: bytes, sent: "Future[str | None]") -> None:
        token = None
        try:
            token = self._post("/v1/responses", body)["feedback_token"]
        except IntakeError as error:
            log.error("an answer was not logged: %s", error)  # noqa: TRY400  it says all there is
        except Exception:  # nobody but this thread would hear of it
            log.exception("an answer was not logged")
        finally:
            sent.set_result(token)

    def _post(self, path: str, body: bytes) -> dict[str, Any]:
        """Send until it is taken or refused; ids in it make one of many.

        Raises:
            IntakeError: it is refused, or nobody took it in all tries.
        """
        pause = FIRST_PAUSE_SECONDS
        for left in range(self._tries - 1, -1, -1):
            try:
                return self._post_once(path, body)
            except HTTPError as error:
                with error:
                    told, asked = _problem(error), error.headers.get("Retry-After", "")
                if error.code < 500 and error.code not in BUSY:
                    raise IntakeError(told, is_refusal=True) from None
            except (OSError, HTTPException, ValueError) as error:
                told, asked = f"{type(error).__name__}: {error}", ""
            if left:
                time.sleep(min(float(asked) if asked.isdecimal() else pause, LONGEST_PAUSE_SECONDS))
                pause *= 2 + random.random()  # hosts that failed together do not come again together
        raise IntakeError(told, is_refusal=False)

    def _post_once(self, path: str, body: bytes) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        with self._ask(Request(self._url + path, body, headers), timeout=self._timeout) as answer:  # noqa: S310
            found = json.load(answer)
        if not isinstance(found, dict):
            raise ValueError("no object")  # noqa: TRY004  what is no JSON at all is one too
        return found


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: the key is for one host alone."""

    def redirect_request(  # noqa: PLR0917  as the standard library has it
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _problem(error: HTTPError) -> str:
    """Return what a refusal says, by its code and the fields meant, never by what stood in them."""
    try:
        said = json.load(error)
        fields = ", ".join(each["pointer"] for each in said.get("errors", ()))
        return f"{error.code} {said['code']} {fields}".strip()
    except (AttributeError, KeyError, TypeError, ValueError, OSError, HTTPException):
        return str(error.code)
