"""Has Argilla show a member of a workspace no answer but their own, also where they ask for a record by its id.

Argilla's page keeps to that; its API gives whoever may read a record all answers to it.
"""

from collections.abc import Awaitable, Callable

from argilla_server.api.policies.v1 import RecordPolicy
from argilla_server.models import Record, User
from sqlalchemy.orm.attributes import set_committed_value

their_policy = RecordPolicy.get


def own_answers_alone(record: Record) -> Callable[[User], Awaitable[bool]]:
    """Decide as Argilla does, and leave an annotator their own answers."""
    is_allowed_there = their_policy(record)

    async def is_allowed(actor: User) -> bool:
        allowed: bool = await is_allowed_there(actor)
        if allowed and actor.is_annotator and "responses" in record.__dict__:
            # As if no more had been read: nothing is written back.
            own = [response for response in record.responses if response.user_id == actor.id]
            set_committed_value(record, "responses", own)
        return allowed

    return is_allowed


RecordPolicy.get = own_answers_alone
