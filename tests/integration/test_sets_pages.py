"""Training sets in the console: what a set's page shows, and the form of the next recipe."""

import re
from html import unescape

import pytest
from sqlmodel import col, select

from retrain.audit import Repair, RepairKind, Severity, checks
from retrain.recipe import Recipe
from service.answers import examples
from service.answers.examples import settled_answers
from service.clock import utcnow
from service.tables import (
    AcceptedRepair,
    Job,
    JobKind,
    Mirror,
    Response,
    Role,
    TrainingSet,
)
from service.web.console import listing, sets
from tests.console import Person, path_of, person
from tests.desk import TOMORROW


class TestPage:
    """A set's page: what was found, by check and by source, and what people decide about it."""

    @pytest.fixture
    def blocked(self, desk) -> TrainingSet:
        key = desk.settle("who?", "Ann <i>says</i>, regards")
        desk.settle("where?", "there")
        proposal = Repair(RepairKind.REPLACE, (key,), find=", regards")
        desk.finds(key, proposals=[proposal])
        return desk.curate()

    def page(self, desk, training_set: TrainingSet, who=None, *, part: str = "") -> str:
        who = who or person(desk.runtime, Role.AUDITOR, password="")
        return who.get(f"/p/clinic/sets/{training_set.id}{part}").text

    def test_it_tells_checks_sources_and_where_the_set_is_mirrored(self, desk, blocked):
        page = self.page(desk, blocked)
        assert "rows say nothing" in page and "1 of 2 rows noise" in page
        assert "a job puts it there by itself" in page
        with desk.runtime.db.transaction() as session:
            session.add(Mirror(training_set_id=blocked.id, git_commit="abc123", failure="no space"))
        page = self.page(desk, blocked, person(desk.runtime, Role.AUDITOR, name="eve", password=""))
        assert "abc123" in page and "no space" in page

    def test_an_approver_waives_and_an_operator_repairs_and_takes_back(self, desk, blocked):
        finding = desk.finding(blocked)
        pia, otto = (person(desk.runtime, role, name=role) for role in (Role.APPROVER, Role.OPERATOR))
        until = (utcnow().date() + TOMORROW).isoformat()
        path = f"/p/clinic/findings/{finding.id}"
        assert otto.post(f"{path}/waive", reason="known", until=until).status_code == 403
        assert pia.post(f"{path}/waive", reason="known", until="2020-01-01").status_code == 422
        assert ">blocked<" in otto.get("/p/clinic/sets").text
        assert pia.post(f"{path}/waive", reason="known", until=until).status_code == 303
        assert "Train on this set" in self.page(desk, blocked, otto)
        assert ">waived<" in otto.get("/p/clinic/sets").text
        assert otto.post(f"{path}/repair", place="0").status_code == 303
        with desk.runtime.db.reading() as session:
            accepted = session.exec(select(AcceptedRepair)).one()
        assert "Take it back" in self.page(desk, blocked, otto)
        assert otto.post(f"/p/clinic/repairs/{accepted.id}/undo").status_code == 303
        assert otto.post(f"/p/clinic/repairs/{accepted.id}/undo").status_code == 409

    def test_a_finding_names_rows_by_what_was_asked_and_who_was_forgotten_in_none(self, desk, blocked):
        assert re.search("Such as:.*who\\?", self.page(desk, blocked), re.DOTALL)
        with desk.runtime.db.transaction() as session:
            for response in session.exec(select(Response)):
                response.erased_at = utcnow()
        eve = person(desk.runtime, Role.AUDITOR, name="eve", password="")
        assert "Such as:" not in self.page(desk, blocked, eve)

    def test_it_says_why_rows_were_left_out_and_that_nothing_can_judge_it(self, desk):
        for asked in ("who?", "Who?", "who"):
            desk.settle(asked, "Ann")
        page = self.page(desk, desk.curate())
        assert "Left out: 2 duplicate." in page
        assert "No row is in the test part" in page

    def test_each_kind_of_repair_is_told_in_words(self, desk):
        key = desk.settle("who?", "Ann")
        desk.finds(key, proposals=[Repair(kind, (key,), find="wife", put="man") for kind in RepairKind])
        page = self.page(desk, desk.curate())
        for words in (
            *("Leave out 1 row", "Replace in 1 row: “wife” by “man”", "keep in the glossary"),
            "Swap words in 1 row",
            *("Relabel 1 row as “man”", "Weigh 1 row", "Ask experts about 1 response: “wife”"),
        ):
            assert words in page

    def test_a_difference_shows_the_words_that_changed_and_their_cause(self, desk, blocked):
        desk.accept(desk.finding(blocked))
        page = self.page(desk, desk.curate(), part="/diff")
        assert "<del>, regards</del>" in page
        assert "a repair" in page

    def test_answers_are_read_for_a_difference_alone_and_only_where_sets_differ(
        self, desk, blocked, monkeypatch
    ):
        desk.accept(desk.finding(blocked))
        newest, eve, read = desk.curate(), person(desk.runtime, Role.AUDITOR, password=""), []

        def counted(session, project_id, *which):
            read.append(bool(which))
            return settled_answers(session, project_id, *which)

        monkeypatch.setattr(examples, "settled_answers", counted)
        assert f"/sets/{newest.id}/diff" in self.page(desk, newest, eve)
        assert read == []
        assert "1 changed" in self.page(desk, newest, eve, part="/diff?against=1")
        assert set(read) == {True}
        assert eve.get(f"/p/clinic/sets/{newest.id}/diff?against=7").status_code == 404

    def test_findings_come_page_by_page_the_gravest_first(self, desk, monkeypatch):
        monkeypatch.setattr(listing, "PAGE", 2)
        for severity in (Severity.INFO, Severity.WARN, Severity.BLOCK):
            desk.finds(desk.settle(f"who {severity}?", "Ann"), severity=severity)
        training_set, eve = desk.curate(), person(desk.runtime, Role.AUDITOR, password="")
        first = self.page(desk, training_set, eve)
        following = unescape(re.search('rel="next" href="([^"]+)"', first)[1])
        last = self.page(desk, training_set, eve, part=following)
        severities = [re.findall('<h3>Noise <span class="badge (\\w+)"', page) for page in (first, last)]
        assert severities == [["block", "warn"], ["info"]]
        only = eve.get(f"/p/clinic/sets/{training_set.id}?severity=warn&format=json").json["items"]
        assert [finding["severity"] for finding in only] == ["warn"]


