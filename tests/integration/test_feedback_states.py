"""Whatever users do with their feedback, in whatever order: what they said last counts, once."""

from dataclasses import replace
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import select

from service import tokens
from service.client import signing
from service.tables import AnnotationTask, Feedback, Rating, TaskFlag, TaskState
from tests.integration.test_intake_api import PAGE, Site, open_site, sign

RATINGS = st.sampled_from(["up", "down"])
WORDS = st.sampled_from([None, "no", "wrong"])


class OneVoice(RuleBasedStateMachine):
    """One subject before one answer; `said` is what counts, and `events` what was sent so far."""

    site: Site

    def __init__(self) -> None:
        super().__init__()
        self.ref = str(uuid4())
        self.site.log(external_id=self.ref)
        self.token = sign(self.site, self.ref, "Cardiology", subject="ann")
        self.events: list[dict] = []
        self.said: dict | None = None

    def send(self, method: str, path: str = "", **body):
        about = {"key": self.site.public_key, "feedback_token": self.token} | body
        return self.site.client.open(
            f"/v1/feedback{path}", method=method, json=about, headers={"Origin": PAGE}
        )

    @rule(rating=RATINGS, comment=WORDS)
    def create(self, rating, comment):
        said = {"event_id": str(uuid4()), "rating": rating, "comment": comment}
        assert self.send("POST", **said).status_code == (200 if self.said else 201)
        self.events.append(said)
        self.said = dict(said)

    @precondition(lambda self: self.said)
    @rule()
    def replay(self):
        assert self.send("POST", **self.events[-1]).status_code == 200

    @precondition(lambda self: self.said)
    @rule()
    def use_an_event_again(self):
        other = self.events[-1] | {"comment": "something else"}
        assert self.send("POST", **other).status_code == 409

    @precondition(lambda self: self.said)
    @rule(rating=RATINGS, comment=WORDS)
    def change(self, rating, comment):
        event = self.said["event_id"]
        assert self.send("PATCH", f"/{event}", rating=rating, comment=comment).status_code == 200
        self.said |= {"rating": rating, "comment": comment}

    @precondition(lambda self: self.said)
    @rule()
    def undo(self):
        assert self.send("DELETE", f"/{self.said['event_id']}").json["state"] == "withdrawn"
        self.said = None

    @rule()
    def look_for_what_is_new(self):
        self.site.triage()

    @rule()
    def come_too_late(self):
        stale = signing.read(self.token)
        late = signing.sign(self.key(), stale.project, self.ref, "Cardiology", subject="ann", days=-1)
        told = self.send("POST", feedback_token=late, event_id=str(uuid4()), rating="up")
        assert (told.status_code, told.json["code"]) == (401, "token_expired")

    def key(self) -> str:
        kid = signing.read(self.token).kid
        return tokens.signing_key(self.site.project.slug, kid, self.site.runtime.secrets)

    @invariant()
    def one_row_says_what_was_said_last(self):
        with self.site.runtime.db.reading() as session:
            rows = session.exec(select(Feedback).where(Feedback.response_ref == self.ref)).all()
            tasks = session.exec(
                select(AnnotationTask.state, Feedback.rating, Feedback.withdrawn_at)
                .join(TaskFlag, TaskFlag.task_id == AnnotationTask.id)
                .join(Feedback, Feedback.id == TaskFlag.feedback_id)
                .where(Feedback.response_ref == self.ref)
            ).all()
        standing = [row for row in rows if not row.withdrawn_at]
        told = [(str(row.event_id), row.rating.value, row.comment) for row in standing]
        assert told == (
            [tuple(self.said[name] for name in ("event_id", "rating", "comment"))] if self.said else []
        )
        for state, rating, withdrawn in tasks:
            assert rating is Rating.DOWN
            assert withdrawn is None or state is TaskState.WITHDRAWN
        bearer = {"Authorization": f"Bearer {self.site.public_key}", "Errata-Feedback-Token": self.token}
        page = {"Origin": PAGE} | bearer
        items = self.site.client.get("/v1/feedback", headers=page).json["items"]
        assert [UUID(item["id"]) for item in items] == [row.id for row in standing]


def test_what_a_user_said_last_counts_once(runtime):
    unlimited = dict.fromkeys(("token_rate", "subject_rate", "key_rate", "address_rate"), 0)
    site = open_site(replace(runtime, settings=runtime.settings.model_copy(update=unlimited)))
    machine = type("Machine", (OneVoice,), {"site": site})
    few = settings(max_examples=3, stateful_step_count=9, deadline=None, derandomize=True)
    run_state_machine_as_test(machine, settings=few)
