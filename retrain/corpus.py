"""What a row of a team's own data is, and how records whose columns have any name become such rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from retrain.errors import RetrainError
from retrain.types import Example, Kind, Message

# Of several columns that fit, the first of these names counts.
USUAL: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversation", "conversations"),
    "prompt": ("question", "prompt", "instruction", "input", "text", "query"),
    "answer": ("answer", "response", "output", "completion"),
    "label": ("label", "category", "intent"),
    "source": ("source",),
    "author": ("author",),
    "written": ("date", "updated", "written"),
    "language": ("language", "lang"),
}
MAX_TEXT, MAX_SHORT, MAX_LANGUAGE, MAX_ATTRIBUTES, MAX_TURNS = 100_000, 200, 35, 50, 200
TURNS = ("system", "user", "assistant", "tool")
_TURN_OF = {"human": "user", "gpt": "assistant", "bot": "assistant"}
_DATES = ("%d.%m.%Y", "%Y/%m/%d", "%B %d, %Y", "%d %B %Y", "%Y-%m", "%Y")


class UnreadableCorpus(RetrainError):
    """Nothing, or not what was asked for, can be read of it; the message names the place and the reason."""


@dataclass(frozen=True, slots=True)
class CorpusRow:
    """One row of data that a team has: a prompt that ends in the user's turn, with an answer, a label, or both."""

    messages: tuple[Message, ...]
    answer: str = ""
    label: str | None = None
    source: str = ""
    author: str = ""
    written: date | None = None
    language: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at one place of a corpus: a row, or the reason why it cannot be read."""

    place: str
    row: CorpusRow | None = None
    reason: str = ""


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse a column for something that rows do not have.

    Raises:
        UnreadableCorpus: a name is none of `USUAL`.
    """
    if unknown := [role for role in columns if role not in USUAL]:
        raise UnreadableCorpus(f"no row has a {unknown[0]!r}; name a column for {', '.join(USUAL)}")


def nothing_in(unread: Sequence[Found], count: int) -> UnreadableCorpus:
    """Return the error for a corpus without a row that can be read; `count` places could not."""
    if not unread:
        return UnreadableCorpus("nothing can be read: there are no rows")
    more = f" (and {count - 1:,} more)" if count > 1 else ""
    return UnreadableCorpus(f"nothing can be read: {unread[0].place}: {unread[0].reason}{more}")


def row_of(record: Mapping[str, Any], columns: Mapping[str, str]) -> CorpusRow:
    """Return the row that a record holds.

    `columns` names the column of a role of `USUAL`, or says by an empty name that there is none; the others go by
    their usual names, whatever their case. Short values of columns that play no role become attributes.

    Raises:
        UnreadableCorpus: something is missing or cannot be used.
    """
    taken = _columns(record, columns)
    texts = {role: _text(name, record[name]) for role, name in taken.items() if role != "messages"}
    messages, answer = _conversation(record, taken, texts)
    row = CorpusRow(
        messages=messages,
        answer=answer,
        label=texts.get("label") or None,
        source=texts.get("source", ""),
        author=texts.get("author", ""),
        written=_date(record[taken["written"]]) if texts.get("written") else None,
        language=texts.get("language") or None,
        attributes=_attributes(record, set(taken.values())),
    )
    if not answer and row.label is None:
        raise UnreadableCorpus(
            f"no answer and no label among {_names(record)}; --column answer=NAME says where"
        )
    _check(row)
    return row


def example_of(row: CorpusRow, key: str) -> Example:
    """Return a row for the audit: with an answer it teaches that, else its label."""
    turns = sum(message.role == "user" for message in row.messages)
    kind = Kind.CONVERSATION if turns > 1 else Kind.GENERATION
    return Example(
        key=key,
        group=key,
        messages=row.messages,
        answer=row.answer or row.label or "",
        kind=kind if row.answer else Kind.CLASSIFICATION,
        label=None if row.answer else row.label,
        attributes=dict(row.attributes) | ({"author": row.author} if row.author else {}),
        source=row.source,
        language=row.language,
        written=row.written,
    )


