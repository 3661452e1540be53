"""The flags that a settlement answers: those of its task, and of every other one about the same response."""

from sqlalchemy.orm import aliased
from sqlmodel import col

from service.tables import AnnotationTask, Feedback, TaskFlag

_ANY = aliased(AnnotationTask)
# Not the `Feedback` by which a query may already tell who flagged first.
FLAG = aliased(Feedback)
# A flag belongs to one task, and whoever is asked again answers it too: its refusal of training holds for both.
ANSWERED = (
    col(_ANY.response_id) == AnnotationTask.response_id,
    col(TaskFlag.task_id) == _ANY.id,
    col(FLAG.id) == TaskFlag.feedback_id,
)
