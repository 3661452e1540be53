"""The command line: what scripts rely on."""

import json
from pathlib import Path

import pytest

from service import cli, runtime
from tests.builders import add_challenger, add_evaluation, add_set


@pytest.fixture
def errata(tmp_path: Path, cache_dir: Path, valkey_url: str, monkeypatch, capsys):
    """Run a command in this process; returns its exit status and the JSON document it printed."""
    for name, value in {
        "ERRATA_DATA_DIR": tmp_path / "data",
        "ERRATA_CACHE_DIR": cache_dir,
        "ERRATA_REDIS_URL": valkey_url,
    }.items():
        monkeypatch.setenv(name, str(value))
    runtime.from_environment.cache_clear()

    def run(*arguments: str) -> tuple[int, dict]:
        monkeypatch.setattr("sys.argv", ["errata", *arguments, "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        (line,) = capsys.readouterr().out.splitlines()
        return int(ended.value.code or 0), json.loads(line)

    yield run
    runtime.from_environment().db.close()
    runtime.from_environment.cache_clear()


@pytest.fixture
def project(errata) -> str:
    errata("init", "--admin", "olga")
    labels = ("--labels", "refund,shipping")
    status, _ = errata(
        "projects", "create", "shop", "--kind", "classification", "--base-model", "bundled:tiny", *labels
    )
    assert status == 0
    return "shop"


@pytest.fixture
def criteria(tmp_path: Path) -> str:
    file = tmp_path / "criteria.json"
    file.write_text('[{"metric": "accuracy", "suite": "test", "margin": 0.1}]')
    return str(file)


def test_the_first_administrator_gets_a_one_time_link(errata):
    status, document = errata("init", "--admin", "olga")
    assert status == 0
    assert "/sign-in/" in document["sign_in_url"]


def test_a_key_is_shown_once_and_only_its_hash_is_kept(errata, project):
    _, document = errata("keys", "add", project, "--kind", "secret")
    stored = Path(runtime.from_environment().db.url.removeprefix("sqlite:///")).read_bytes()
    assert document["key"].startswith("esk_")
    assert document["key"].encode() not in stored


def test_criteria_are_versioned(errata, project, criteria):
    assert errata("criteria", "set", project, criteria)[1]["version"] == 1
    assert errata("criteria", "set", project, criteria)[1]["version"] == 1
    Path(criteria).write_text('[{"metric": "accuracy", "suite": "test", "margin": 0.2}]')
    assert errata("criteria", "set", project, criteria)[1]["version"] == 2


def test_criteria_that_name_no_metric_are_a_problem_document(errata, project, criteria):
    Path(criteria).write_text('[{"metric": "vibes", "suite": "test"}]')
    status, document = errata("criteria", "set", project, criteria)
    assert (status, document["code"]) == (1, "unknown_metric")
    assert "vibes" in document["detail"]


def test_an_unknown_project_is_a_problem_document(errata, project):
    status, document = errata("triage", "--project", "nowhere")
    assert (status, document["code"]) == (1, "not_found")


def test_a_dry_run_changes_nothing(errata, project):
    assert errata("triage", "--project", project, "--dry-run") == (0, {"feedback": 0, "responses": 0})
    assert errata("jobs", "list")[1]["items"] == []


def test_without_a_live_worker_a_job_runs_in_a_child(errata, project):
    status, document = errata("triage", "--project", project)
    assert (status, document) == (0, {"tasks_from_flags": 0, "tasks_drawn": 0})


def test_no_wait_prints_the_job(errata, project):
    status, document = errata("triage", "--project", project, "--no-wait")
    assert status == 0
    assert errata("jobs", "list")[1]["items"][0]["id"] == document["job"]


def test_nothing_trains_before_success_is_defined(errata, project):
    row = runtime.from_environment()
    with row.db.transaction() as session:
        add_set(session, _project(session))
    assert errata("train", "--project", project)[1]["code"] == "success_criteria_missing"


def test_an_approval_needs_a_persons_token(errata, project):
    status, document = errata("approve", "--project", project, "--reason", "looks good")
    assert (status, document["code"]) == (1, "unauthenticated")


def test_a_stale_approval_exits_3(errata, project, criteria):
    errata("criteria", "set", project, criteria)
    with runtime.from_environment().db.transaction() as session:
        row = _project(session)
        add_evaluation(session, row, add_challenger(session, row))
    Path(criteria).write_text('[{"metric": "accuracy", "suite": "test", "margin": 0.2}]')
    errata("criteria", "set", project, criteria)
    token = errata("tokens", "add", "olga")[1]["token"]
    status, document = errata("approve", "--project", project, "--reason", "late", "--token", token)
    assert (status, document["code"]) == (3, "approval_stale")


def test_what_is_live_before_the_first_promotion_is_the_base_model(errata, project):
    _, document = errata("live", "--project", project)
    assert (document["seq"], document["model_version"], document["adapter_uri"]) == (0, 0, None)


def test_the_ledger_is_intact(errata, project):
    assert errata("ledger", "verify") == (0, {"intact": True, "broken": []})


def _project(session):
    from service import projects

    return projects.find(session, "shop")
