"""Data that a team brings along: by the command line, the API and the console."""

import json
import os
import subprocess
import sys
from collections import Counter
from uuid import UUID

import pytest

from service import jobs, projects
from service.answers.corpora import find_source
from service.stages import corpus
from service.tables import Job, JobKind, JobState, ProjectKind, Response, Role, Settlement
from service.web.console import listing
from tests import builders
from tests.console import Person, path_of, person
from tests.team import ROWS, SECRET, Team, question

IMPORT = {"source": "faq", "licence": "CC0", "place": "label-studio:7"}
ROW = {"question": "who bills me?", "answer": "Billing"}
NAMED = ("--project", "shop", "--source", "faq", "--licence", "CC0")
BODY = {"source": "faq", "licence": "CC0", "rows": [ROW]}


class TestCommandLine:
    @pytest.fixture
    def project(self, errata, jobs_here) -> str:
        errata("init", "--admin", "olga")
        labels = ("--labels", "refund,shipping")
        errata(
            "projects", "create", "shop", "--kind", "classification", "--base-model", "bundled:tiny", *labels
        )
        return "shop"

    def test_data_is_imported_sampled_and_decided_on(self, errata, project, tmp_path):
        file = tmp_path / "faq.csv"
        file.write_text("text,label\nwhere is it?,shipping\nI want my money,refund\nbroken\n")
        named = ("--project", project, "--source", "faq")
        taken = ("corpus", "import", str(file), *named, "--licence", "CC0", "--valid-to", "2020-01-31")
        assert errata(*taken, "--dry-run")[1]["rows"] == 2
        assert errata("corpus", "list", "--project", project)[1]["items"] == []
        status, document = errata(*taken)
        assert (status, document["added"], document["unread"]) == (0, 2, 1)
        assert errata("corpus", "sample", *named, "--dry-run")[1]["sampled"] == 2
        assert errata("corpus", "sample", *named, "--size", "1")[1]["sampled"] == 1
        [item] = errata("corpus", "list", "--project", project)[1]["items"]
        assert (item["state"], item["valid_to"]) == ("sample with experts: 0 of 1", "2020-01-31")
        assert errata("corpus", "decide", *named)[1]["code"] == "wrong_state"
        status, report = errata("audit", "--project", project)
        assert (status, report["rows"], report["sources"][0]["source"]) == (0, 2, "faq")
        assert report["sources"][0]["shares"]["outdated"] == 1.0

    def test_a_file_is_audited_without_any_database(self, tmp_path):
        file = tmp_path / "faq.jsonl"
        file.write_text(json.dumps(ROW) + "\nbroken\n")
        environment = os.environ | {"ERRATA_DATA_DIR": str(tmp_path / "none")}
        command = (sys.executable, "-m", "service.cli", "audit", str(file))
        told = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
        assert "audit: 1 row of 1 source: 0 findings stop training" in told
        assert "faq: nothing found in 1 row\n" in told and "could not be read: 1" in told
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("audit",), "invalid"),
            (("audit", "faq.csv", "--project", "shop"), "invalid"),
            (("audit", "/nowhere/faq.csv"), "unreadable_corpus"),
            (("audit", "faq.csv", "--column", "answer"), "invalid"),
            (("audit", "--project", "shop"), "invalid"),
            (("audit", "argilla:faq"), "invalid"),
            (("corpus", "import", "label-studio:faq", *NAMED), "invalid"),
            (("corpus", "import", "faq.csv", *NAMED, "--column", "colour=x"), "unreadable_corpus"),
            (("corpus", "sample", "--project", "shop", "--source", "faq"), "not_found"),
        ],
    )
    def test_what_cannot_be_done_is_a_problem_document(self, errata, project, arguments, code):
        status, document = errata(*arguments)
        assert (status, document["code"]) == (1, code)


