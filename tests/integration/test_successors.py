"""What follows an erasure: a set without the rows, and a set that is filled again is published again."""

import pytest
from sqlmodel import select

from retrain import parquet
from retrain.versions import DataRepository
from service.answers.erasures import revision_of
from service.errors import TryAgain
from service.stages import mirroring
from service.tables import Job, JobKind, JobState, LedgerEntry, Mirror, Response, Role
from tests.clones import checked_out, dvc
from tests.console import person
from tests.integration.test_erasure import MARKER, PATIENT, Clinic


@pytest.fixture
def clinic(runtime, tmp_path) -> Clinic:
    (tmp_path / "remote").mkdir()
    return Clinic(runtime, str(tmp_path / "remote"))


def asked(clinic: Clinic, kind: JobKind) -> list[Job]:
    with clinic.runtime.db.reading() as session:
        return list(session.exec(select(Job).where(Job.kind == kind, Job.state == JobState.PENDING)))


def fill_again(clinic: Clinic):
    """Let somebody else say what was erased, so that the newest set has all its rows again."""
    clinic.erase()
    for text in (f"how is my {MARKER}?", f"where did it go, that {MARKER} of mine?"):
        clinic.told(text, subject="Ben")
    clinic.told(f"when will the {MARKER} play again?", subject="Ben", of_flag={"comment": "no"})
    return clinic.curate()


def test_an_erasure_asks_once_for_the_set_without_the_rows(clinic):
    clinic.erase()
    clinic.erase()
    [job] = asked(clinic, JobKind.CURATE)
    assert job.row_id == clinic.project.id and job.options == {}
    successor = clinic.curate()
    assert successor.version == 3 and clinic.examples(successor).keys() == {clinic.other}
    with clinic.runtime.db.transaction() as session:
        session.delete(session.get_one(Job, job.id))
    clinic.erase()
    assert asked(clinic, JobKind.CURATE) == []


def test_an_erasure_that_changes_no_newest_set_asks_for_none(clinic):
    clinic.erase("nobody")
    assert asked(clinic, JobKind.CURATE) == []
    with clinic.runtime.db.transaction() as session:
        session.exec(select(Response).where(Response.text == "long")).one().subject = PATIENT
    clinic.erase()  # of which nothing is left
    assert asked(clinic, JobKind.CURATE) == []


def test_a_remote_that_refuses_does_not_keep_the_successor_from_being_asked_for(clinic, monkeypatch):
    def refuse(*_):
        raise TryAgain("away")

    monkeypatch.setattr(DataRepository, "forget", refuse)
    with pytest.raises(TryAgain):
        clinic.erase()
    assert len(asked(clinic, JobKind.CURATE)) == 1


def test_a_set_that_was_filled_again_is_published_as_its_next_revision(clinic, tmp_path):
    again = fill_again(clinic)
    assert again.id == clinic.second.id
    assert [job.row_id for job in asked(clinic, JobKind.MIRROR)] == [again.id]
    done = clinic.mirror(again)
    assert (done["tag"], {"clinic/v2", "clinic/v2-2"} <= set(clinic.repository.tags())) == (
        "clinic/v2-2",
        True,
    )
    clone = checked_out(clinic.repository, "clinic/v2-2", tmp_path / "clone")
    assert dvc(clone, "pull").returncode == 0
    rows = [row for file in (clone / "sets/clinic/rows").glob("*.parquet") for row in parquet.read(file)]
    assert {row.answer for row in rows} == {row.answer for row in clinic.examples(again).values()}
    lineage = (clone / "sets/clinic/lineage.jsonl").read_text()
    assert all(key in lineage for key in clinic.examples(again))
    with clinic.runtime.db.reading() as session:
        assert "clinic/v2-2" in mirroring.needed_tags(session)
    auditor = person(clinic.runtime, Role.AUDITOR, password="")
    assert "<code>clinic/v2-2</code>" in auditor.get(f"/p/clinic/sets/{again.id}").text


def test_a_set_that_is_built_as_it_is_gets_no_further_revision(clinic):
    again = fill_again(clinic)
    assert clinic.mirror(again) == clinic.mirror(again) | {"sent": 1}
    assert clinic.curate().id == again.id and asked(clinic, JobKind.MIRROR) == []
    with clinic.runtime.db.reading() as session:
        assert revision_of(session, again) == 2
        assert (
            len(
                session.exec(
                    select(LedgerEntry).where(LedgerEntry.action == "training_set_filled_again")
                ).all()
            )
            == 1
        )
        assert session.exec(select(Mirror).where(Mirror.training_set_id == again.id)).one().failure is None


def test_an_erasure_reaches_every_revision(clinic):
    clinic.mirror(fill_again(clinic))
    assert "remote" in clinic.holding()
    clinic.erase("Ben")
    assert clinic.holding() == set()


def test_what_is_to_be_erased_is_read_in_our_turn(clinic, monkeypatch):
    shards, turn, seen = DataRepository.shards, DataRepository._turn, []

    def watched(repository, tag):
        seen.append(_is_taken(turn(repository, "git")))
        return shards(repository, tag)

    monkeypatch.setattr(DataRepository, "shards", watched)
    clinic.erase()
    assert seen and all(seen)


def _is_taken(lock) -> bool:
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        return True
    lock.release()
    return False
