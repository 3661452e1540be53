"""All that a decision rests on comes as one archive, which is the same each time and which anybody can check."""

import hashlib
import json
import subprocess
import zipfile
from io import BytesIO

import pytest

from retrain.types import sha256_of
from service.answers import find_version
from service.answers.evidence import pack
from service.errors import NotFound
from service.stages import promotion
from service.tables import (
    Decision,
    DocumentKind,
    ModelState,
    ModelVersion,
    Role,
    TrainingRun,
)
from tests import builders
from tests.console import person
from tests.desk import Desk
from tests.history import MARKER

WHOLE = {
    "README.md", "SHA256SUMS", "approvals.json", "evaluations.json", "ledger.jsonl", "model.json", "promotions.json",
    "waivers.json", "training_set/README.md", "training_set/audit.json", "training_set/lineage.jsonl",
    "training_set/recipe.json", "documents/criteria-v1.json", "documents/gate_rules-v1.json", "documents/suite-v1.json",
}  # fmt: skip


class Promoted:
    """A version that learned from what `MARKER` was said about, was approved in spite of a finding, and went live."""

    def __init__(self, desk: Desk) -> None:
        self.runtime, self.desk = desk.runtime, desk
        key = desk.settle(
            f"who is {MARKER}?",
            f"{MARKER} is",
            subject=MARKER,
            of_flag={"comment": MARKER, "correction": MARKER},
        )
        desk.finds(key)
        self.set = desk.curate()
        desk.waive(desk.finding(self.set))
        with self.runtime.db.transaction() as session:
            self.model = self._trained(session)
            evaluation = builders.add_evaluation(session, desk.project, self.model)
            evaluation.sentence = "better"
            seen = promotion.what_to_approve(session, evaluation)
            promotion.decide(
                session,
                desk.project,
                evaluation_id=evaluation.id,
                model_version=1,
                adapter_sha256=seen["adapter"],
                training_set=seen["training_set"],
                decision=Decision.APPROVED,
                reason="seen and sound",
                user=desk.olga,
            )
            promotion.promote(session, desk.project, model_version=1, user=desk.olga)

    def _trained(self, session) -> ModelVersion:
        run = TrainingRun(
            project_id=self.desk.project.id,
            training_set_id=self.set.id,
            criteria_id=builders.newest(session, self.desk.project, DocumentKind.CRITERIA),
            requested_by=self.desk.olga.id,
            spec={"epochs": 3},
            seed=7,
        )
        session.add(run)
        session.flush()
        model = ModelVersion(
            project_id=self.desk.project.id,
            number=1,
            base_model="bundled:tiny",
            training_run_id=run.id,
            adapter_sha256=sha256_of("an adapter"),
            state=ModelState.CHALLENGER,
        )
        session.add(model)
        session.flush()
        return model

    def pack(self, name: str = "clinic/v1") -> bytes:
        with self.runtime.db.reading() as session:
            return pack(self.runtime, session, find_version(session, name))

    def files(self) -> dict[str, bytes]:
        with zipfile.ZipFile(BytesIO(self.pack())) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def read(self, name: str):
        return json.loads(self.files()[name])


@pytest.fixture
def promoted(desk) -> Promoted:
    return Promoted(desk)


def test_it_holds_everything_and_no_users_words(promoted):
    files = promoted.files()
    assert files.keys() == WHOLE
    assert not [name for name, content in files.items() if MARKER.encode() in content]
    # The marker would be found: it is what the set's rows say.
    assert any(MARKER in example.prompt for example in promoted.desk.examples(promoted.set).values())


