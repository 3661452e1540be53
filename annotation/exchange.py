"""What connectors exchange with their tools, each in one way: times, texts to show, answers and refusals."""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from annotation.errors import InvalidAnswer, ToolRefused, ToolUnavailable
from annotation.types import Answer, NewTask
from annotation.visible import visible

# A writer's clock, and a write that was stamped before the last pull and committed after it.
MARGIN = timedelta(minutes=1)

UNKNOWN_ACCOUNT = "by an account that the tool does not know"
SUGGESTED_BY = "errata"

_BUSY = {408, 429}
# What a name such as `api_key` or `Authorization` introduces, quoted or not, and what follows `Bearer`.
_NAME = r"[\w-]*(?:token|secret|passw(?:or)?d|api[-_]?key|authorization|cookie)[\w-]*[\"']?\s*[:=]\s*"
_SCHEME = r"(?:bearer|token|basic)\s+"
_SECRET = re.compile(
    rf"({_NAME})(?:\"[^\"]*\"|'[^']*'|(?:{_SCHEME})?[^\s,;&\"'}}\]]+)|{_SCHEME}[\w.~+/=-]{{12,}}",
    re.IGNORECASE,
)
_NOTHING = "\u2013"  # stands for an empty text
# What opens a tag or a character's name in HTML, and signs like it that open nothing and are as long.
_OPENING = re.compile(r"<(?=[A-Za-z/!?])|&(?=[A-Za-z#])")
_ALIKE = {"<": "\uff1c", "&": "\uff06"}
_OPENED = str.maketrans({alike: sign for sign, alike in _ALIKE.items()})


def mark_of(secret: str) -> str:
    """Return by what the things that an installation makes in a tool are told from others'."""
    return f"Errata {hashlib.sha256(secret.encode()).hexdigest()[:16]}"


def time_of(value: str) -> datetime:
    """Read a time in ISO 8601; one without an offset is in UTC."""
    time = datetime.fromisoformat(value)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def shown(task: NewTask) -> dict[str, str]:
    """Return what the page shows; its texts must not be empty, and nothing in them hides."""
    found = {"prompt": task.prompt, "response": task.response, "context": task.context}
    # Readers said what they said about one answer, not about two.
    found |= {"reasons": task.reasons} if task.rival is None else {"rival": task.rival}
    return {name: visible(text) or _NOTHING for name, text in found.items()}


def without_html(text: str) -> str:
    """Return a text for a page that would take it for HTML; marks in it lie where they lie in the text itself."""
    return _OPENING.sub(lambda found: _ALIKE[found[0]], text)


def as_written(text: str) -> str:
    """Return what `without_html` was told, as far as it can be known: what was alike before is taken for the other."""
    return text.translate(_OPENED)


def without_nul(value: Any) -> Any:
    """Return what a tool holds without the one character that PostgreSQL does not keep, wherever it stands."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {without_nul(name): without_nul(each) for name, each in value.items()}
    return [without_nul(each) for each in value] if isinstance(value, list) else value


def texts(held: Mapping[str, Any]) -> dict[str, str]:
    """Return what a task in the tool shows, as `shown` wrote it or a person did; empty texts are left out."""
    return {
        name: text
        for name in ("prompt", "response", "rival", "context", "reasons")
        if isinstance(text := without_nul(held.get(name)), str) and text.strip() and text != _NOTHING
    }


def answer_or_problem(read: Callable[[Any], Answer], written: Any) -> tuple[Answer | None, str | None]:
    """Return the answer, or else why what was sent is none."""
    try:
        return read(without_nul(written)), None
    except InvalidAnswer as error:
        return None, str(error)


def refusal(
    where: str, status: int, detail: str, *, remedies: Mapping[int, str]
) -> ToolUnavailable | ToolRefused:
    """Return the error that a tool's status means; `remedies` say what a person can do about some."""
    if status >= 500 or status in _BUSY:
        return ToolUnavailable(f"{where} answered {status}")
    return ToolRefused(f"{where} answered {status}: {remedies.get(status) or without_secrets(detail)[:500]}")


def without_secrets(text: str) -> str:
    """Return what a tool said without tokens and passwords: it is kept, logged and shown."""
    return _SECRET.sub(lambda found: f"{found[1] or ''}[secret]", text)
