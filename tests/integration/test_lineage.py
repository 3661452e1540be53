"""Each row of a mirrored set names by id all that it goes back to, as it was when the set was frozen."""

import json
from uuid import UUID

import pytest
from sqlmodel import select

from annotation.types import Verdict
from retrain.audit import Repair, RepairKind, checks
from service.clock import utcnow
from service.tables import (
    Annotation,
    Annotator,
    ConnectorKind,
    Feedback,
    Response,
    Settlement,
    SettlementAnnotation,
    TrainingSet,
    TrainingSetExample,
)
from tests.clones import checked_out
from tests.integration.test_mirror import Team

WORDS = ("who is Ann?", "a nurse", "Ann Smith", "not in my name")


@pytest.fixture
def team(runtime, tmp_path) -> Team:
    (tmp_path / "remote").mkdir()
    return Team(runtime, str(tmp_path / "remote"))


def lines(team: Team, training_set: TrainingSet, clone) -> dict[str, dict]:
    """The lineage in a clone at the set's tag, by settlement."""
    team.mirror(training_set)
    at = checked_out(team.repository, f"clinic/v{training_set.version}", clone)
    rows = map(json.loads, (at / "sets/clinic/lineage.jsonl").read_text().splitlines())
    return {row["settlement"]: row for row in rows}


def annotated(team: Team, key: str) -> str:
    """Let an expert's answer stand behind a settlement; return its id."""
    with team.runtime.db.transaction() as session:
        ada = Annotator(connector=ConnectorKind.NONE, account="ada")
        session.add(ada)
        session.flush()
        task_id = session.get_one(Settlement, UUID(key)).task_id
        answer = Annotation(task_id=task_id, annotator_id=ada.id, external_id="1", revised_at=utcnow())
        session.add(answer)
        session.flush()
        session.add(SettlementAnnotation(settlement_id=UUID(key), annotation_id=answer.id))
        return str(answer.id)


def test_a_row_names_everything_that_it_goes_back_to_and_quotes_nothing(team, tmp_path):
    told = {"correction": WORDS[1], "subject": WORDS[2], "of_flag": {"consent": True, "comment": WORDS[3]}}
    key = team.settle(WORDS[0], "a bird", Verdict.INCORRECT, **told)
    answer = annotated(team, key)
    with team.runtime.db.transaction() as session:
        response, flag = session.exec(select(Response)).one(), session.exec(select(Feedback)).one()
        response.legal_basis = "consent"
    team.finds(key, proposals=[Repair(RepairKind.REPLACE, (key,), find="nurse", put="doctor")])
    accepted = team.accept(team.finding(team.curate()))
    second = team.curate()
    row = lines(team, second, tmp_path / "clone")[key]
    assert row == {
        "settlement": key,
        "response": str(response.id),
        "annotations": [answer],
        "feedback": [str(flag.id)],
        "admission": None,
        "consent": {"basis": "consent", "flags": {str(flag.id): True}},
        "split": row["split"],
        "group": row["group"],
        "content": row["content"],
        "checks": checks.versions(),
        "repairs": [{"repair": str(accepted.id), "check": "noise", "version": 1, "kind": "replace"}],
    }
    assert not any(word in json.dumps(row) for word in WORDS)


def test_consent_is_what_it_was_when_the_set_was_frozen(team, tmp_path):
    key = team.settle("who?", "Ann", of_flag={"consent": True})
    training_set = team.curate(checks=("noise", "tone"))
    with team.runtime.db.transaction() as session:
        session.exec(select(Feedback)).one().consent = False
        session.exec(select(Response)).one().legal_basis = "contract"
    row = lines(team, training_set, tmp_path / "clone")[key]
    assert (row["consent"]["basis"], list(row["consent"]["flags"].values())) == (None, [True])
    assert row["checks"].keys() == {"noise", "tone"}


def test_a_set_frozen_before_consent_was_kept_says_that_it_is_unknown(team, tmp_path):
    key = team.settle("who?", "Ann")
    training_set = team.curate()
    with team.runtime.db.transaction() as session:
        session.exec(select(TrainingSetExample)).one().consent = None
    assert lines(team, training_set, tmp_path / "clone")[key]["consent"] is None


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (None, None),
        ("Legitimate_interests", "legitimate interests"),
        ("licence: MIT", "licence"),
        ("of Ann", "other"),
    ],
)
def test_a_legal_basis_is_told_by_a_word_of_a_closed_list(team, tmp_path, stated, told):
    key = team.settle("who?", "a nurse")
    with team.runtime.db.transaction() as session:
        session.exec(select(Response)).one().sqlmodel_update({"legal_basis": stated, "language": "de-Ann"})
    training_set = team.curate()
    card = team.runtime.artifacts.get_bytes(training_set.card).decode()
    assert f"| {told or 'not stated'} | 1 |" in card and "Ann" not in card
    assert lines(team, training_set, tmp_path / "clone")[key]["consent"]["basis"] == told


def test_free_words_of_a_set_frozen_long_ago_stay_out_of_git(team, tmp_path):
    key = team.settle("who?", "a nurse")
    training_set = team.curate()
    with team.runtime.db.transaction() as session:
        session.exec(select(TrainingSetExample)).one().consent = {"basis": "told by Ann", "flags": {}}
    assert lines(team, training_set, tmp_path / "clone")[key]["consent"]["basis"] == "other"


def test_a_weight_that_a_repair_gave_is_told_with_its_factor(team, tmp_path):
    key = team.settle("who?", "a nurse")
    team.finds(key, proposals=[Repair(RepairKind.WEIGHT, (key,), factor=3.0)])
    team.accept(team.finding(team.curate()))
    [repair] = lines(team, team.curate(), tmp_path / "clone")[key]["repairs"]
    assert (repair["kind"], repair["factor"]) == ("weight", 3.0)