def test_it_says_what_was_decided_by_whom_and_on_what(promoted):
    [approval], [live] = promoted.read("approvals.json"), promoted.read("promotions.json")
    assert (approval["by"], approval["reason"], approval["decision"]) == (
        "olga",
        "seen and sound",
        "approved",
    )
    assert approval["hashes"]["adapter"] == promoted.read("model.json")["adapter_sha256"]
    assert (live["by"], live["approval_id"]) == ("olga", approval["id"])
    [waiver] = promoted.read("waivers.json")
    assert (waiver["author"], waiver["content"]["reason"]) == ("olga", "known")
    [judged] = promoted.read("evaluations.json")
    criteria = promoted.read("documents/criteria-v1.json")
    assert judged["judged_by"]["criteria"] == criteria["sha256"] == sha256_of(criteria["content"])
    assert promoted.read("training_set/recipe.json")["fingerprint"] == promoted.set.fingerprint
    assert promoted.read("model.json")["training_run"]["seed"] == 7


def test_the_same_rows_give_the_same_bytes(promoted):
    first = promoted.pack()
    assert promoted.pack(str(promoted.model.id)) == first
    with promoted.runtime.db.transaction() as session:
        session.get_one(ModelVersion, promoted.model.id).base_sha256 = sha256_of("another base")
    assert promoted.pack() != first


def test_its_sums_hold_until_a_file_is_changed(promoted, tmp_path):
    with zipfile.ZipFile(BytesIO(promoted.pack())) as archive:
        archive.extractall(tmp_path)
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    listed = {line.split("  ")[1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()}
    assert listed == WHOLE - {"SHA256SUMS"}
    (tmp_path / "approvals.json").write_text("[]")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1


def test_the_ledger_s_lines_hash_as_the_archive_s_readme_says(promoted):
    lines = [json.loads(line) for line in promoted.files()["ledger.jsonl"].splitlines()]
    assert {"training_set_frozen", "approved", "promotion", "finding_waived"} <= {
        line["action"] for line in lines
    }
    for line in lines:
        own = line.pop("sha256")
        whole = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert own == f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}"


def test_the_base_model_has_evidence_too(promoted):
    with zipfile.ZipFile(BytesIO(promoted.pack("clinic/v0"))) as archive:
        assert json.loads(archive.read("model.json"))["training_run"] is None
        assert "training_set/README.md" not in archive.namelist()


UNKNOWN = ("clinic/v9", "clinic/vx", "nothing/v1", "clinic", "", f"clinic/v{'9' * 30}")


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_is_no_version_s_is_refused(runtime, name):
    with runtime.db.transaction() as session:
        builders.add_project(session)
        with pytest.raises(NotFound):
            find_version(session, name)


@pytest.fixture
def errata_here(errata, runtime, monkeypatch):
    """The command line, in this installation."""
    monkeypatch.setattr("service.cli.lineage.connect", lambda: runtime)
    return errata


def test_command_line_api_and_page_give_the_same_file(promoted, errata_here, client, tmp_path):
    runtime, whole = promoted.runtime, promoted.pack()
    status, document = errata_here("evidence", "clinic/v1", "--to", str(tmp_path / "v1.zip"))
    assert (status, document["bytes"]) == (0, len(whole))
    assert (tmp_path / "v1.zip").read_bytes() == whole
    with runtime.db.transaction() as session:
        headers = {"Authorization": f"Bearer {builders.add_key(session, promoted.desk.project)}"}
    answer = client.get(f"/v1/models/{promoted.model.id}/evidence", headers=headers)
    assert (answer.mimetype, answer.data) == ("application/zip", whole)
    pia = person(runtime, Role.AUDITOR, password="")
    link = f"/p/clinic/models/{promoted.model.id}/evidence"
    assert f'href="{link}"' in pia.get("/p/clinic/models").text
    sent = pia.get(link)
    assert sent.data == whole
    assert "clinic-v1.zip" in sent.headers["Content-Disposition"]


def test_a_file_that_cannot_be_written_is_a_problem(promoted, errata_here, tmp_path):
    status, problem = errata_here("evidence", "clinic/v1", "--to", str(tmp_path / "nowhere" / "v1.zip"))
    assert (status, problem["code"]) == (1, "invalid")
