"""Makes a client that speaks OpenAI's protocol log what its model answers."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from .intake import Errata

PATH = ("chat", "completions", "create")
AGAIN = ("with_options", "copy")  # make another client of the same kind
ROLES = {"developer": "system", "function": "tool"}  # what intake calls the same
MAX_NAME = 200

log = logging.getLogger("errata_client")


def wrap(client: Any, errata: Errata) -> Any:
    """Return a client that does what `client` does, and logs each answer of `chat.completions.create`.

    What it returns has a `feedback_token` beside all that it had: a stream once it has ended. The token is None where
    the answer was not logged: intake is away, or the model called a tool and said nothing. Facts for one call stand
    in `errata`: `create(…, errata={"subject": "a pseudonym"})`. Asynchronous clients are wrapped alike.
    """
    return _Client(client, errata, PATH)


class _Beside:
    """Stands for an object, with something of its own."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self).get("_target"), name)  # a copy has none at first


class _Client(_Beside):
    """A client, or what lies on the way to its `create`."""

    def __init__(self, target: Any, errata: Errata, path: Sequence[str]) -> None:
        super().__init__(target)
        self._errata, self._path = errata, path

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name == self._path[0]:
            return _Client(found, self._errata, self._path[1:]) if self._path[1:] else self._logging(found)
        if name in AGAIN and self._path == PATH:
            return lambda *args, **more: wrap(found(*args, **more), self._errata)
        return found

    def __enter__(self) -> Any:
        self._target.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._target.__exit__(*error)

    async def __aenter__(self) -> Any:
        await self._target.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._target.__aexit__(*error)

    def _logging(self, create: Any) -> Any:
        def logged(*args: Any, errata: Mapping[str, Any] | None = None, **asked: Any) -> Any:
            answer = create(*args, **asked)
            log_it = _Log(self._errata, asked, dict(errata or {}))
            return _later(answer, log_it) if inspect.isawaitable(answer) else _told(answer, log_it)

        return logged


async def _later(answer: Any, log_it: "_Log") -> Any:
    found = await answer
    if hasattr(found, "__aiter__"):
        return AsyncStream(found, log_it)
    return Answer(found, await asyncio.to_thread(log_it.whole, found))


def _told(answer: Any, log_it: "_Log") -> Any:
    return Stream(answer, log_it) if log_it.is_stream else Answer(answer, log_it.whole(answer))


class Answer(_Beside):
    """What a model's client returned, and the token for whoever reads it; `answer` is what it was."""

    def __init__(self, answer: Any, feedback_token: str | None) -> None:
        super().__init__(answer)
        self.answer, self.feedback_token = answer, feedback_token

    def __getitem__(self, name: Any) -> Any:
        return self._target[name]


class Stream(_Beside):
    """The pieces of an answer as they come; `feedback_token` is there after the last."""

    def __init__(self, pieces: Any, log_it: "_Log") -> None:
        super().__init__(pieces)
        self.feedback_token: str | None = None
        self._log = log_it
        self._pieces = self._through()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._pieces)

    def __enter__(self) -> Self:
        self._target.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._target.__exit__(*error)

    def _through(self) -> Iterator[Any]:
        for piece in self._target:
            self._log.add(piece)
            yield piece
        self.feedback_token = self._log.pieces()


class AsyncStream(_Beside):
    """As `Stream`, for `async for`."""

    def __init__(self, pieces: Any, log_it: "_Log") -> None:
        super().__init__(pieces)
        self.feedback_token: str | None = None
        self._log = log_it
        self._pieces = self._through()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._pieces)

    async def __aenter__(self) -> Self:
        await self._target.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._target.__aexit__(*error)

    async def _through(self) -> AsyncIterator[Any]:
        async for piece in self._target:
            self._log.add(piece)
            yield piece
        self.feedback_token = await asyncio.to_thread(self._log.pieces)


class _Log:
    """One answer, from what was asked to what intake is told; nothing that goes wrong in it reaches whoever asked."""

    def __init__(self, errata: Errata, asked: Mapping[str, Any], facts: dict[str, Any]) -> None:
        self._errata, self._asked, self._facts = errata, asked, facts
        self._said: list[str] = []
        self._model: Any = None
        self.is_stream = bool(asked.get("stream"))

    def whole(self, answer: Any) -> str | None:
        """Log an answer that came in one piece; of several choices the first."""
        return self._safely(self._whole, answer)

    def add(self, piece: Any) -> None:
        """Remember what one piece of a stream says."""
        self._safely(self._add, piece)

    def pieces(self) -> str | None:
        """Log the answer whose pieces were all added."""
        return self._safely(self._tell)

    def _safely(self, do: Callable[..., str | None], *args: Any) -> str | None:
        try:
            return do(*args)
        except Exception:  # the answer matters more than whatever is wrong here
            log.exception("an answer was not logged")
            return None

    def _whole(self, answer: Any) -> str | None:
        self._model = _of(answer, "model")
        self._said.append(_text(_of(_of(_of(answer, "choices")[0], "message"), "content")))
        return self._tell()

    def _add(self, piece: Any) -> None:
        self._model = self._model or _of(piece, "model")
        for choice in _of(piece, "choices") or ():
            if not _of(choice, "index"):
                self._said.append(_text(_of(_of(choice, "delta"), "content")))

    def _tell(self) -> str | None:
        text = "".join(self._said)
        if not text:
            return None
        turns, results = _turns(self._asked["messages"])
        model = self._model or self._asked.get("model")
        facts: dict[str, Any] = {"model_version": model and str(model)[:MAX_NAME]}
        if results:
            facts["context"] = [
                {"id": f"tool {place}", "text": each} for place, each in enumerate(results, 1)
            ]
        return self._errata.log_response(turns, text, **facts | self._facts)


def _turns(messages: Any) -> tuple[list[dict[str, str]], list[str]]:
    """Return the conversation up to what its user said last, and what tools said since."""
    turns = [
        {"role": ROLES.get(role := str(_of(each, "role")), role), "content": _text(_of(each, "content"))}
        for each in messages
    ]
    last = max(place for place, turn in enumerate(turns) if turn["role"] == "user")
    results = [turn["content"] for turn in turns[last:] if turn["role"] == "tool"]
    return turns[: last + 1], results


def _text(content: Any) -> str:
    """Return what a turn says in words: it may be nothing, a text, or parts of which some are texts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(text for part in content if isinstance(text := _of(part, "text"), str))


def _of(thing: Any, name: str) -> Any:
    """Return a member, of an object or of what was read from JSON."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