def _columns(record: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the record's own name of each role's column."""
    named = {str(name).strip().casefold(): name for name in reversed(list(record))}
    taken = {}
    for role, usual in USUAL.items():
        wanted = [columns[role].strip().casefold()] if role in columns else list(usual)
        found = next((named[name] for name in wanted if name in named), None)
        if found is not None:
            taken[role] = found
        elif columns.get(role):
            raise UnreadableCorpus(f"no column {columns[role]!r} among {_names(record)}")
    return taken


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in list(record)[:20]) or "no columns"


def _conversation(
    record: Mapping[str, Any], taken: Mapping[str, str], texts: Mapping[str, str]
) -> tuple[tuple[Message, ...], str]:
    """Return the turns up to the user's last one, and what is answered to it."""
    answer = texts.get("answer", "")
    if "messages" not in taken:
        prompt = texts.get("prompt", "")
        if not prompt:
            where = "" if "prompt" in taken else f" among {_names(record)}; --column prompt=NAME says where"
            raise UnreadableCorpus(f"no question{where}")
        more = _text("input", record.get("input")) if taken["prompt"] == "instruction" else ""
        return (Message("user", f"{prompt}\n\n{more}" if more else prompt),), answer
    messages = _messages(record[taken["messages"]])
    if messages[-1].role == "assistant":
        answer = answer or messages[-1].content
        messages = messages[:-1]
    if messages and not messages[-1].content:
        raise UnreadableCorpus("no question: the last turn is empty")
    if not messages or messages[-1].role != "user":
        raise UnreadableCorpus("messages: the last turn before the answer must be the user's")
    return messages, answer


def _messages(value: Any) -> tuple[Message, ...]:
    try:
        turns = json.loads(value) if isinstance(value, str) else list(value)
        read = [_turn(turn) for turn in turns]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableCorpus("messages: not a list of {role, content}") from error
    if not 0 < len(read) <= MAX_TURNS:
        raise UnreadableCorpus(f"messages: {len(read)} turns; from 1 to {MAX_TURNS} are taken")
    return tuple(read)


def _turn(turn: Mapping[str, Any]) -> Message:
    said = str(turn["role"] if "role" in turn else turn["from"])
    role = _TURN_OF.get(said, said)
    if role not in TURNS:
        raise UnreadableCorpus(f"messages: no role {said!r}; there are {', '.join(TURNS)}")
    return Message(role, _text("content", turn["content"] if "content" in turn else turn["value"]))


def _text(name: str, value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124  a missing number of a table is not equal to itself
        return ""
    if isinstance(value, list | tuple | dict | bytes):
        raise UnreadableCorpus(f"{name}: a {type(value).__name__}, not a text")
    return str(value).strip()


def _date(value: Any) -> date:
    if isinstance(value, date):
        return value.date() if isinstance(value, datetime) else value
    text = str(value).strip()
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        pass
    for form in _DATES:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007  a day has no time zone
        except ValueError:
            continue
    raise UnreadableCorpus(
        f"{text[:40]!r} is no date; write it as 2014-12-31, or leave it out by --column written="
    )


def _attributes(record: Mapping[str, Any], taken: Iterable[str]) -> dict[str, str]:
    rest = {
        str(name)[:MAX_SHORT]: str(value)
        for name, value in record.items()
        if name not in taken
        and isinstance(value, str | int | float | bool)
        and value != ""
        and value == value  # noqa: PLR0124
    }
    return dict([(name, value) for name, value in rest.items() if len(value) <= MAX_SHORT][:MAX_ATTRIBUTES])


def _check(row: CorpusRow) -> None:
    """Refuse what the database or the annotation tools could not hold."""
    limits = [("label", row.label or "", MAX_SHORT), ("author", row.author, MAX_SHORT)]
    limits += [("source", row.source, MAX_SHORT), ("language", row.language or "", MAX_LANGUAGE)]
    limits += [("answer", row.answer, MAX_TEXT)]
    limits += [(f"the {message.role}'s turn", message.content, MAX_TEXT) for message in row.messages]
    for name, text, most in limits:
        if len(text) > most:
            raise UnreadableCorpus(f"{name}: {len(text):,} characters; at most {most:,} are taken")
    whole = "\n".join((*(text for _, text, _ in limits), *row.attributes, *row.attributes.values()))
    try:
        whole.encode()
    except UnicodeEncodeError as error:
        raise UnreadableCorpus("a text holds half of a surrogate pair") from error
    if "\0" in whole:
        raise UnreadableCorpus("a text holds the NUL character")
