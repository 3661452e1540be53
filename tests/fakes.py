"""An annotation tool in memory, for tests that are not about a real one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from annotation.errors import ToolRefused, ToolUnavailable
from annotation.exchange import shown, texts
from annotation.types import (
    Answer,
    Health,
    HeldTask,
    LabelSchema,
    NewTask,
    PulledAnnotation,
    ToolProject,
)


@dataclass
class FakeTask:
    """What the tool holds of a task: annotations by id, and when any of it changed last."""

    key: str
    shown: Mapping[str, str]
    changed_at: datetime
    annotations: dict[str, PulledAnnotation] = field(default_factory=dict)
    suggestion: Mapping[str, object] = field(default_factory=dict)


@dataclass
class FakeProject:
    slug: str
    schema: LabelSchema
    hooks: list[tuple[str, str]] = field(default_factory=list)
    tasks: dict[str, FakeTask] = field(default_factory=dict)


class FakeConnector:
    """Keeps the protocol of `annotation.types.Connector`; a test plays its experts by `answer` and the like.

    Its clock starts in 2026 and goes on one second with each thing that happens. `calls` counts what it was asked.
    """

    name = "fake"

    def __init__(self) -> None:
        self.projects: dict[str, FakeProject] = {}
        self.is_down = False
        self.is_refusing = False
        self.loses_next_answer = False
        self.takes_only: int | None = None  # how many of the next batch, before it breaks off
        self.calls: list[str] = []
        self.closed: set[str] = set()
        self.yielded = 0
        self._ticks = 0

    def set_up(
        self,
        *,
        slug: str,
        schema: LabelSchema,
        hook_url: str | None,
        hook_secret: str,
        known_id: str | None = None,
    ) -> ToolProject:
        self._answer_call("set_up")
        found = [key for key, project in self.projects.items() if key == known_id or project.slug == slug]
        identifier = found[0] if found else self._next_id()
        project = self.projects.setdefault(identifier, FakeProject(slug, schema))
        project.schema = schema
        before = project.hooks
        if hook_url is not None:
            project.hooks = [(hook_url, hook_secret)] if hook_url else []
        is_new = bool(hook_url) and project.hooks != before
        return ToolProject(identifier, f"http://fake.invalid/projects/{identifier}", is_hook_new=is_new)

    def push(self, project: str, tasks: Sequence[NewTask]) -> Mapping[str, str]:
        self._answer_call("push")
        held = self._project(project).tasks
        ids = {task.key: identifier for identifier, task in held.items()}
        for number, task in enumerate(tasks):
            if number == self.takes_only:
                self.takes_only = None
                raise ToolUnavailable("it broke off")
            if task.key not in ids:
                ids[task.key] = self._next_id()
                held[ids[task.key]] = FakeTask(
                    task.key, texts(shown(task)), self._tick(), suggestion=task.suggestion
                )
        if self.loses_next_answer:
            self.loses_next_answer = False
            raise ToolUnavailable("the answer was lost")
        return {task.key: ids[task.key] for task in tasks}

    def pull(self, project: str, since: datetime | None) -> Iterator[HeldTask]:
        self._answer_call("pull")
        for identifier, task in list(self._project(project).tasks.items()):
            if since is None or task.changed_at > since:
                self.yielded += 1
                yield _held(identifier, task)

    def fetch(self, project: str, tasks: Sequence[str]) -> list[HeldTask]:
        self._answer_call("fetch")
        held = self._project(project).tasks
        return [_held(identifier, held[identifier]) for identifier in tasks if identifier in held]

    def delete(self, project: str, tasks: Sequence[str]) -> None:
        self._answer_call("delete")
        for task in tasks:
            self._project(project).tasks.pop(task, None)

    def close(self, project: str, tasks: Sequence[str]) -> None:
        self._answer_call("close")
        self.closed |= {*tasks}

    def reopen(self, project: str, tasks: Sequence[str]) -> None:
        self._answer_call("reopen")
        self.closed -= {*tasks}

    def health(self) -> Health:
        try:
            self._answer_call("health")
        except ToolUnavailable as error:
            return Health(problem=str(error), remedy="start it")
        except ToolRefused as error:
            return Health(version="1", problem=str(error), remedy="take another token")
        return Health("1", "admin")

    def answer(self, project: str, task: str, annotator: str, answer: Answer) -> str:
        """Annotate the task as this annotator, and return the annotation's id."""
        return self._annotate(project, task, annotator, answer)

    def draft(self, project: str, task: str, annotator: str, answer: Answer) -> None:
        """Begin an answer without submitting it: the task is seen to change, and holds nothing."""
        self._project(project).tasks[task].changed_at = self._tick()

    def skip(self, project: str, task: str, annotator: str) -> str:
        return self._annotate(project, task, annotator, None)

    def send_nonsense(self, project: str, task: str, annotator: str) -> str:
        """Annotate with something that is no answer."""
        return self._annotate(project, task, annotator, None, problem="verdict 'perhaps' is none of ours")

    def offered(self, project: str, annotator: str) -> list[str]:
        """Return the tasks that wait for an annotator, what was sent first before others, or the next of them."""
        return [
            identifier
            for identifier, task in self._project(project).tasks.items()
            if identifier not in self.closed
            and annotator not in {one.annotator for one in task.annotations.values()}
        ]

    def suggested(self, project: str, task: str) -> dict[str, object]:
        return dict(self._project(project).tasks[task].suggestion)

    def edit(self, project: str, annotation: str, by: str, answer: Answer) -> None:
        task = self._task_of(project, annotation)
        task.changed_at = self._tick()
        task.annotations[annotation] = replace(
            task.annotations[annotation],
            answer=answer,
            problem=None,
            changed_by=by,
            updated_at=task.changed_at,
        )

    def take_back(self, project: str, annotation: str) -> None:
        """Delete an annotation, as its author or an operator does."""
        task = self._task_of(project, annotation)
        del task.annotations[annotation]
        task.changed_at = self._tick()

    def remove(self, project: str, task: str) -> None:
        """Delete a task, as an operator does: nothing tells that it was there."""
        del self._project(project).tasks[task]

    def remove_project(self, project: str) -> None:
        del self.projects[project]

    def remove_hooks(self, project: str, url: str) -> None:
        self._project(project).hooks = []

    def add_by_hand(self, project: str, **told: str) -> str:
        """Add a task as an operator does, who knows no key of ours."""
        identifier = self._next_id()
        self._project(project).tasks[identifier] = FakeTask("", texts(told), self._tick())
        return identifier

    def _annotate(
        self, project: str, task: str, annotator: str, answer: Answer | None, problem: str | None = None
    ) -> str:
        identifier = self._next_id()
        held = self._project(project).tasks[task]
        held.changed_at = self._tick()
        held.annotations[identifier] = PulledAnnotation(
            task_key=held.key,
            external_id=identifier,
            annotator=annotator,
            changed_by=annotator,
            answer=answer,
            seconds_spent=12.5,
            updated_at=held.changed_at,
            problem=problem,
        )
        return identifier

    def _task_of(self, project: str, annotation: str) -> FakeTask:
        return next(task for task in self._project(project).tasks.values() if annotation in task.annotations)

    def _project(self, identifier: str) -> FakeProject:
        if identifier not in self.projects:
            raise ToolRefused(f"there is no project {identifier}")
        return self.projects[identifier]

    def _answer_call(self, name: str) -> None:
        self.calls.append(name)
        if self.is_down:
            raise ToolUnavailable("the tool is down")
        if self.is_refusing:
            raise ToolRefused("the token is not accepted")

    def _next_id(self) -> str:
        self._tick()
        return str(self._ticks)

    def _tick(self) -> datetime:
        self._ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._ticks)


def _held(identifier: str, task: FakeTask) -> HeldTask:
    annotations = tuple(task.annotations.values())
    return HeldTask(identifier, task.key, annotations, task.shown, task.changed_at)
