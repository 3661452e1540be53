"""The command line: what scripts rely on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import col, select

from service import cli, label_studio_server, runtime, supervisor, tool_server
from service.cli import console, loop
from service.client import signing
from service.clock import utcnow
from service.errors import Invalid, JobFailed
from service.tables import ApiKey, ConnectorKind, Job, JobKind, JobState, uuid7
from service.tool_server import Account, Running, Secrets
from tests.builders import add_challenger, add_evaluation, add_set, forget_history

WORKERS_ONLY = (
    "accelerate", "datasets", "gguf", "huggingface_hub", "label_studio_sdk", "numpy", "peft", "pyarrow",
    "rouge_score", "safetensors", "scipy", "sklearn", "tokenizers", "torch", "transformers",
)  # fmt: skip
IMPORT_WITHOUT = """
import importlib, sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
importlib.import_module(sys.argv[1])
"""


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


@pytest.mark.parametrize("module", ["service.cli", "service.web.app", "service.schedule"])
def test_what_only_workers_need_may_be_missing(module):
    subprocess.run([sys.executable, "-c", IMPORT_WITHOUT, module, *WORKERS_ONLY], check=True)


def test_a_change_of_the_questions_says_what_to_ask_again(errata, project, tmp_path):
    file = tmp_path / "schema.json"
    file.write_text('{"kind": "classification", "labels": ["refund", "returns"], "guidelines": "Be kind."}')
    status, document = errata("schema", "set", project, str(file), "--ask-again")
    assert (status, document["version"], document["guidelines_version"]) == (0, 2, 2)
    assert (document["to_ask_again"], document["asked_again"]) == (0, 0)
    assert errata("schema", "show", project)[1]["label_schema"]["labels"] == ["refund", "returns"]
    file.write_text('{"kind": "generation"}')
    assert errata("schema", "set", project, str(file))[0] == 1
    file.write_text('{"kind": "classification", "labels": ["refund"]}')
    assert errata("schema", "set", project, str(file))[1]["code"] == "invalid_schema"


def test_keys_are_listed_scoped_and_revoked_by_name(errata, project):
    errata("keys", "add", project, "--kind", "secret", "--name", "reports", "--scope", "read")
    errata("keys", "add", project, "--kind", "public", "--name", "web", "--origin", "https://a.example/")
    assert errata("keys", "revoke", project, "web")[1] == {"revoked": 1}
    listed = errata("keys", "list", project)[1]["items"]
    told = [(key["name"], key["origins"], key["scopes"], bool(key["revoked_at"])) for key in listed]
    assert told[-2:] == [("reports", [], ["read"], False), ("web", ["https://a.example"], [], True)]
    assert errata("keys", "revoke", project, "web")[1]["code"] == "not_found"
    for wrong in (("--scope", "all"), ("--origin", "https://a.example/page"), ("--origin", "*")):
        assert errata("keys", "add", project, "--kind", "secret", *wrong)[1]["code"] == "invalid"


@pytest.mark.parametrize(
    "attack", ["\x1b[2J", "\x1b]52;c;cm0=\x07", "\x1b]8;;http://evil.example\x1b\\", "\x9b31m", "\r"]
)
def test_no_text_takes_over_a_terminal(errata, project, capsys, attack):
    console.show({"comment": attack, "items": [{"name": attack}]}, as_json=False)
    console.report_problem(Invalid(f"comment: {attack}!"))
    shown = "".join(capsys.readouterr())
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"} and shown.count("⟦U+") >= 2


def test_a_rotated_signing_key_is_shown_once_and_signs(errata, project):
    shown = errata("keys", "rotate", project)[1]
    token = signing.sign(shown["key"], shown["project"], "chat-1", "an answer")
    assert signing.read(token).kid == signing.kid_of(shown["key"])
    assert errata("keys", "rotate", project)[1]["key"] != shown["key"]
    switches = ("--no-token", "--no-masking", "--presumed-consent")
    changed = errata("projects", "set", project, *switches)[1]
    assert [changed[name] for name in ("needs_token", "masks_personal", "presumes_consent")] == [
        False,
        False,
        True,
    ]


def test_rotated_secrets_are_told_by_name_alone_and_stand_in_the_ledger(errata, project, tmp_path):
    file = tmp_path / "data" / "secrets.json"
    before = json.loads(file.read_text())
    assert errata("secrets", "rotate") == (0, {"rotated": ["session_key", "hook_secret"]})
    after = json.loads(file.read_text())
    assert after["earlier_hook_secret"] == before["hook_secret"] != after["hook_secret"]
    assert errata("ledger", "verify")[0] == 0


def test_a_suggestion_and_its_blind_share_are_set(errata, project):
    _, document = errata("projects", "set", project, "--suggestion", "correction", "--blind-share", "0.5")
    assert (document["suggestion"], document["blind_share"]) == ("correction", 0.5)
    assert errata("projects", "set", project, "--blind-share", "2")[0] == 1


@pytest.mark.parametrize(
    "arguments", [("bogus",), ("triage",), ("jobs", "list", "--state", "x"), ("live", "--nowhere")]
)
def test_a_wrong_use_is_a_problem_document_and_exits_2(errata, arguments):
    status, document = errata(*arguments)
    assert (status, document["code"]) == (2, "usage")


def test_help_calls_the_command_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["/venv/lib/service/cli/__main__.py", "corpus", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "Usage: errata corpus" in capsys.readouterr().out


def test_a_wrong_use_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["errata", "triage"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "errata: Missing option '--project' / '-p'.\n"


def test_an_interrupted_command_exits_130(monkeypatch):
    def interrupt(_slug: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "find_project", interrupt)
    monkeypatch.setattr("sys.argv", ["errata", "triage", "--project", "shop"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130


def test_before_init_every_command_says_what_to_do(errata):
    status, document = errata("projects", "list")
    assert (status, document["code"]) == (78, "configuration")
    assert "errata init" in document["detail"]


def test_a_database_of_a_later_version_is_refused(errata, project):
    with runtime.from_environment().db.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    status, document = errata("projects", "list")
    assert (status, document["code"]) == (78, "configuration")
    assert "a version that this one does not know" in document["detail"]


def test_the_first_administrator_gets_a_one_time_link(errata):
    status, document = errata("init", "--admin", "olga")
    assert status == 0
    assert "/sign-in/" in document["sign_in_url"]


def test_a_key_is_shown_once_and_only_its_hash_is_kept(errata, project):
    _, document = errata("keys", "add", project, "--kind", "secret")
    stored = Path(runtime.from_environment().db.url.removeprefix("sqlite:///")).read_bytes()
    assert document["key"].startswith("esk_")
    assert document["key"].encode() not in stored


def test_a_key_without_a_name_is_numbered(errata, project):
    for name in ((), ("--name", "shop window"), ()):
        errata("keys", "add", project, "--kind", "secret", *name)
    with runtime.from_environment().db.reading() as session:
        made = session.exec(select(ApiKey.name).order_by(col(ApiKey.id))).all()
    assert made == ["secret key 1", "shop window", "secret key 3"]


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


def test_a_dry_run_says_how_many_tasks_would_be_sent(errata, project):
    assert errata("labelling", "send", "--project", project, "--dry-run") == (0, {"tasks": 0})


def test_a_dry_run_of_a_promotion_changes_nothing(errata, project, criteria):
    errata("criteria", "set", project, criteria)
    with runtime.from_environment().db.transaction() as session:
        row = _project(session)
        add_evaluation(session, row, add_challenger(session, row))
    token = ("--project", project, "--token", errata("tokens", "add", "olga")[1]["token"])
    errata("approve", "--reason", "better", *token)
    assert errata("promote", "--dry-run", *token)[1]["seq"] == 1
    assert errata("live", "--project", project)[1]["seq"] == 0


def test_a_dry_run_of_a_rollback_refuses_as_the_rollback_would(errata, project):
    token = errata("tokens", "add", "olga")[1]["token"]
    asked = ("rollback", "--project", project, "--reason", "worse", "--token", token, "--dry-run")
    assert errata(*asked)[1]["code"] == "wrong_state"


def test_two_files_of_answers_are_two_jobs(errata, project):
    opened = runtime.from_environment()
    with opened.db.reading() as session:
        row = _project(session)

    def ask(answers: list[dict]) -> dict:
        return console.do(
            opened, JobKind.IMPORT, row.id, project_id=row.id, no_wait=True, options={"answers": answers}
        )

    assert ask([{"annotator": "ann"}]) != ask([{"annotator": "ben"}])


@pytest.mark.parametrize(
    ("asked", "made"),
    [((), ["expert-1", "expert-2", "expert-3"]), (("--name", "ann"), ["ann"])],
)
def test_a_fresh_label_studio_gets_experts_accounts(errata, monkeypatch, asked, made):
    admin = Account("admin", "admin@localhost", "password", "token")
    monkeypatch.setattr(label_studio_server, "running", lambda _: Running("http://127.0.0.1:1", "token"))
    monkeypatch.setattr(tool_server, "read_secrets", lambda _: Secrets(admin))
    monkeypatch.setattr(
        label_studio_server,
        "ensure_accounts",
        lambda _url, _data_dir, names: [
            Account(name, f"{name}@localhost", "password", "t") for name in names
        ],
    )
    status, document = errata("labelling", "accounts", *asked)
    assert (status, [account["name"] for account in document["accounts"]]) == (0, made)


def test_accounts_in_an_argilla_of_ones_own_are_its_owners(errata, monkeypatch):
    monkeypatch.setenv("ERRATA_ARGILLA_URL", "http://127.0.0.1:1")
    status, document = errata("labelling", "accounts", "--tool", "argilla")
    assert (status, document["code"]) == (1, "invalid")


def test_without_a_live_worker_a_job_runs_in_a_child(errata, project):
    status, document = errata("triage", "--project", project)
    assert (status, document) == (0, {"tasks_from_flags": 0, "tasks_drawn": 0, "held": 0})


def test_no_child_is_started_before_a_job_is_due(errata, project, monkeypatch, capsys):
    opened, started = runtime.from_environment(), []
    monkeypatch.setattr(console.subprocess, "Popen", started.append)
    with opened.db.transaction() as session:
        row = _project(session)
        asked = opened.queue.ask(session, JobKind.TRIAGE, row.id, project_id=row.id, after_seconds=60)
    with pytest.raises(JobFailed) as failed:
        console.wait(opened, asked, on_progress=lambda job: opened.queue.cancel(job.id, actor="test"))
    assert started == []
    monkeypatch.setattr("sys.argv", ["errata", "triage"])
    console.report_problem(failed.value)
    assert capsys.readouterr().err.endswith(f"errata: job {asked} is cancelled: cancelled\n")


def test_no_wait_prints_the_job(errata, project):
    status, document = errata("triage", "--project", project, "--no-wait")
    assert status == 0
    assert errata("jobs", "list")[1]["items"][0]["id"] == document["job"]


def test_nothing_trains_before_success_is_defined(errata, project):
    row = runtime.from_environment()
    with row.db.transaction() as session:
        add_set(session, _project(session))
    assert errata("train", "--project", project)[1]["code"] == "success_criteria_missing"


def test_base_models_are_compared_on_a_set_or_not_at_all(errata, project):
    status, document = errata("models", "compare", "bundled:tiny", "--project", project)
    assert (status, document["code"]) == (1, "not_found")
    assert "errata curate" in document["detail"]


def test_a_learning_rate_is_an_option_of_its_own(errata, project):
    with runtime.from_environment().db.transaction() as session:
        add_set(session, _project(session))
    asked = ("train", "--project", project, "--dry-run", "--learning-rate")
    assert errata(*asked, "0.0005")[1]["options"] == {"learning_rate": 0.0005}
    assert errata(*asked, "7")[1]["code"] == "invalid"


def test_an_approval_needs_a_persons_token(errata, project):
    status, document = errata("approve", "--project", project, "--reason", "looks good")
    assert (status, document["code"]) == (1, "unauthenticated")


def test_a_stale_approval_exits_3(errata, project, criteria, monkeypatch):
    errata("criteria", "set", project, criteria)
    with runtime.from_environment().db.transaction() as session:
        row = _project(session)
        add_evaluation(session, row, add_challenger(session, row))
    Path(criteria).write_text('[{"metric": "accuracy", "suite": "test", "margin": 0.2}]')
    token = errata("tokens", "add", "olga")[1]["token"]
    moving = ("criteria", "set", project, criteria, "--reason", "a typo", "--second-token", token)
    status, document = errata(*moving)
    assert (status, document["code"]) == (1, "two_persons_needed")
    errata("users", "add", "pia", "--role", "approver")
    monkeypatch.setenv("ERRATA_TOKEN", errata("tokens", "add", "pia")[1]["token"])
    runtime.from_environment.cache_clear()
    assert errata(*moving)[0] == 0
    status, document = errata("approve", "--project", project, "--reason", "late", "--token", token)
    assert (status, document["code"]) == (3, "approval_stale")


def test_what_is_live_before_the_first_promotion_is_the_base_model(errata, project):
    _, document = errata("live", "--project", project)
    assert (document["seq"], document["model_version"], document["adapter_uri"]) == (0, 0, None)


def test_the_ledger_is_intact(errata, project):
    status, document = errata("ledger", "verify")
    assert (status, document["intact"], document["broken"]) == (0, True, [])
    head = "{seq}:{sha256}".format(**document["head"])
    assert errata("ledger", "verify", "--head", head)[0] == 0
    with runtime.from_environment().db.transaction() as session:
        forget_history(session.connection())
        session.execute(text("DELETE FROM ledger_entry WHERE seq = :seq"), document["head"])
    assert errata("ledger", "verify")[0] == 0  # the chain alone does not know how long it was
    status, document = errata("ledger", "verify", "--head", head)
    assert (status, document["intact"]) == (1, False)


def test_a_changed_ledger_is_one_document_and_exits_1(errata, project):
    with runtime.from_environment().db.transaction() as session:
        forget_history(session.connection())
        session.execute(text("UPDATE ledger_entry SET actor = 'nobody' WHERE seq = 1"))
    status, document = errata("ledger", "verify")
    assert (status, document["intact"]) == (1, False)


def test_what_users_wrote_is_printed_as_it_is(capsys):
    console.show({"items": [{"text": "[red]no[/red] :smile:"}]}, as_json=False)
    assert "[red]no[/red] :smile:" in capsys.readouterr().out


def test_people_read_words_where_programs_read_names(capsys):
    document = {"added": 2, "known": 1, "is_blocked": False, "counts": {"train": 3, "test": 1}, "items": []}
    console.show(document | {"next_cursor": None}, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "added: 2",
        "known already: 1",
        "is blocked: no",
        "counts: train 3, test 1",
        "items: none",
    ]


def _project(session):
    from service import projects

    return projects.find(session, "shop")


def test_a_recipe_without_chosen_checks_is_said_to_run_them_all(capsys):
    console.show({"recipe": {"seed": 1, "checks": []}, "labels": []}, as_json=False)
    assert capsys.readouterr().out == "recipe: seed 1, checks all\nlabels: none\n"


def test_doctor_says_how_to_mend_what_is_missing(errata, project):
    status, document = errata("doctor")
    found = {check["name"]: check for check in document["checks"]}
    assert status == 1
    assert {"name", "state", "detail", "remedy"} == set(found["web"])
    assert (found["database"]["state"], found["administrators"]["detail"]) == ("ok", "olga")
    assert found["project shop"]["detail"] == "lacks criteria, a key"
    assert found["worker heavy"]["state"] == "failed"
    assert all(bool(check["remedy"]) == (check["state"] != "ok") for check in document["checks"])


def test_doctor_waits_for_what_is_starting_but_not_for_ever(errata, project):
    settings = runtime.from_environment().settings
    with supervisor._data_dir(settings):
        status, document = errata("doctor")
        states = {check["name"]: check["state"] for check in document["checks"]}
        assert {states[name] for name in ("web", "worker heavy", "schedule", "label-studio")} == {"starting"}
        assert (status, states["database"], "failed" in states.values()) == (75, "ok", False)
        began = time.time() - supervisor.START_SECONDS
        os.utime(supervisor._lock_file(settings), (began, began))
        status, document = errata("doctor")
    states = {check["name"]: check["state"] for check in document["checks"]}
    assert (status, states["web"], states["label-studio"]) == (1, "failed", "starting")


def test_doctor_waits_for_a_tool_that_up_alone_was_asked_for(errata, project):
    opened = runtime.from_environment()
    with opened.db.transaction() as session:
        _project(session).connector = ConnectorKind.ARGILLA
    found = []
    for is_asked_for in (False, True):
        with supervisor._data_dir(opened.settings.model_copy(update={"argilla": is_asked_for})):
            checks = errata("doctor")[1]["checks"]
        found += [check["state"] for check in checks if check["name"] == "argilla"]
    assert found == ["failed", "starting"]


def test_doctor_sees_that_others_can_read_the_secrets(errata, project, tmp_path):
    (tmp_path / "data" / "secrets.json").chmod(0o644)
    _, document = errata("doctor")
    (secrets,) = [check for check in document["checks"] if check["name"] == "secrets"]
    assert secrets["state"] == "failed"
    assert secrets["remedy"].startswith("chmod go=")


def test_somebody_can_be_let_into_one_project_only(errata, project):
    errata("users", "add", "pia", "--role", "approver", "--project", project)
    token = errata("tokens", "add", "pia")[1]["token"]
    assert (
        errata("projects", "create", "other", "--kind", "generation", "--base-model", "bundled:tiny")[0] == 0
    )
    refused = errata("rollback", "--project", "other", "--reason", "no", "--token", token)[1]
    assert refused["code"] == "forbidden"
    known = errata("rollback", "--project", project, "--reason", "no", "--token", token)[1]
    assert known["code"] == "wrong_state"


def test_a_project_can_want_two_persons(errata, project):
    assert errata("projects", "set", project, "--persons-needed", "2")[1]["persons_needed"] == 2
    assert errata("projects", "set", project, "--random-share", "0.1")[1]["persons_needed"] == 2
    assert errata("projects", "set", project, "--persons-needed", "0")[1]["code"] == "invalid"


def test_a_table_for_a_file_or_another_program_is_lines_with_tabs_between_cells(capsys):
    token = "t" * 120
    console.show({"accounts": [{"name": "expert-1", "token": token, "said": "one\n\ttwo"}]}, as_json=False)
    assert capsys.readouterr().out == f"accounts:\nname\ttoken\tsaid\nexpert-1\t{token}\tone two\n"


@pytest.mark.parametrize(
    ("url", "told"), [("nowhere://bucket", "Protocol not known"), ("gs://bucket", "install gcsfs")]
)
def test_an_artifact_store_that_cannot_be_read_is_named_with_what_is_missing(errata, monkeypatch, url, told):
    with monkeypatch.context() as environment:
        environment.setenv("ERRATA_ARTIFACTS_URL", url)
        status, problem = errata("init", "--admin", "olga")
    assert (status, problem["code"]) == (78, "configuration")
    assert problem["detail"].startswith("ERRATA_ARTIFACTS_URL: ") and told in problem["detail"]


def test_lists_go_on_at_their_cursor(errata, project, criteria, monkeypatch):
    errata("criteria", "set", project, criteria)
    with runtime.from_environment().db.transaction() as session:
        row = _project(session)
        for number in (1, 2, 3):
            add_evaluation(session, row, add_challenger(session, row, number=number))
    monkeypatch.setattr("service.cli.listings.PAGE", 2)
    _, first = errata("models", "list", "-p", project)
    _, rest = errata("models", "list", "-p", project, "--cursor", first["next_cursor"])
    assert [each["number"] for each in first["items"] + rest["items"]] == [3, 2, 1, 0]
    assert rest["next_cursor"] is None
    for noun in ("runs", "evaluations"):
        assert len(errata(noun, "list", "-p", project)[1]["items"]) == 2
    assert errata("tasks", "list", "-p", project)[1] == {"items": [], "next_cursor": None}
    judged = errata("evaluations", "list", "-p", project)[1]["items"][0]["id"]
    assert errata("evaluations", "show", judged)[1]["verdict"] == "passed"
    assert errata("evaluations", "show", str(uuid7()))[1]["code"] == "not_found"
    assert [each["kind"] for each in errata("models", "history", "-p", project)[1]["items"]] == ["first"]
    assert errata("ledger", "list", "-p", project)[1]["items"][0]["action"] == "document_added"


def test_the_overview_says_what_waits_and_what_to_do_now(errata, project, criteria):
    errata("keys", "add", project, "--kind", "secret")
    _, told = errata("overview", "-p", project)
    assert (told["next"], told["page"]) == ("Say what success is, before anything trains.", "criteria")
    assert [stop["stage"] for stop in told["items"]][:2] == ["intake", "labelling"]
    errata("criteria", "set", project, criteria)
    assert errata("overview", "-p", project)[1]["next"] != told["next"]


def test_people_are_given_roles_and_kept_out(errata, project):
    errata("users", "add", "ann", "--role", "annotator")
    assert errata("users", "role", "ann", "--role", "approver", "-p", project)[0] == 0
    assert errata("users", "disable", "olga")[1]["code"] == "wrong_state"  # nobody else may do everything
    assert errata("users", "disable", "ann")[0] == 0
    (ann, olga) = errata("users", "list")[1]["items"]
    assert (ann["name"], ann["role"], ann["projects"]) == ("ann", "annotator", {project: "approver"})
    assert ann["disabled_at"] and not olga["disabled_at"]
    assert "/sign-in/" in errata("users", "link", "olga")[1]["sign_in_url"]


@pytest.mark.parametrize(
    ("noun", "content"),
    [
        ("reasons", '{"late": {"severity": 2}}'),
        ("guidelines", "# Be strict"),
        ("glossary", '{"terms": {"refund": ["money back"]}}'),
    ],
)
def test_documents_are_set_from_files_and_shown(errata, project, tmp_path, noun, content):
    file = tmp_path / "document"
    file.write_text(content)
    before = errata(noun, "show", project)[1]["version"]
    assert errata(noun, "set", project, str(file))[1]["version"] == before + 1
    shown = errata(noun, "show", project)[1]
    assert shown["version"] == before + 1 and shown["content"]
    assert errata(noun, "set", project, str(tmp_path / "none"))[1]["code"] == "invalid"


def test_the_doctor_tells_what_was_left_behind(errata, project):
    def told() -> dict[str, str]:
        return {each["name"]: each["state"] for each in errata("doctor")[1]["checks"]}

    assert {told()[name] for name in ("ledger", "jobs", "notices", "data repository")} == {"ok"}
    with runtime.from_environment().db.transaction() as session:
        forget_history(session.connection())
        session.execute(text("UPDATE ledger_entry SET actor = 'nobody' WHERE seq = 1"))
        dead = {
            "state": JobState.DEAD,
            "finished_at": utcnow(),
            "not_before": utcnow(),
            "failure": "no space",
        }
        session.add(Job(kind=JobKind.CURATE, project_id=_project(session).id, row_id=uuid7(), **dead))
    assert (told()["ledger"], told()["jobs"]) == ("failed", "warning")
