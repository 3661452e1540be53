"""An annotation tool in memory, for tests that are not about a real one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from annotation.errors import ToolRefused, ToolUnavailable
from annotation.types import Answer, LabelSchema, NewTask, PulledAnnotation, ToolProject


@dataclass
class FakeProject:
    slug: str
    schema: LabelSchema
    hooks: list[tuple[str, str]] = field(default_factory=list)
    tasks: dict[str, NewTask] = field(default_factory=dict)
    annotations: dict[str, tuple[str, PulledAnnotation]] = field(default_factory=dict)


class FakeConnector:
    """Keeps the protocol of `annotation.types.Connector`; a test plays its experts by `answer` and the like.

    Its clock starts in 2026 and goes on one second with each thing that happens.
    """

    name = "fake"

    def __init__(self) -> None:
        self.projects: dict[str, FakeProject] = {}
        self.is_down = False
        self.is_refusing = False
        self.loses_next_answer = False
        self._ticks = 0

    def set_up(self, *, slug: str, schema: LabelSchema, hook_url: str, hook_secret: str) -> ToolProject:
        self._answer_call()
        found = [known for known, project in self.projects.items() if project.slug == slug]
        identifier = found[0] if found else self._next_id()
        project = self.projects.setdefault(identifier, FakeProject(slug, schema))
        project.schema = schema
        project.hooks = [(hook_url, hook_secret)] if hook_url else []
        return ToolProject(identifier, f"http://fake.invalid/projects/{identifier}")

    def push(self, project: str, tasks: Sequence[NewTask]) -> Mapping[str, str]:
        self._answer_call()
        held = self._project(project).tasks
        ids = {task.key: identifier for identifier, task in held.items()}
        for task in tasks:
            if task.key not in ids:
                ids[task.key] = self._next_id()
                held[ids[task.key]] = task
        if self.loses_next_answer:
            self.loses_next_answer = False
            raise ToolUnavailable("the answer was lost")
        return {task.key: ids[task.key] for task in tasks}

    def pull(self, project: str, since: datetime | None) -> Iterator[PulledAnnotation]:
        self._answer_call()
        for _, annotation in list(self._project(project).annotations.values()):
            if since is None or annotation.updated_at > since:
                yield annotation

    def fetch(self, project: str, task: str) -> list[PulledAnnotation]:
        self._answer_call()
        return [annotation for at, annotation in self._project(project).annotations.values() if at == task]

    def answer(self, project: str, task: str, annotator: str, answer: Answer) -> str:
        """Annotate the task as this annotator, and return the annotation's id."""
        return self._annotate(project, task, annotator, answer)

    def skip(self, project: str, task: str, annotator: str) -> str:
        return self._annotate(project, task, annotator, None)

    def send_nonsense(self, project: str, task: str, annotator: str) -> str:
        """Annotate with something that is no answer."""
        return self._annotate(project, task, annotator, None, problem="verdict 'perhaps' is none of ours")

    def suggested(self, project: str, task: str) -> dict[str, object]:
        return dict(self._project(project).tasks[task].suggestion)

    def edit(self, project: str, annotation: str, by: str, answer: Answer) -> None:
        task, old = self._project(project).annotations[annotation]
        new = replace(old, answer=answer, problem=None, changed_by=by, updated_at=self._tick())
        self._project(project).annotations[annotation] = (task, new)

    def _annotate(
        self, project: str, task: str, annotator: str, answer: Answer | None, problem: str | None = None
    ) -> str:
        identifier = self._next_id()
        annotation = PulledAnnotation(
            task_key=self._project(project).tasks[task].key,
            external_id=identifier,
            annotator=annotator,
            changed_by=annotator,
            answer=answer,
            seconds_spent=12.5,
            updated_at=self._tick(),
            problem=problem,
        )
        self._project(project).annotations[identifier] = (task, annotation)
        return identifier

    def _project(self, identifier: str) -> FakeProject:
        if identifier not in self.projects:
            raise ToolRefused(f"there is no project {identifier}")
        return self.projects[identifier]

    def _answer_call(self) -> None:
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
