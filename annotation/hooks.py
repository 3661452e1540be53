"""What an annotation tool's webhook says: hints, since all that counts is read again through the API."""

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from annotation.errors import InvalidHook
from annotation.exchange import time_of

MAX_KEY_CHARS = 200
MAX_ID = 2**63 - 1


class HookAction(StrEnum):
    """What the tools report of the things we ask them to report."""

    ANNOTATION_CREATED = "ANNOTATION_CREATED"
    ANNOTATIONS_CREATED = "ANNOTATIONS_CREATED"
    ANNOTATION_UPDATED = "ANNOTATION_UPDATED"
    ANNOTATIONS_DELETED = "ANNOTATIONS_DELETED"
    TASKS_CREATED = "TASKS_CREATED"
    TASKS_DELETED = "TASKS_DELETED"
    PROJECT_UPDATED = "PROJECT_UPDATED"
    RESPONSE_CREATED = "response.created"
    RESPONSE_UPDATED = "response.updated"
    RESPONSE_DELETED = "response.deleted"
    RECORD_DELETED = "record.deleted"


@dataclass(frozen=True, slots=True)
class HookEvent:
    """Which tasks and annotations to read again; ids are the tool's, `task_keys` are ours.

    Deletions name ids only. `updated_at` is the newest revision of the annotations, or else of the tasks.
    """

    action: HookAction
    project: str | None
    task_keys: tuple[str, ...]
    task_ids: tuple[str, ...]
    annotation_ids: tuple[str, ...]
    updated_at: datetime | None


def is_authentic(secret: str, presented: str | None) -> bool:
    """Compare the presented secret with the registered one in constant time; an empty one fits nothing."""
    if not secret or presented is None:
        return False
    return hmac.compare_digest(
        secret.encode("utf-8", "surrogatepass"), presented.encode("utf-8", "surrogatepass")
    )


def is_signed(secrets: Iterable[str], body: bytes, headers: Mapping[str, str]) -> bool:
    """Say whether one of the secrets signed the body, as Standard Webhooks has it, within the last five minutes."""
    return any(_is_signed(secret, body, headers) for secret in secrets)


def parse_argilla(body: bytes) -> HookEvent:
    """Read a webhook's body and keep ids and times of it.

    The rest is not ours to keep. `updated_at` is the event's own time: what else tells a repeated delivery, its
    message id, is another at each attempt.

    Raises:
        InvalidHook: Argilla does not send this.
    """
    document = _document(body)
    action = _action(document.get("type"))
    data = _object(document, "data")
    is_response = action is not HookAction.RECORD_DELETED
    record = _object(data, "record") if is_response else data
    workspace = _object(_object(record, "dataset"), "workspace")
    key = _checked_key(record.get("external_id"))
    return HookEvent(
        action=action,
        project=_uuid(workspace),
        task_keys=() if key is None else (key,),
        task_ids=(_uuid(record),),
        annotation_ids=(_uuid(data),) if is_response else (),
        updated_at=_time(document, "timestamp"),
    )


def parse_label_studio(body: bytes) -> HookEvent:
    """Read a webhook's body and keep ids and times of it.

    The rest is not ours to keep: the body carries the whole project, its access token and passwords included.

    Raises:
        InvalidHook: Label Studio does not send this.
    """
    document = _document(body)
    action = _action(document.get("action"))
    # Both keys may hold one object or a list, whatever their grammatical number.
    annotations = [*_objects(document, "annotation"), *_objects(document, "annotations")]
    tasks = [*_objects(document, "task"), *_objects(document, "tasks")]
    projects = [_id(project) for project in _objects(document, "project")]
    return HookEvent(
        action=action,
        project=projects[0] if projects else None,
        task_keys=_unique(key for task in tasks if (key := _key(task)) is not None),
        task_ids=_unique([*map(_id, tasks), *(_id(a, "task") for a in annotations if "task" in a)]),
        annotation_ids=_unique(map(_id, annotations)),
        updated_at=max(
            (at for thing in annotations or tasks if (at := _time(thing)) is not None), default=None
        ),
    )


def _is_signed(secret: str, body: bytes, headers: Mapping[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    # The library has no one error for what is malformed: a wrong number of parts, no base64, no UTF-8, no time.
    except (WebhookVerificationError, EmptyWebhookSecretError, ValueError, OverflowError, OSError):
        return False
    return True


def _action(name: object) -> HookAction:
    try:
        return HookAction(str(name))
    except ValueError:
        raise InvalidHook("the action is none that we asked for") from None


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise InvalidHook("the body is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidHook("the body is not a JSON object")
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated")
    return found


def _objects(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = document.get(name)
    objects = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in objects):
        raise InvalidHook(f"{name} holds something other than objects")
    return objects


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise InvalidHook(f"{name} is no object")
    return value


def _id(thing: Mapping[str, Any], name: str = "id") -> str:
    value = thing.get(name)
    if type(value) is not int or not 0 < value <= MAX_ID:
        raise InvalidHook(f"{name} is not an id")
    return str(value)


def _uuid(thing: Mapping[str, Any]) -> str:
    try:
        return str(UUID(thing.get("id")))
    except (TypeError, ValueError, AttributeError):
        raise InvalidHook("id is not an id") from None


def _key(task: Mapping[str, Any]) -> str | None:
    data = task.get("data")
    return _checked_key(data.get("external_id")) if isinstance(data, dict) else None


def _checked_key(key: Any) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not key.isprintable() or not 0 < len(key) <= MAX_KEY_CHARS:
        raise InvalidHook("external_id is not a key")
    return key


def _time(thing: Mapping[str, Any], name: str = "updated_at") -> datetime | None:
    value = thing.get(name)
    if value is None:
        return None
    try:
        return time_of(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidHook(f"{name} is not a time") from None


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
