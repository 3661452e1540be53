"""One project with its users and its operator; who its experts are, each test says."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from sqlmodel import col, select

from retrain.types import Example
from service import answers, api_keys, experts, goalposts, ledger, people, projects, tool_state, tools
from service.settings import Settings
from service.stages import curation, promotion, training
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    ConnectorKind,
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
    User,
)
from tests.console import PASSWORD
from tests.servers import RunningTool
from tests.waiting import eventually

CRITERIA = [{"metric": "accuracy", "suite": "test", "margin": 0.1}]
TEACHABLE = {"learning_rate": 1e-2, "epochs": 8, "replay_general": 0}


class World:
    """What users, operators and time do to a project."""

    def __init__(self, runtime, client, work: Callable[[], None], new: projects.NewProject) -> None:
        self.runtime, self.client, self.work = runtime, client, work
        with runtime.db.transaction() as session:
            self.project = projects.create(session, new, actor="test")
            goalposts.set_criteria(session, self.project, CRITERIA, actor="test")
            self.key = api_keys.add(session, self.project, KeyKind.SECRET, [], actor="test")
            self.public_key = api_keys.add(session, self.project, KeyKind.PUBLIC, [], actor="test")
            self.operator, _ = people.add_user(session, "olga", Role.APPROVER, actor="test")
            token = people.add_token(session, "olga", actor="test")
        self.headers = {"Authorization": f"Bearer {token}"}

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

    def join(self, name: str) -> str:
        """Invite somebody, have them use the link and have what that asks for done; return their page of work."""
        with self.runtime.db.transaction() as session:
            secret = experts.invite(session, self.project, name, actor="test")
        sent = {"name": name, "new_password": PASSWORD, "consent": "yes"}
        came_to = self.client.post(f"/join/{secret}", data=sent).location
        self.do_what_was_asked_for()
        return self.client.get(came_to).text

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

    def post(self, path: str, **body):
        """Have the operator ask the API for something."""
        sent = {"project": self.project.slug, **body}
        return self.client.post(f"/v1/{path}", json=sent, headers=self.headers)

    def newest(self, what: str) -> dict:
        """Return what the API says of the newest row."""
        listed = self.client.get(f"/v1/{what}?project={self.project.slug}", headers=self.headers)
        return listed.json["items"][-1]

    def learn(self, **options) -> dict:
        """Build a set, train on it, and return how the challenger was judged, all by the API."""
        assert self.post("training-sets").status_code == 202
        self.work()
        return self.learn_again(**options)

    def learn_again(self, **options) -> dict:
        """Train on the newest set in another way, and return how the challenger was judged."""
        assert self.post("training-runs", options=TEACHABLE | options).status_code == 202
        self.work()
        return self.newest("evaluations")

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

    def who_answered(self) -> list[str]:
        """Return the names here of those whose answers were read."""
        own = select(User.name).join(Annotator, col(Annotator.user_id) == User.id)
        with self.runtime.db.reading() as session:
            return list(session.exec(own.join(Annotation, col(Annotation.annotator_id) == Annotator.id)))

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


def as_bundled(settings: Settings, kind: ConnectorKind, tool: RunningTool) -> Settings:
    """Return settings of an installation that takes a running tool for the one that it brings along."""
    own = "label_studio_url" if kind is ConnectorKind.LABEL_STUDIO else "argilla_url"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    kept = tools.bundled(kind).home_of(tool.data_dir)
    tools.bundled(kind).home_of(settings.data_dir).symlink_to(kept)
    (kept / "port").write_text(tool.url.rpartition(":")[2])
    return settings.model_copy(update={own: ""})
