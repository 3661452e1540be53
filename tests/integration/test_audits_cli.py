"""The command line for what people decide about audits, and for time that no tool saw."""

import pytest

from retrain.audit import Finding, Repair, RepairKind, Severity
from retrain.types import Split
from service import people, projects, runtime
from service.clock import utcnow
from service.stages.curation import _finding_row
from service.tables import EvaluationState, Role, TrainingSetExample
from tests import builders
from tests.builders import add_person, add_project, add_set


@pytest.fixture
def finding(errata) -> dict[str, str]:
    """A blocking finding with one proposal in set v1, and an approver's token."""
    errata("init", "--admin", "olga")
    with runtime.from_environment().db.transaction() as session:
        project = add_project(session)
        found = Finding(
            "noise", 1, Severity.BLOCK, ("k",), "rows say nothing", "", (Repair(RepairKind.DROP, ("k",)),)
        )
        training_set = add_set(session, project)
        training_set.is_blocked = True
        settled = builders.add_settlement(
            session, builders.add_task(session, project, builders.add_response(session, project))
        )
        of_set = {"training_set_id": training_set.id, "settlement_id": settled.id, "split": Split.TRAIN}
        session.add(TrainingSetExample(**of_set, content_sha256="sha256:0", group_name="g"))
        row = _finding_row(training_set.id, found)
        session.add(row)
        add_person(session, Role.APPROVER, "pia")
        token = people.add_token(session, "pia", actor="test")
    return {"id": str(row.id), "token": token}


def decide(errata, *arguments: str, finding: dict[str, str]):
    return errata(*arguments, "--project", "clinic", "--token", finding["token"])


def test_a_finding_is_listed_waived_and_shown_as_waived(errata, finding, tmp_path):
    [listed] = errata("repairs", "list", "clinic/v1")[1]["items"]
    assert (listed["id"], listed["waived"], listed["proposals"][0]["kind"]) == (finding["id"], None, "drop")
    day = ("--reason", "known", "--until", "2100-01-01")
    assert decide(errata, "waive", finding["id"], *day, finding=finding)[1]["code"] == "invalid"
    day = ("--reason", "known", "--until", "soon")
    assert decide(errata, "waive", finding["id"], *day, finding=finding)[1]["code"] == "invalid"

    def blocked() -> list[bool]:
        asked = (("list", "-p", "clinic"), ("show", "clinic/v1"), ("export", "clinic/v1", *written))
        listed, shown, exported = (errata("sets", *each)[1] for each in asked)
        return [each["is_blocked"] for each in (*listed["items"], shown, exported)]

    written = ("--format", "sft", "--to", str(tmp_path / "rows.jsonl"))
    assert blocked() == [True, True, True]
    day = ("--reason", "known", "--until", utcnow().date().isoformat())
    assert decide(errata, "waive", finding["id"], *day, finding=finding)[0] == 0
    [listed] = errata("repairs", "list", "clinic/v1")[1]["items"]
    assert (listed["waived"]["by"], listed["waived"]["reason"]) == ("pia", "known")
    assert blocked() == [False, False, False]


def test_a_repair_is_accepted_once_and_taken_back(errata, finding):
    status, made = decide(errata, "repairs", "accept", finding["id"], finding=finding)
    assert status == 0
    assert errata("repairs", "list", "clinic/v1")[1]["items"][0]["accepted"] == {"0": made["repair"]}
    again = decide(errata, "repairs", "accept", finding["id"], finding=finding)
    assert again[1]["code"] == "already_decided"
    assert decide(errata, "repairs", "undo", made["repair"], finding=finding)[0] == 0
    assert errata("repairs", "list", "clinic/v1")[1]["items"][0]["accepted"] == {}


def test_nobody_decides_without_a_token(errata, finding):
    status, problem = errata("repairs", "accept", finding["id"], "--project", "clinic")
    assert (status, problem["code"]) == (1, "unauthenticated")


def test_time_spent_elsewhere_counts_by_part(errata, finding):
    for part, hours in (("data", "5"), ("validation", "2.5"), ("training", "2.5")):
        assert errata("time", "add", "--project", "clinic", "--part", part, "--hours", hours)[0] == 0
    status, shown = errata("time", "show", "--project", "clinic")
    assert status == 0 and shown["people"] == {"data": 5.0, "training": 2.5, "validation": 2.5}
    assert shown["enough_data"] and shown["enough_validation"]
    assert (
        errata("time", "add", "--project", "clinic", "--part", "data", "--hours", "0")[1]["code"] == "invalid"
    )


def test_time_on_validation_is_waived_where_nothing_else_is_missing(errata, finding):
    with runtime.from_environment().db.transaction() as session:
        project = projects.find(session, "clinic")
        builders.add_criteria(session, project)
        model = builders.add_challenger(session, project, number=2)
        row = builders.add_evaluation(session, project, model, EvaluationState.CANNOT_TELL)
        row.reasons = [{"rule": "effort", "met": False}]
    why = ("--reason", "known", "--until", utcnow().date().isoformat())
    status, told = decide(errata, "time", "waive", str(row.id), *why, finding=finding)
    assert (status, told["author"], told["evaluation"]) == (0, "pia", str(row.id))
    nameless = decide(errata, "time", "waive", finding["id"], *why, finding=finding)
    assert (nameless[0], nameless[1]["code"]) == (1, "not_found")
