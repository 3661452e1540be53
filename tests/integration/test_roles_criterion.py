"""A criterion on confused parties: who is who in a case is said by attributes of its response."""

import pytest

from annotation.types import Verdict
from service import goalposts
from service.tables import ProjectKind
from tests import builders
from tests.desk import Desk

CRITERION = {"metric": "role_conflation", "suite": "test", "target": 0.2}
PARTIES = {"plaintiff": "Ames", "defendant": "Boyd"}
RIGHT, CONFUSED = "the plaintiff Ames sued the defendant Boyd", "the plaintiff Boyd sued the defendant Ames"


@pytest.fixture
def court(runtime) -> Desk:
    """Summaries that experts found right, of disputes whose parties are known, by a project that may say so."""
    desk = Desk(runtime, ProjectKind.GENERATION)
    with runtime.db.transaction() as session:
        goalposts.set_criteria(session, desk.project, [CRITERION], actor="olga")
        for number in range(40):
            facts = {"attributes": PARTIES | {"court": "north"}, "language": "de"}
            asked = f"sum up: {' '.join(f'{number}{letter}' for letter in 'abcdefgh')}"
            response = builders.add_response(session, desk.project, RIGHT, asked=asked, **facts)
            task = builders.add_task(session, desk.project, response)
            builders.add_settlement(session, task, verdict=Verdict.CORRECT, label=None)
    return desk


def say_who_is_who(desk: Desk) -> None:
    with desk.runtime.db.transaction() as session:
        goalposts.set_suites(session, desk.project, {"known": {"roles": list(PARTIES)}}, actor="olga")


@pytest.mark.parametrize(("said", "verdict", "share"), [(RIGHT, "met", 0.0), (CONFUSED, "not met", 1.0)])
def test_a_model_is_judged_by_whether_it_confuses_the_parties(court, said, verdict, share):
    say_who_is_who(court)
    judged, scores = court.judge(court.curate(), said)
    [reason] = [one for one in judged.reasons if one["metric"] == "role_conflation"]
    assert (reason["challenger"], "met" if reason["met"] else "not met") == (share, verdict)
    assert "role_conflation" in {one.metric for one in scores}
    slices = {"", "court=north", "language=de", "length=short", "source=production"}
    assert {one.slice for one in scores if one.suite == "test"} == slices


def test_where_nobody_said_who_is_who_there_is_nothing_to_judge_by(court):
    judged, scores = court.judge(court.curate(), RIGHT)
    assert judged.sentence == "Cannot tell: there are no cases of test to judge by role conflation."
    assert "role_conflation" not in {one.metric for one in scores}