class TestApi:
    @pytest.fixture
    def key(self, team) -> dict[str, str]:
        with team.runtime.db.transaction() as session:
            return {"Authorization": f"Bearer {builders.add_key(session, team.project)}"}

    def test_rows_are_added_once(self, team, client, key):
        answers = [client.post("/v1/corpus", json=BODY, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert [(answer.json["added"], answer.json["known"]) for answer in answers] == [(1, 0), (0, 1)]
        [item] = client.get("/v1/corpus", headers=key).json["items"]
        assert (item["source"], item["rows"], item["state"]) == ("faq", 1, "not sampled")

    def test_a_project_inside_a_tool_is_imported_by_a_job(self, team, client, key):
        with team.runtime.db.transaction() as session:
            _, token = builders.add_person(session, Role.OPERATOR)
        olga = {"Authorization": f"Bearer {token}"}
        body = IMPORT | {"project": "clinic", "columns": {"answer": "Reply"}}
        asked = client.post("/v1/corpus/imports", json=body, headers=olga)
        assert (asked.status_code, asked.json["kind"], asked.json["state"]) == (202, "corpus", "pending")
        [job] = team.rows(Job)
        assert job.options == {"path": "label-studio:7", "columns": {"answer": "Reply"}, "actor": "operator"}
        # A key's holder does not read what lies in the tool, nor does anybody read files of the server.
        assert client.post("/v1/corpus/imports", json=IMPORT, headers=key).status_code == 403
        files = client.post("/v1/corpus/imports", json=body | {"place": "/etc/hosts"}, headers=olga)
        assert (files.status_code, files.json["code"]) == (422, "invalid")
        assert len(team.rows(Job)) == 1

    @pytest.mark.parametrize(
        ("row", "pointer"),
        [
            ({"answer": "we"}, "/rows/0"),
            (ROW | {"messages": [{"role": "user", "content": "x"}]}, "/rows/0"),
            ({"question": "who?"}, "/rows/0"),
            (ROW | {"written": "soon"}, "/rows/0/written"),
            (ROW | {"colour": "red"}, "/rows/0/colour"),
            (ROW | {"question": ""}, "/rows/0/question"),
            (ROW | {"attributes": {"age": 7}}, "/rows/0/attributes/age"),
            ({"messages": [{"role": "assistant", "content": "x"}], "answer": "we"}, "/rows/0"),
        ],
    )
    def test_a_row_that_does_not_fit_is_named_by_its_field(self, team, client, key, row, pointer):
        answer = client.post("/v1/corpus", json=BODY | {"rows": [row]}, headers=key)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
        assert team.rows(Response) == []

    def test_a_row_that_the_project_cannot_use_is_named(self, runtime, client, team):
        with runtime.db.transaction() as session:
            new = projects.NewProject("letters", ProjectKind.GENERATION, "bundled:tiny")
            letters = projects.create(session, new, actor="test")
            headers = {"Authorization": f"Bearer {builders.add_key(session, letters)}"}
        rows = [ROW, {"question": "who?", "label": "Billing"}]
        answer = client.post("/v1/corpus", json=BODY | {"rows": rows}, headers=headers)
        assert (answer.status_code, answer.json["detail"]) == (422, f"rows/1: {corpus.NO_ANSWER}")
        assert team.rows(Response) == []


class TestConsole:
    @pytest.fixture
    def olga(self, team) -> Person:
        return person(team.runtime, Role.OPERATOR, password="")

    def test_an_operator_asks_experts_and_decides(self, team, olga):
        team.take(range(ROWS))
        path = self.path(team)
        assert "not sampled" in olga.get("/p/clinic/corpora").text
        assert olga.post(f"{path}/sample", size="60").status_code == 303
        early = olga.post(f"{path}/decide")
        assert (early.status_code, "settled 0 of 60" in early.text) == (409, True)
        team.judge()
        assert olga.post(f"{path}/decide").status_code == 303
        page = olga.get(path).text
        assert "faq is admitted" in page and "admitted: 60 of 60 right, at least 0.94" in page
        lease = team.runtime.queue.lease(self.asked(team))
        jobs.perform(team.runtime, lease)
        assert len(team.rows(Settlement)) == ROWS

    def test_an_operator_has_a_project_inside_a_tool_imported(self, team, olga):
        assert "Bring data along" in olga.get("/p/clinic/corpora").text
        sent = olga.post("/p/clinic/corpora", **IMPORT, columns="prompt=Subject answer=Reply")
        assert sent.status_code == 303 and path_of(sent).startswith("/p/clinic/jobs/")
        [job] = team.rows(Job)
        assert job.options["columns"] == {"prompt": "Subject", "answer": "Reply"}
        wrong = olga.post("/p/clinic/corpora", **IMPORT | {"place": "faq.csv"})
        assert (wrong.status_code, "label-studio:ID or argilla:WORKSPACE/DATASET" in wrong.text) == (
            422,
            True,
        )

    def test_where_a_project_asks_its_experts_nothing_is_imported(self, team, olga):
        with team.runtime.db.transaction() as session:
            builders.place(session, team.project, "7")
        refused = olga.post("/p/clinic/corpora", **IMPORT)
        assert (refused.status_code, "project clinic asks its experts there" in refused.text) == (409, True)
        assert team.rows(Job) == []

    def test_what_cannot_succeed_has_its_reason_in_the_button_s_place(self, team, olga):
        team.take(range(3))
        path = self.path(team)
        fresh = olga.get(path).text
        assert (
            "Ask experts about" in fresh and "no sample was drawn since" in fresh and "/decide" not in fresh
        )
        team.sample()
        asked = olga.get(path).text
        assert "a sample of 3 is not decided on yet" in asked and "settled 0 of 3 sampled rows" in asked
        assert "/sample" not in asked and "/decide" not in asked
        team.judge()
        assert "/decide" in olga.get(path).text

    def test_rows_are_shown_page_by_page_with_why_some_are_set_aside(self, team, olga, monkeypatch):
        monkeypatch.setattr(listing, "PAGE", 2)
        team.take(range(3), more=[f"{SECRET},Billing,,,"])
        team.sample(1)
        path = self.path(team)
        newest = olga.get(path).text
        assert "holds a password" in newest and 'rel="next"' in newest and question(0) not in newest
        found = olga.get(f"{path}?aside=holds+a+password&format=json").json["items"]
        assert [(row["asked"], row["state"]) for row in found] == [(SECRET, "set aside")]
        eve = person(team.runtime, Role.AUDITOR, password="")
        assert SECRET not in eve.get(f"{path}?aside=holds+a+password&format=json").text
        every = olga.get(f"{path}?format=json").json["items"]
        assert Counter(row["state"] for row in every) == {"selected": 1, "not asked": 2, "set aside": 1}
        assert olga.get(f"{path}?q={question(1)[:20]}&format=json").json["items"][0]["asked"] == question(1)

    def test_an_audit_of_all_data_is_asked_for_and_shown(self, team, olga):
        assert "Audit all data" not in olga.get("/p/clinic/corpora").text
        team.take(range(3), more=[f"{SECRET},Billing,,,"])
        assert "Audit all data" in olga.get("/p/clinic/corpora").text
        leads = path_of(olga.post("/p/clinic/audits"))
        job_id = leads.rpartition("/")[2]
        assert olga.get(f"/p/clinic/audits/{job_id}").status_code == 404
        jobs.perform(team.runtime, team.runtime.queue.lease(UUID(job_id)))
        assert f"/p/clinic/audits/{job_id}" in olga.get(leads).text
        assert f"/p/clinic/audits/{job_id}" in olga.get("/p/clinic/corpora").text
        report = olga.get(f"/p/clinic/audits/{job_id}").text
        assert "1 row holds a password" in report and SECRET in report and "4 rows of 1 source" in report
        eve = person(team.runtime, Role.AUDITOR, password="")
        assert SECRET not in eve.get(f"/p/clinic/audits/{job_id}").text

    def test_a_reader_sees_corpora_without_buttons(self, team):
        team.take([1])
        eve = person(team.runtime, Role.AUDITOR, password="")
        assert "CC-BY-4.0" in eve.get("/p/clinic/corpora").text
        for path in ("/p/clinic/corpora", self.path(team)):
            assert '<form method="post" action="/p/' not in eve.get(path).text

    def path(self, team: Team) -> str:
        with team.runtime.db.reading() as session:
            return f"/p/clinic/corpora/{find_source(session, team.project, 'faq').id}"

    @staticmethod
    def asked(team: Team) -> UUID:
        pending = [job for job in team.rows(Job) if job.state is JobState.PENDING]
        return next(job.id for job in pending if job.kind is JobKind.CORPUS)
