"""The connector to Argilla, through its SDK."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import argilla as rg
import httpx
from argilla._exceptions import ArgillaAPIError, ArgillaCredentialsError, ArgillaError

from annotation.argilla_page import asked_sha256, record_of, settings_of
from annotation.argilla_results import exported, from_values, with_marked_text
from annotation.errors import ToolRefused, ToolUnavailable
from annotation.exchange import (
    MARGIN,
    UNKNOWN_ACCOUNT,
    answer_or_problem,
    as_written,
    mark_of,
    refusal,
    texts,
    time_of,
    without_secrets,
)
from annotation.health import argilla_health
from annotation.types import Answer, Health, HeldTask, LabelSchema, NewTask, PulledAnnotation, ToolProject

HOOK_EVENTS = ("response.created", "response.updated", "response.deleted", "record.deleted")
TIMEOUT_SECONDS = 30
PUSH_BATCH = 200
LOOKUP_BATCH = 100
PAGE = 500
DATED_BY_ANSWERS = "dated_by_answers"  # what the embedded search engine says of itself
CLOSED = "errata_closed"  # likewise
_ANSWERED = {
    "type": "terms",
    "scope": {"entity": "response", "property": "status"},
    "values": ["submitted", "discarded"],
}

_REMEDIES = {
    401: "the token is not accepted: take the API key of an owner's account",
    403: "the account may not do this: take an owner's",
    404: "it is not there any more, or this is not Argilla's address",
}


class ArgillaConnector:
    """Asks people in one Argilla, version 2.

    A project is a workspace, which annotators are members of. What is asked of a published data set cannot change,
    so that each set of questions has a data set of its own in it; answers to earlier ones are still pulled.

    Args:
        url: where it runs; experts open it there as well.
        api_key: the key of an owner's account.
        overlap: how many annotators Argilla shows a record to before it calls it done. It knows neither settlement
            nor adjudication, hence so many that it never does; how many we ask is ours to decide.
        members: who is let into each workspace that is set up, by name; in an Argilla that others use too, nobody.
    """

    name = "argilla"

    def __init__(self, url: str, api_key: str, *, overlap: int = 100, members: Sequence[str] = ()) -> None:
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._overlap = overlap
        self._members = members
        self._client: rg.Argilla | None = None
        self._current: dict[str, UUID] = {}  # the data set that tasks are pushed to, by project

    def set_up(
        self,
        *,
        slug: str,
        schema: LabelSchema,
        hook_url: str | None,
        hook_secret: str,
        known_id: str | None = None,
    ) -> ToolProject:
        """Make the workspace, its data set and the webhook, or bring them up to date.

        Argilla makes the hook's secret itself; `hook_secret` tells our hook from other installations'.

        Raises:
            InvalidSchema: Argilla cannot ask it.
            ToolUnavailable: try again later.
            ToolRefused: a person has to change something first.
        """
        with self._mapped() as client:
            # Looking one up by name would warn when there is none.
            there = [each for each in client.workspaces if known_id == str(each.id) or each.name == slug]
            there.sort(key=lambda each: known_id != str(each.id))
            workspace = there[0] if there else rg.Workspace(name=slug, client=client).create()
            dataset = self._dataset(client, workspace, schema)
            self._let_in(client, workspace)
            secret, is_new = self._register(client, hook_url, hook_secret)
        self._current[str(workspace.id)] = dataset
        url = f"{self._url}/dataset/{dataset}/annotation-mode"
        return ToolProject(str(workspace.id), url, hook_secret=secret, is_hook_new=is_new)

    def push(self, project: str, tasks: Sequence[NewTask]) -> Mapping[str, str]:
        """Make one record per key, and return its id in Argilla.

        A key is unique in a data set; one that an earlier data set asks about stays there.
        """
        datasets = [UUID(each["id"]) for each in self._datasets(project)]
        current = self._current.get(project) or (datasets[-1] if datasets else None)
        if current is None:
            raise ToolRefused(f"Argilla at {self._url} has no data set in workspace {project}")
        ids, keys = dict[str, str](), [task.key for task in tasks]
        for dataset in datasets:
            ids |= {} if dataset == current else self._look_up(dataset, keys)
        missing = [task for task in tasks if task.key not in ids]
        for start in range(0, len(missing), PUSH_BATCH):
            ids |= self._push_batch(current, missing[start : start + PUSH_BATCH])
        return ids

    def pull(self, project: str, since: datetime | None) -> Iterator[HeldTask]:
        """Yield the records of every data set with activity since then: those with an answer since, or else all.

        A data set without activity costs one look. Argilla's own search does not know when an answer changed, so
        that with Elasticsearch every answered record is looked at.
        """
        names, datasets = self._names(), self._datasets(project)
        if not datasets:  # Argilla says so too of a workspace that was deleted
            raise ToolRefused(f"Argilla at {self._url} has no data set in workspace {project}")
        for dataset in datasets:
            if since is None or time_of(dataset["last_activity_at"]) >= since - MARGIN:
                for record in self._records(UUID(dataset["id"]), *self._answered_since(since)):
                    yield _held(record, names)

    def fetch(self, project: str, tasks: Sequence[str]) -> list[HeldTask]:
        """Return the records with these ids in Argilla that are still there."""
        names = self._names() if tasks else {}
        found = (self._get(task) for task in tasks)
        return [_held(record, names) for record in found if record is not None]

    def delete(self, project: str, tasks: Sequence[str]) -> None:
        """Delete records with all answers to them, and read that they are gone."""
        for task in tasks:
            with self._mapped() as client:
                # The SDK deletes by data set, and a task does not say in which one it is.
                response = client.http_client.delete(f"/api/v1/records/{UUID(task)}")
                if response.status_code != httpx.codes.NOT_FOUND:
                    response.raise_for_status()
        if left := self.fetch(project, tasks):
            raise ToolUnavailable(f"Argilla still shows {len(left)} of the records that it deleted")

    def close(self, project: str, tasks: Sequence[str]) -> None:
        """Mark records as what the embedded search engine offers to nobody."""
        self._mark(tasks, {CLOSED: 1})

    def reopen(self, project: str, tasks: Sequence[str]) -> None:
        """Take the mark away."""
        self._mark(tasks, {})

    def health(self) -> Health:
        """Say how it is, and what a person can do about it."""
        return argilla_health(self._url, self._api_key)

    def _mark(self, tasks: Sequence[str], metadata: Mapping[str, Any]) -> None:
        for task in tasks:
            body = {"metadata": dict(metadata)}
            with self._mapped() as client:
                # The SDK updates by data set, and a task does not say in which one it is.
                response = client.http_client.patch(f"/api/v1/records/{UUID(task)}", json=body)
                if response.status_code != httpx.codes.NOT_FOUND:
                    response.raise_for_status()

    def _answered_since(self, since: datetime | None) -> list[Mapping[str, Any]]:
        if since is None:
            return []
        with self._mapped() as client:
            # The SDK does not ask which search engine there is.
            status = client.http_client.get("/api/v1/status").raise_for_status().json()
        if DATED_BY_ANSWERS not in status["search_engine"]:
            return [_ANSWERED]
        from_then = (since - MARGIN).astimezone(UTC).replace(tzinfo=None)  # as Argilla writes times
        scope = {"entity": "record", "property": "updated_at"}
        return [_ANSWERED, {"type": "range", "scope": scope, "ge": from_then.isoformat()}]

    def _get(self, task: str) -> Mapping[str, Any] | None:
        try:
            record = UUID(task)
        except ValueError:
            return None
        with self._mapped() as client:
            # The SDK's records fail on an answer without values, and do not say when an answer was changed.
            response = client.http_client.get(f"/api/v1/records/{record}")
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            return dict(response.raise_for_status().json())

    def records(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the records of any data set, named WORKSPACE/DATASET, as Argilla exports them, by ascending time.

        Raises:
            ToolUnavailable: try again later.
            ToolRefused: there is no such data set, or the key does not open it.
        """
        workspace, _, dataset = name.partition("/")
        with self._mapped() as client:
            ids = [str(each.id) for each in client.workspaces if each.name == workspace]
        datasets = self._datasets(ids[0]) if ids else []
        found = [each["id"] for each in datasets if each["name"] == dataset]
        if not found:
            raise ToolRefused(
                f"Argilla at {self._url} has no data set {dataset!r} in workspace {workspace!r}"
            )
        for record in self._records(UUID(found[0])):
            yield exported(record)

    def _dataset(self, client: rg.Argilla, workspace: rg.Workspace, schema: LabelSchema) -> UUID:
        """Return the data set that asks these questions, made first if there is none."""
        name = f"{workspace.name}-{asked_sha256(schema)[:8]}"
        known = next((dataset for dataset in workspace.datasets if dataset.name == name), None)
        if known is not None and known._model.status == "draft":  # noqa: SLF001 - the SDK shows it nowhere else
            known.delete()  # whoever made it was ended before it was published, and a draft takes no records
            known = None
        if known is None:
            settings = settings_of(schema, overlap=self._overlap, client=client)
            made = rg.Dataset(name=name, workspace=workspace, settings=settings, client=client).create()
            return UUID(str(made.id))
        if (known.guidelines or "") != schema.guidelines:
            body = {"guidelines": schema.guidelines or None}
            # The SDK's update writes fields and questions too, which a published data set refuses.
            client.http_client.patch(f"/api/v1/datasets/{known.id}", json=body).raise_for_status()
        return UUID(str(known.id))

    def _let_in(self, client: rg.Argilla, workspace: rg.Workspace) -> None:
        missing = {*self._members} - {user.username for user in workspace.users}
        for user in client.users:
            if user.username in missing:
                workspace.add_user(user)

    def _register(self, client: rg.Argilla, url: str | None, mark: str) -> tuple[str, bool]:
        """Leave one webhook of ours, enabled; return the secret that it signs with, and whether it had to be made.

        Argilla's hooks belong to no workspace, and other installations have theirs: a digest of `mark` tells ours.
        """
        description = mark_of(mark)
        ours = [hook for hook in client.webhooks if hook.description == description]
        if url is None:
            return str(ours[0].secret) if ours else "", False
        right = [
            hook for hook in ours if hook.url == url and hook.enabled and {*hook.events} == {*HOOK_EVENTS}
        ]
        for hook in ours:
            if hook not in right[:1]:
                hook.delete()
        if not url:
            return "", False
        events = list(HOOK_EVENTS)
        hook = right[0] if right else rg.Webhook(url, events, description, _client=client).create()
        return str(hook.secret), not right

    def _push_batch(self, dataset: UUID, tasks: Sequence[NewTask]) -> dict[str, str]:
        with self._mapped() as client:
            suggests = any(task.suggestion for task in tasks)
            # The SDK's records name a question, the server wants its id.
            asked = client.api.questions.list(dataset) if suggests else []
            questions = {question.name: question.id for question in asked}
            records = [record_of(task, questions) for task in tasks]
            # records.log() shows a bar and keeps the new ids to itself.
            made, _ = client.api.records.bulk_upsert(dataset_id=dataset, records=records)
        return {str(record.external_id): str(record.id) for record in made}

    def _look_up(self, dataset: UUID, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(keys), LOOKUP_BATCH):
            wanted = list(keys[start : start + LOOKUP_BATCH])
            scope = {"entity": "record", "property": "external_id"}
            page = self._search(dataset, [{"type": "terms", "scope": scope, "values": wanted}], "")
            found |= {record["external_id"]: record["id"] for record in page}
        return found

    def _records(self, dataset: UUID, *filters: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the records that pass these filters by ascending time.

        Each page asks for what is not older than the last record: page numbers skip some when others go meanwhile.
        """
        seen: set[str] = set()
        newer: list[dict[str, Any]] = []
        while True:
            page = self._search(dataset, [*filters, *newer], "responses")
            fresh = [record for record in page if record["id"] not in seen]
            yield from fresh
            if len(page) < PAGE or not fresh:
                return
            seen.update(record["id"] for record in fresh)
            scope = {"entity": "record", "property": "inserted_at"}
            newer = [{"type": "range", "scope": scope, "ge": page[-1]["inserted_at"]}]

    def _search(
        self, dataset: UUID, filters: Sequence[Mapping[str, Any]], include: str
    ) -> list[Mapping[str, Any]]:
        scope = {"entity": "record", "property": "inserted_at"}
        body: dict[str, Any] = {"sort": [{"scope": scope, "order": "asc"}]}
        if filters:  # an empty list of them is refused
            body["filters"] = {"and": list(filters)}
        params = {"limit": PAGE, **({"include": include} if include else {})}
        with self._mapped() as client:
            # The SDK's records fail on an answer without values, and do not say when an answer was changed.
            response = client.http_client.post(
                f"/api/v1/datasets/{dataset}/records/search", json=body, params=params
            )
            return [item["record"] for item in response.raise_for_status().json()["items"]]

    def _datasets(self, project: str) -> list[Mapping[str, Any]]:
        """Return a workspace's data sets, oldest first."""
        with self._mapped() as client:
            # The SDK's data sets do not say when there was activity in them.
            response = client.http_client.get("/api/v1/me/datasets", params={"workspace_id": project})
            found: list[Mapping[str, Any]] = response.raise_for_status().json()["items"]
            return sorted(found, key=lambda dataset: (dataset["inserted_at"], dataset["id"]))

    def _names(self) -> dict[str, str]:
        with self._mapped() as client:
            return {str(user.id): str(user.username) for user in client.users}

    @contextmanager
    def _mapped(self) -> Iterator[rg.Argilla]:
        """Hand out the SDK, and turn what it raises into our errors."""
        try:
            if self._client is None:
                # It keeps no connection, since nobody would close it; it becomes the default of all that name none.
                limits = httpx.Limits(max_keepalive_connections=0)
                self._client = rg.Argilla(
                    self._url, self._api_key, timeout=TIMEOUT_SECONDS, retries=0, limits=limits
                )
            yield self._client
        except ArgillaAPIError as error:
            raise self._problem(error.status_code, str(error)) from error
        except ArgillaCredentialsError as error:
            raise self._problem(httpx.codes.UNAUTHORIZED, str(error)) from error
        except httpx.HTTPStatusError as error:
            raise self._problem(error.response.status_code, error.response.text) from error
        except httpx.UnsupportedProtocol as error:
            raise ToolRefused(f"{self._url!r} is not an address of Argilla") from error
        except httpx.TransportError as error:
            raise ToolUnavailable(f"Argilla at {self._url} does not answer: {error!r}") from error
        except (ArgillaError, httpx.InvalidURL, ValueError, KeyError) as error:
            told = without_secrets(repr(error))
            raise ToolRefused(f"{self._url} does not answer like Argilla: {told:.200}") from error

    def _problem(self, status: int, detail: str) -> ToolUnavailable | ToolRefused:
        return refusal(f"Argilla at {self._url}", status, detail, remedies=_REMEDIES)


def _held(record: Mapping[str, Any], names: Mapping[str, str]) -> HeldTask:
    """Return a record with its answers; drafts are none."""
    key = str(record.get("external_id") or "")
    given = [response for response in record.get("responses") or () if response["status"] != "draft"]
    there = texts(record["fields"])
    return HeldTask(
        external_id=str(record["id"]),
        key=key,
        annotations=tuple(_pulled(key, response, names, record["fields"]) for response in given),
        # What people wrote there by hand did not go through `without_html`.
        shown={name: as_written(text) for name, text in there.items()} if key else there,
        changed_at=max((time_of(response["updated_at"]) for response in given), default=None),
    )


def _pulled(
    key: str, response: Mapping[str, Any], names: Mapping[str, str], fields: Mapping[str, Any]
) -> PulledAnnotation:
    # Whom an answer belongs to may change it, and so may an owner; Argilla does not say who did.
    known = names.get(response["user_id"])
    who = known or f"user {response['user_id']}"
    answer, problem = (
        _answer(response, as_written(str(fields.get("response")))) if known else (None, UNKNOWN_ACCOUNT)
    )
    return PulledAnnotation(
        task_key=key,
        external_id=str(response["id"]),
        annotator=who,
        changed_by=who,
        answer=answer,
        seconds_spent=0.0,
        updated_at=time_of(response["updated_at"]),
        problem=problem,
    )


def _answer(response: Mapping[str, Any], judged: str) -> tuple[Answer | None, str | None]:
    # A discarded answer keeps what was prefilled.
    if response["status"] != "submitted":
        return None, None
    answer, problem = answer_or_problem(from_values, response.get("values"))
    if answer and answer.correction:  # it may be copied from the page, which shows what `without_html` wrote
        answer = replace(answer, correction=as_written(answer.correction))
    return answer and with_marked_text(answer, judged), problem
