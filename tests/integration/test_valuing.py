"""What flags, sources and hours were worth to a model is estimated, and checked by training without them."""

from uuid import UUID

from sqlmodel import col, select

from service.stages import valuing
from service.tables import (
    Feedback,
    Influence,
    JobKind,
    Settlement,
    TaskFlag,
)
from tests.lab import TOPICS


def test_what_taught_something_wrong_is_worth_least_and_training_without_it_agrees(lab):
    sources = {"faq": ("heart", "Cardiology"), "mail": ("heart", "Billing"), "chat": ("pulse", "Cardiology")}
    keys = {name: lab.rows(*row, 20 if name == "mail" else 4, source=name) for name, row in sources.items()}
    model = lab.model(lab.curated())
    with lab.runtime.db.transaction() as session:
        job = lab.runtime.queue.ask(session, JobKind.VALUE, model.id, project_id=lab.project.id)
    (lab.runtime.settings.work / str(model.id) / "without" / "adapter").mkdir(
        parents=True
    )  # of one that was killed
    told = valuing.perform(lab.runtime, lab.runtime.queue.lease(job), model.id, lab.bench, repeats=2)
    assert [one["group"] for one in told["sources"]][-1] == "mail" and told["agreement"] > 0
    lost = {one["group"]: one["measured"] for one in told["sources"] if one["measured"]}
    assert lost["mail"]["value"] < 0 <= min(one["value"] for name, one in lost.items() if name != "mail")
    assert {one["rows"] for one in told["flags"]} == {1} and told["cases"] == 12 * len(TOPICS)
    with lab.runtime.db.reading() as session:
        wrong = select(Feedback.id).join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
        wrong = wrong.join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
        flags = {
            str(flag) for flag in session.exec(wrong.where(col(Settlement.id).in_(map(UUID, keys["mail"]))))
        }
        kept = session.exec(select(Influence)).one().rows
    assert {one["group"] for one in told["flags"] if one["estimate"] < 0} == flags
    assert {key for key, influence in kept.items() if influence < 0} == set(keys["mail"])
