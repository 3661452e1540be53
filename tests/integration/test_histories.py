"""What lies between two models is put together from their sets, row by row."""

from sqlmodel import select

from retrain.types import Split
from service.answers.histories import between
from service.tables import (
    TrainingSetExample,
)


def test_a_row_that_was_corrected_later_is_one_change_that_needs_the_first(lab):
    good = lab.good
    [key] = lab.rows("pulse", "Cardiology", 1, source="mail")
    lab.curated()
    lab.withdraw(key)
    lab.rows("refund", "Billing", 1)
    bad = lab.model(lab.curated())
    with lab.runtime.db.reading() as session:
        past = between(session, lab.runtime.artifacts, good, bad, metric="accuracy")
    (second,) = [change for change in past.history.changes if change.removed]
    (first,) = [change for change in past.history.changes if change.added == second.removed]
    assert second.needs == {first.id}
    assert first.added == (f"{key}@2",)
    everything = past.history.making(past.history.changes)
    assert {one.key for one in past.examples(everything)} == lab.taught(bad)
    assert {one.key for one in past.examples(past.history.making([]))} == lab.taught(good)


def test_a_case_that_was_learned_from_judges_nothing(lab):
    good = lab.model(lab.curated())
    lab.rows("heart", "Billing", 12, source="mail")
    bad = lab.model(lab.curated())
    with lab.runtime.db.transaction() as session:
        whole = between(session, lab.runtime.artifacts, good, bad, metric="accuracy")
        learned, tested = (
            session.exec(select(TrainingSetExample).where(TrainingSetExample.split == split)).first()
            for split in (Split.TRAIN, Split.TEST)
        )
        for row in session.exec(
            select(TrainingSetExample).where(TrainingSetExample.settlement_id == tested.settlement_id)
        ):
            row.group_name = learned.group_name
        session.flush()
        past = between(session, lab.runtime.artifacts, good, bad, metric="accuracy")
    assert (whole.known, past.known) == (0, 1)
    assert len(past.cases) == len(whole.cases) - 1
