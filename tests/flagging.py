"""The application in this process, and a response to flag."""

from uuid import UUID, uuid4

from sqlmodel import func, select
from werkzeug.test import TestResponse

from service.runtime import Runtime
from service.tables import Feedback
from service.web import app
from tests.server_kills import PAGE, what_flags_say


class Flagging:
    """Flags one response again and again."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.project, self.said = what_flags_say(runtime)
        self.client = app.create_app(runtime).test_client()

    def flag(self, event_id: UUID | None = None, **more: object) -> TestResponse:
        body = self.said | {"event_id": str(event_id or uuid4())} | more
        return self.client.post("/v1/feedback", json=body, headers={"Origin": PAGE})

    def count(self) -> int:
        with self.runtime.db.reading() as session:
            return session.scalar(select(func.count()).select_from(Feedback))