class TestRecipeForm:
    """The recipe of the next set, in the browser."""

    @pytest.fixture
    def otto(self, desk) -> Person:
        desk.settle("who?", "Ann")
        return person(desk.runtime, Role.OPERATOR, password="")

    def fields(self, page: str) -> dict[str, str]:
        """What the form holds as it stands."""
        form = page[page.index('action="/p/clinic/sets"') :]
        inputs = re.findall('<input type="(?:checkbox)" name="(\\w+)" value="([^"]*)" checked', form)
        numbers = re.findall('<input name="(\\w+)" type="number"[^>]* value="([^"]*)"', form)
        return dict(numbers) | {name: "\n".join(v for n, v in inputs if n == name) for name, _ in inputs}

    def asked(self, desk) -> Job:
        with desk.runtime.db.reading() as session:
            jobs = select(Job).where(Job.kind == JobKind.CURATE).order_by(col(Job.id).desc())
            return session.exec(jobs).first()

    def test_sent_as_it_stands_it_asks_for_the_newest_recipe_once(self, desk, otto):
        desk.curate(test_share=0.25, checks=("noise", "tone"), group_by_subject=True)
        sent = self.fields(otto.get("/p/clinic/sets").text)
        assert (sent["test_share"], sent["checks"], sent["group_by_subject"]) == (
            "0.25",
            "tone\nnoise",
            "true",
        )
        places = {path_of(otto.post("/p/clinic/sets", **sent)) for _ in range(2)}
        assert len(places) == 1 and self.asked(desk).options == {}

    def test_another_recipe_is_the_job_s(self, desk, otto):
        sent = self.fields(otto.get("/p/clinic/sets").text)
        assert sent["checks"].split() == list(sets.CHECKS)
        del sent["test_from_random"]
        otto.post("/p/clinic/sets", **sent | {"test_share": "0.3", "checks": "noise"})
        recipe = Recipe(test_share=0.3, test_from_random=False, checks=("noise",))
        assert Recipe.from_json(self.asked(desk).options) == recipe

    @pytest.mark.parametrize(
        ("typed", "why"),
        [
            ({"test_share": "most"}, "is no number"),
            ({"test_share": "0.95"}, "must leave some for training"),
            ({"near_threshold": "nan"}, "“How alike near-duplicates are” must be above 0"),
            ({"source_cap": ""}, "is no number"),
            ({"colour": "7"}, "has no field"),
        ],
    )
    def test_one_that_cannot_be_is_refused_beside_the_form_and_kept(self, desk, otto, typed, why):
        sent = self.fields(otto.get("/p/clinic/sets").text) | {"seed": "7", "checks": "noise"} | typed
        answer = otto.post("/p/clinic/sets", **sent)
        assert (answer.status_code, why in unescape(answer.text)) == (422, True)
        kept = self.fields(answer.text)
        assert kept == {name: text for name, text in sent.items() if name != "colour"}
        assert self.asked(desk) is None

    def test_nothing_is_offered_before_anything_is_settled(self, desk):
        page = person(desk.runtime, Role.OPERATOR, password="").get("/p/clinic/sets").text
        assert "Build the next set" not in page and "as soon as experts have settled" in page

    def test_the_form_names_every_check_and_the_recipe_s_every_field(self, otto):
        assert set(sets.CHECKS) == set(checks.CHECKS)
        page = otto.get("/p/clinic/sets").text
        assert all(f'name="{name}"' in page for name in Recipe().to_json() if name != "version")
