"""One project with its users and its operator; who its experts are, each test says."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from sqlmodel import col, select

from retrain.types import Example
from service import answers, api_keys, ledger, people, projects, tool_state
from service.stages import curation, promotion, training
from service.tables import (
    AnnotationTask,
    Decision,
    Evaluation,
    InboxEvent,
    Job,
    JobKind,
    JobState,
    KeyKind,
    ModelVersion,
    Response,
    Role,
    Settlement,
    TaskState,
)
from tests.waiting import eventually

CRITERIA = [{"metric": "accuracy", "suite": "test", "margin": 0.1}]
TEACHABLE = {"learning_rate": 1e-2, "epochs": 8, "replay_general": 0}


class World:
    """What users, operators and time do to a project."""

    def __init__(self, runtime, client, work: Callable[[], None], new: projects.NewProject) -> None:
        self.runtime, self.client, self.work = runtime, client, work
        with runtime.db.transaction() as session:
            self.project = projects.create(session, new, actor="test")
            projects.set_criteria(session, self.project, CRITERIA, actor="test")
            self.key = api_keys.add(session, self.project, KeyKind.SECRET, [], actor="test")
            self.public_key = api_keys.add(session, self.project, KeyKind.PUBLIC, [], actor="test")
            self.operator, _ = people.add_user(session, "olga", Role.APPROVER, actor="test")

    def respond(self, prompt: str, said: str) -> str:
        """Log what the model said to a user; return the token with which the user gives feedback."""
        body = {"messages": [{"role": "user", "content": prompt}], "response": said}
        answer = self.client.post("/v1/responses", json=body, headers={"Authorization": f"Bearer {self.key}"})
        assert answer.status_code == 201, answer.text
        return answer.json["feedback_token"]

    def flag(self, token: str, reasons: Sequence[str] = ("wrong",), comment: str | None = None) -> None:
        body = {
            "key": self.public_key,
            "feedback_token": token,
            "event_id": str(uuid4()),
            "rating": "down",
            "reasons": list(reasons),
            "comment": comment,
        }
        answer = self.client.post("/v1/feedback", json=body)
        assert answer.status_code == 201, answer.text

    def triage(self, *, random_share: float) -> None:
        with self.runtime.db.transaction() as session:
            project = projects.find(session, self.project.slug)
            projects.change(session, project, random_share=random_share, actor="test")
        self.do(JobKind.TRIAGE)

    def send(self) -> None:
        self.do(JobKind.SEND)

    def sync(self) -> None:
        self.do(JobKind.SYNC)

    def curate(self) -> dict:
        self.do(JobKind.CURATE)
        with self.runtime.db.reading() as session:
            return answers.describe_set(session, answers.newest_set(session, self.project.id))

    def train(self) -> Evaluation:
        with self.runtime.db.transaction() as session:
            newest = answers.newest_set(session, self.project.id)
            training.request(self.runtime, session, newest, TEACHABLE, user=self.operator)
        self.work()
        with self.runtime.db.reading() as session:
            return session.exec(select(Evaluation)).one()

    def approve(self, evaluation: Evaluation) -> None:
        with self.runtime.db.transaction() as session:
            seen = promotion.what_to_approve(session, evaluation)
            promotion.decide(
                session,
                self.project,
                evaluation_id=evaluation.id,
                model_version=1,
                adapter_sha256=seen["adapter"],
                training_set=seen["training_set"],
                decision=Decision.APPROVED,
                reason="better on what users ask",
                user=self.operator,
            )

    def promote(self) -> None:
        with self.runtime.db.transaction() as session:
            promotion.promote(session, self.project, model_version=None, user=self.operator)

    def roll_back(self) -> None:
        with self.runtime.db.transaction() as session:
            promotion.roll_back(session, self.project, reason="rehearsal", user=self.operator)

    def do(self, kind: JobKind) -> None:
        """Ask for a job of the project and do it here."""
        with self.runtime.db.transaction() as session:
            self.runtime.queue.ask(session, kind, self.project.id, project_id=self.project.id)
        self.work()

    def do_what_was_asked_for(self) -> None:
        """Do the jobs that others asked for, as soon as they are due."""
        eventually(lambda: self.work() or not self.asked_for())

    def champion(self) -> ModelVersion:
        with self.runtime.db.reading() as session:
            return training.champion_of(session, self.project.id)

    def states_of_flags(self) -> list[str]:
        headers = {"Authorization": f"Bearer {self.key}"}
        return [item["state"] for item in self.client.get("/v1/feedback", headers=headers).json["items"]]

    def ledger_is_intact(self) -> bool:
        with self.runtime.db.reading() as session:
            return not list(ledger.broken(session))

    def tool_project(self) -> str:
        """Return the tool's id of the project."""
        with self.runtime.db.reading() as session:
            return tool_state.of(session, self.project.id, self.project.connector).external_id

    def tool_url(self) -> str:
        """Return the page on which experts work."""
        with self.runtime.db.reading() as session:
            return tool_state.of(session, self.project.id, self.project.connector).url

    def task(self, prompt: str) -> str:
        """Return the tool's id of the task that asks about a prompt."""
        return self._tasks()[prompt].external_id

    def states(self) -> dict[str, TaskState]:
        """Return the state of each task, by its prompt."""
        return {prompt: task.state for prompt, task in self._tasks().items()}

    def hooks(self) -> list[InboxEvent]:
        """Return the tool's webhooks that nobody has looked into yet."""
        unhandled = select(InboxEvent).where(col(InboxEvent.handled_at).is_(None))
        with self.runtime.db.reading() as session:
            return session.exec(unhandled.where(InboxEvent.project_id == self.project.id)).all()

    def asked_for(self) -> list[JobKind]:
        with self.runtime.db.reading() as session:
            return session.exec(select(Job.kind).where(Job.state == JobState.PENDING)).all()

    def settlement(self, prompt: str) -> Settlement | None:
        with self.runtime.db.reading() as session:
            of_task = select(Settlement).where(Settlement.task_id == self._tasks()[prompt].id)
            return session.exec(of_task).first()

    def examples(self) -> dict[str, Example]:
        """Return the newest training set's rows, by prompt."""
        with self.runtime.db.reading() as session:
            newest = answers.newest_set(session, self.project.id)
            return {example.prompt: example for example in curation.examples_of(session, newest)}

    def _tasks(self) -> dict[str, AnnotationTask]:
        rows = select(AnnotationTask, Response).join(Response, col(AnnotationTask.response_id) == Response.id)
        with self.runtime.db.reading() as session:
            found = session.exec(rows.where(AnnotationTask.project_id == self.project.id)).all()
        return {response.messages[-1]["content"]: task for task, response in found}
