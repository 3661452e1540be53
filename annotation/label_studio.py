"""The connector to Label Studio, through its SDK."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk._legacy.exceptions import LabelStudioValidationErrorSentryIgnored
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.parse_error import ParsingError
from label_studio_sdk.label_interface.interface import LabelInterface
from label_studio_sdk.types.import_api_request import ImportApiRequest
from label_studio_sdk.types.prediction_request import PredictionRequest

from annotation import label_studio_page
from annotation.errors import InvalidSchema, ToolRefused, ToolUnavailable
from annotation.exchange import (
    MARGIN,
    SUGGESTED_BY,
    UNKNOWN_ACCOUNT,
    answer_or_problem,
    mark_of,
    refusal,
    shown,
    texts,
    time_of,
    without_secrets,
)
from annotation.health import label_studio_health
from annotation.label_studio_client import connected, unless_gone
from annotation.label_studio_results import from_result, written
from annotation.types import Answer, Health, HeldTask, LabelSchema, NewTask, PulledAnnotation, ToolProject

SECRET_HEADER = "X-Errata-Secret"  # noqa: S105 - the header's name
HOOK_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
)
PUSH_BATCH = 250
LOOKUP_BATCH = 50
PAGE = 100
AUTHORS = ("completed_by", "updated_by")

_REMEDIES = {
    401: "the token is not accepted: take the account's legacy token, or a personal access token as issued",
    403: "the account may not do this; for a webhook, take its address off Label Studio's forbidden subnets",
    404: "it is not there any more, or this is not Label Studio's address",
}


class LabelStudioConnector:
    """Asks people in one Label Studio, Community edition or better.

    Args:
        url: where it runs; experts open it there as well.
        token: a legacy or personal access token of an account that may make projects.
        overlap: how many annotators Label Studio offers a task to before it calls it done. It knows neither
            settlement nor adjudication, hence so many that it never does; how many we ask is ours to decide.
    """

    name = "label-studio"

    def __init__(self, url: str, token: str, *, overlap: int = 100) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._overlap = overlap
        self._client: LabelStudio | None = None

    def set_up(
        self,
        *,
        slug: str,
        schema: LabelSchema,
        hook_url: str | None,
        hook_secret: str,
        known_id: str | None = None,
    ) -> ToolProject:
        """Make the project and its webhook, or bring them up to date.

        Titles are not unique, and teams have projects of their own: the description tells which ours is.

        Raises:
            InvalidSchema: Label Studio cannot show it.
            ToolUnavailable: try again later.
            ToolRefused: a person has to change something first.
        """
        settings = self._settings(slug, schema) | {"description": mark_of(hook_secret)}
        with self._mapped() as client:
            known = self._known(client, slug, settings["description"], known_id)
            made = client.projects.create(**settings) if known is None else self._update(known, settings)
            project = int(made.id or 0)
            is_new = hook_url is not None and self._register(project, hook_url, hook_secret)
        return ToolProject(str(project), f"{self._url}/projects/{project}/data", is_hook_new=is_new)

    def push(self, project: str, tasks: Sequence[NewTask]) -> Mapping[str, str]:
        """Make one task per key, and return its id in Label Studio.

        Label Studio knows no unique key. Looking before an import finds tasks whose import's answer was lost;
        looking after it finds those that another process made at the same time, of which the first stays.
        """
        ids: dict[str, str] = {}
        for start in range(0, len(tasks), PUSH_BATCH):
            ids |= self._push_batch(project, tasks[start : start + PUSH_BATCH])
        return ids

    def pull(self, project: str, since: datetime | None) -> Iterator[HeldTask]:
        """Yield every task that changed since then, and some that did not.

        A task's own time moves with each annotation that is made, edited or deleted.
        """
        newer = (
            []
            if since is None
            else [
                _filter("updated_at", "greater", f"{(since - MARGIN).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
            ]
        )
        return self._held(project, newer)

    def fetch(self, project: str, tasks: Sequence[str]) -> list[HeldTask]:
        """Return the tasks with these ids in Label Studio that are still there."""
        ids = [int(task) for task in tasks if task.isdecimal()]
        return [held for task in ids for held in self._held(project, [_filter("id", "equal", task)])]

    def delete(self, project: str, tasks: Sequence[str]) -> None:
        """Delete tasks with all of their annotations, and read that they are gone."""
        for task in tasks:
            self._delete(int(task))
        if left := self.fetch(project, tasks):
            raise ToolUnavailable(f"Label Studio still shows {len(left)} of the tasks that it deleted")

    def close(self, project: str, tasks: Sequence[str]) -> None:
        """Offer tasks to nobody any more: one answer is enough, and is there."""
        self._change(tasks, {"overlap": 1, "is_labeled": True})

    def reopen(self, project: str, tasks: Sequence[str]) -> None:
        """Offer tasks again to everybody who has not answered them."""
        self._change(tasks, {"overlap": self._overlap, "is_labeled": False})

    def health(self) -> Health:
        """Say how it is, and what a person can do about it."""
        return label_studio_health(self._url, self._token)

    def records(self, project: str) -> Iterator[Mapping[str, Any]]:
        """Yield the tasks of any project as Label Studio exports them, by ascending id.

        Raises:
            ToolUnavailable: try again later.
            ToolRefused: there is no such project, or the token does not open it.
        """
        with self._mapped() as client:
            client.projects.get(int(project))  # the tasks of a project that is not there are none
        emails = self._emails()
        for task in self._tasks(project, [], {"fields": "all"}):
            answers = [
                answer | {"completed_by": {"email": _email(_person(answer["completed_by"]), emails)}}
                for answer in task["annotations"]
            ]
            yield {**task, "annotations": answers}

    def _settings(self, slug: str, schema: LabelSchema) -> dict[str, Any]:
        return {
            "title": slug,
            "label_config": label_config(schema),
            "expert_instruction": label_studio_page.instructions(schema.guidelines),
            "show_instruction": True,
            "show_collab_predictions": True,  # what is suggested is prefilled
            "enable_empty_annotation": False,
            "maximum_annotations": self._overlap,
        }

    def _known(self, client: LabelStudio, slug: str, mark: str, known_id: str | None) -> Any:
        """Return our project: by its id, or else the first of its title that bears our mark; None if there is none."""
        if known_id:
            with unless_gone():
                known = client.projects.get(int(known_id))
                if mark == known.description or slug == known.title:  # else the id is another Label Studio's
                    return known
        listed: Iterable[Any] = client.projects.list(title=slug)
        namesakes = [project for project in listed if project.title == slug]
        ours = [project for project in namesakes if project.description == mark]
        if namesakes and not ours:
            raise ToolRefused(
                f"Label Studio at {self._url} has a project {slug!r} that this installation did not make: rename it"
                f" there, or write {mark!r} into its description to hand it over"
            )
        return min(ours, key=lambda project: int(project.id), default=None)

    def _update(self, known: Any, settings: Mapping[str, Any]) -> Any:
        page = label_studio_page.keeping_asked(settings["label_config"], known.label_config)
        wanted = {**settings, "label_config": page}
        changed = {name: value for name, value in wanted.items() if getattr(known, name) != value}
        if changed:
            with self._mapped() as client:
                client.projects.update(int(known.id), **changed)
        return known

    def _register(self, project: int, url: str, secret: str) -> bool:
        """Leave one webhook of ours, which Label Studio would take and call twice; say whether it had to be made."""
        with self._mapped() as client:
            ours = [
                h for h in client.webhooks.list(project=str(project)) if SECRET_HEADER in (h.headers or {})
            ]
            wanted = (url, {SECRET_HEADER: secret}, True)
            right = [h for h in ours if url and (h.url, h.headers, h.is_active) == wanted]
            for hook in ours:
                if hook not in right[:1]:
                    client.webhooks.delete(hook.id)
            if url and not right:
                client.webhooks.create(
                    url=url,
                    project=project,
                    headers={SECRET_HEADER: secret},
                    actions=list(HOOK_ACTIONS),
                    send_for_all_actions=False,
                    send_payload=True,
                    is_active=True,
                )
        return bool(url) and not right

    def _push_batch(self, project: str, tasks: Sequence[NewTask]) -> dict[str, str]:
        keys = [task.key for task in tasks]
        known = self._look_up(project, keys)
        missing = {task.key: task for task in tasks if task.key not in known}
        if missing:
            with self._mapped() as client:
                request = [
                    ImportApiRequest(data={"external_id": key, **shown(task)}, predictions=_predictions(task))
                    for key, task in missing.items()
                ]
                client.projects.import_tasks(int(project), request=request, return_task_ids=True)
            known |= self._look_up(project, list(missing))
        if lost := [key for key in keys if key not in known]:
            raise ToolUnavailable(f"Label Studio took tasks and does not show them yet: {len(lost)}")
        return known

    def _look_up(self, project: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the id of each key that has a task, and remove unanswered duplicates of it."""
        found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for start in range(0, len(keys), LOOKUP_BATCH):
            # The filter travels in the address, which servers in front of Label Studio cut at about 8 kB.
            wanted = _filter("data.external_id", "in_list", list(keys[start : start + LOOKUP_BATCH]))
            for task in self._tasks(project, [wanted], {"include": "id,data,total_annotations"}):
                found[task["data"]["external_id"]].append(task)
        for same in found.values():
            for duplicate in same[1:]:
                if not duplicate.get("total_annotations"):
                    self._delete(duplicate["id"])
        return {key: str(same[0]["id"]) for key, same in found.items()}

    def _delete(self, task: int) -> None:
        with self._mapped() as client, unless_gone():
            client.tasks.delete(str(task))

    def _held(self, project: str, filters: Sequence[Mapping[str, Any]]) -> Iterator[HeldTask]:
        emails: dict[int, str] = {}
        for task in self._tasks(project, filters, {"fields": "all"}):
            people = {_person(a.get(field)) for a in task["annotations"] for field in AUTHORS}
            if not people - {None} <= emails.keys():
                emails = self._emails()
            key = str(task["data"].get("external_id") or "")
            yield HeldTask(
                external_id=str(task["id"]),
                key=key,
                annotations=tuple(_pulled(key, annotation, emails) for annotation in task["annotations"]),
                shown=texts(task["data"]),
                changed_at=time_of(task["updated_at"]),
            )

    def _emails(self) -> dict[int, str]:
        with self._mapped() as client:
            return {user.id: user.email for user in client.users.list()}

    def _tasks(
        self, project: str, filters: Sequence[Mapping[str, Any]], view: Mapping[str, str]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield tasks by ascending id.

        Each page asks for what follows the last id: page numbers skip tasks when others go meanwhile.
        """
        last = 0
        while True:
            items = [*filters, _filter("id", "greater", last)]
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            page = self._get_tasks(
                {**view, "project": project, "page_size": PAGE, "query": json.dumps(query)}
            )
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1]["id"]

    def _get_tasks(self, params: dict[str, Any]) -> list[Mapping[str, Any]]:
        with self._mapped() as client:
            tasks: list[Mapping[str, Any]] = _called(client, "GET", "api/tasks/", params=params)["tasks"]
            return tasks

    def _change(self, tasks: Sequence[str], values: Mapping[str, Any]) -> None:
        for task in tasks:
            with self._mapped() as client, unless_gone():
                _called(client, "PATCH", f"api/tasks/{int(task)}/", json=values)

    @contextmanager
    def _mapped(self) -> Iterator[LabelStudio]:
        """Hand out the SDK, and turn what it raises into our errors."""
        try:
            if self._client is None:
                self._client = connected(self._url, self._token)
            yield self._client
        except ApiError as error:
            raise refusal(
                f"Label Studio at {self._url}", error.status_code or 0, str(error.body), remedies=_REMEDIES
            ) from error
        except httpx.UnsupportedProtocol as error:
            raise ToolRefused(f"{self._url!r} is not an address of Label Studio") from error
        except httpx.TransportError as error:
            raise ToolUnavailable(f"Label Studio at {self._url} does not answer: {error!r}") from error
        except (httpx.InvalidURL, ParsingError, ValueError, KeyError) as error:
            told = without_secrets(repr(error))
            raise ToolRefused(f"{self._url} does not answer like Label Studio: {told:.200}") from error


def label_config(schema: LabelSchema) -> str:
    """Return the labelling page: what was asked and answered, then the verdict and what follows from it.

    Raises:
        InvalidSchema: Label Studio cannot show it.
    """
    config = str(LabelInterface.create(label_studio_page.tags(schema)))  # type: ignore[no-untyped-call]
    try:
        LabelInterface(config).validate()  # type: ignore[no-untyped-call]
    except LabelStudioValidationErrorSentryIgnored as error:
        raise InvalidSchema(f"Label Studio cannot show this schema: {error}") from error
    return config.strip()  # as Label Studio keeps it


def _called(client: LabelStudio, method: str, path: str, **more: Any) -> Any:
    # tasks.list() decodes a task into one of several models by what it holds, and the same field is a time in
    # one and text in another; tasks.update() knows no overlap. The SDK's HTTP client gives what the server sent.
    response = client._client_wrapper.httpx_client.request(path, method=method, **more)  # noqa: SLF001
    if response.is_error:
        raise ApiError(status_code=response.status_code, body=response.text)
    return response.json()


def _predictions(task: NewTask) -> list[PredictionRequest]:
    """Return what is prefilled; it is imported with its task, so that a repeated push adds none."""
    if not task.suggestion:
        return []
    # The SDK wants the id of the task, which has none before the import.
    made: dict[str, Any] = {"model_version": SUGGESTED_BY, "result": written(task.suggestion)}
    return [PredictionRequest.model_construct(**made)]


def _filter(column: str, operator: str, value: str | int | list[str]) -> dict[str, Any]:
    kind = "Datetime" if column == "updated_at" else "Number" if column == "id" else "String"
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _pulled(key: str, annotation: Mapping[str, Any], emails: Mapping[int, str]) -> PulledAnnotation:
    author = _person(annotation["completed_by"])
    editor = _person(annotation.get("updated_by"))
    answer, problem = _answer(annotation) if author in emails else (None, UNKNOWN_ACCOUNT)
    return PulledAnnotation(
        task_key=key,
        external_id=str(annotation["id"]),
        annotator=_email(author, emails),
        changed_by=_email(editor, emails),  # nobody's: imported, in whosever name
        answer=answer,
        seconds_spent=float(annotation.get("lead_time") or 0),
        updated_at=time_of(annotation["updated_at"]),
        problem=problem,
    )


def _answer(annotation: Mapping[str, Any]) -> tuple[Answer | None, str | None]:
    if annotation.get("was_cancelled"):
        return None, None
    return answer_or_problem(from_result, annotation.get("result"))


def _person(value: Any) -> int | None:
    """Return a user's id; Label Studio gives the id here and the whole user there."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, int) else None


def _email(person: int | None, emails: Mapping[int, str]) -> str:
    return "" if person is None else emails.get(person, f"user {person}")
