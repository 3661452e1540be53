"""Providing and running a real Label Studio."""

import json
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest

from annotation.errors import ToolRefused
from annotation.hooks import HookAction, is_authentic, parse_label_studio
from annotation.label_studio import SECRET_HEADER, LabelStudioConnector
from annotation.label_studio_results import to_result
from annotation.types import Answer, Cause, LabelSchema, NewTask, TaskKind, Verdict
from service import label_studio_server as server
from service import tool_server
from service.tool_server import ToolFailed, read_secrets, wait_until_ready
from tests.label_studio import LabelStudioPeople
from tests.servers import cache_dir

SCHEMA = LabelSchema(kind=TaskKind.GENERATION)


@pytest.fixture
def installation():
    return server.install(cache_dir(), lambda line: None)


def test_preparing_twice_keeps_secrets_and_data(installation, tmp_path):
    first = server.prepare(installation, tmp_path)
    database = tmp_path / "label-studio" / "label_studio.sqlite3"
    database.write_bytes(b"somebody's work")
    assert server.prepare(installation, tmp_path) == first
    assert database.read_bytes() == b"somebody's work"


def test_every_data_directory_has_secrets_of_its_own(installation, tmp_path):
    one, other = (server.prepare(installation, tmp_path / name).admin for name in ("one", "other"))
    assert one.token != other.token
    assert one.password != other.password
    assert len(bytes.fromhex(one.token)) == 20


def test_secrets_are_for_their_owner_alone(installation, tmp_path):
    secrets = server.prepare(installation, tmp_path)
    files = [tmp_path / "label-studio" / name for name in ("secrets.json", "label_studio.sqlite3")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert secrets.admin.password not in repr(secrets)
    argv, _ = server.command(installation, tmp_path, secrets, port=1)
    assert not {secrets.admin.password, secrets.admin.token} & set(argv)


def test_nobodys_settings_reach_the_server(installation, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid")
    monkeypatch.setenv("LABEL_STUDIO_DATABASE_NAME", "/elsewhere")
    _, environment = server.command(installation, tmp_path, server.prepare(installation, tmp_path), port=1)
    assert not {"HTTP_PROXY", "LABEL_STUDIO_DATABASE_NAME"} & environment.keys()
    assert environment["LABEL_STUDIO_COLLECT_ANALYTICS"] == "false"


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PACKAGE", replace(server.PACKAGE, needed_bytes=10**18))
    with pytest.raises(ToolFailed, match="GB"):
        server.install(tmp_path, lambda line: None)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_failed_installation_is_named_and_not_taken_for_complete(tmp_path, monkeypatch):
    missing = (str(tmp_path / "no-such-wheel.whl"),)
    monkeypatch.setattr(server, "PACKAGE", replace(server.PACKAGE, requirements=missing))
    with pytest.raises(ToolFailed, match="no-such-wheel"):
        server.install(tmp_path, lambda line: None)
    assert not list(tmp_path.glob("*/complete"))


def test_an_expert_is_told_no_answer_but_their_own_and_the_administrator_all(label_studio):
    connector = LabelStudioConnector(label_studio.url, label_studio.admin_token)
    project = connector.set_up(slug="blind", schema=SCHEMA, hook_url="", hook_secret="").external_id
    task = connector.push(project, [NewTask(key="k-1", prompt="Who?", response="Ann.")])["k-1"]
    people, (ann, ben, _) = LabelStudioPeople(label_studio), label_studio.accounts
    answer = Answer(Verdict.INCORRECT, correction="Bartholomew.", cause=Cause.MODEL)
    given = people.answer(project, task, ann.email, answer)

    people.draft(project, task, ann.email, answer)

    def reading(path: str, token: str) -> bool:
        return "Bartholomew" in json.dumps(people._call("GET", path, token))

    for path in (
        f"/api/tasks/{task}/",
        f"/api/tasks/?project={project}&fields=all",
        f"/api/tasks/{task}/annotations/",
        f"/api/annotations/{given}/",
        f"/api/tasks/{task}/drafts",
    ):
        readers = (ben.token, ann.token, label_studio.admin_token)
        assert [reading(path, token) for token in readers] == [False, True, True], path


def test_an_expert_takes_no_export_and_changes_no_answer_but_their_own(label_studio):
    connector = LabelStudioConnector(label_studio.url, label_studio.admin_token)
    hook = {"hook_url": "http://127.0.0.1:9/hooks/x", "hook_secret": "a secret of ours"}
    project = connector.set_up(slug="closed", schema=SCHEMA, **hook).external_id
    task = connector.push(project, [NewTask(key="k-1", prompt="Who?", response="Ann.")])["k-1"]
    people, (ann, ben, _) = LabelStudioPeople(label_studio), label_studio.accounts
    given = people.answer(project, task, ann.email, Answer(Verdict.CORRECT))
    people.draft(project, task, ann.email, Answer(Verdict.CORRECT))
    (draft,) = people._call("GET", f"/api/tasks/{task}/drafts", ann.token)
    (webhook,) = people.read("/api/webhooks/", {"project": project})

    def asking(account, method: str, path: str) -> int:
        headers, url = {"Authorization": f"Token {account.token}"}, f"{label_studio.url}{path}"
        body = {"lead_time": 1.0, "data": dict.fromkeys(("prompt", "response", "context", "reasons"), "?")}
        return httpx.request(method, url, headers=headers, json=body, timeout=30, trust_env=False).status_code

    condition = {"filter": "filter:tasks:annotations_results", "operator": "contains", "type": "String"}
    seeking = quote(
        json.dumps({"filters": {"conjunction": "and", "items": [condition | {"value": "correct"}]}})
    )
    admin = read_secrets(server.home_of(label_studio.data_dir)).admin
    sorting = quote(json.dumps({"ordering": ["tasks:annotations_results"]}))
    for method, path, statuses in (
        ("GET", f"/api/projects/{project}/export?exportType=JSON", (403, 403, 200)),
        ("GET", f"/api/projects/{project}/exports/", (403, 403, 200)),
        ("GET", f"/api/webhooks/?project={project}", (403, 403, 200)),
        ("PATCH", f"/api/webhooks/{webhook['id']}/", (403, 403, 200)),
        ("GET", f"/api/storages/?project={project}", (403, 403, 200)),
        ("POST", f"/api/dm/actions?id=next_task&project={project}", (404, 200, 200)),  # Ann has answered it
        ("PATCH", f"/api/drafts/{draft['id']}/", (200, 403, 200)),
        ("PATCH", f"/api/annotations/{given}/", (200, 403, 200)),
        ("GET", f"/api/tasks/?project={project}&query={seeking}", (403, 403, 403)),
        ("GET", f"/api/tasks/?project={project}&query={sorting}", (403, 403, 403)),
        ("GET", f"/api/tasks/?project={project}", (200, 200, 200)),
        ("DELETE", f"/api/annotations/{given}/", (None, 403, None)),
        ("GET", f"/api/projects/{project}/summary/", (403, 403, 200)),
        ("GET", f"/api/projects/{project}/annotators/", (403, 403, 200)),
        ("POST", "/api/ml/", (403, 403, 400)),
        ("PATCH", f"/api/tasks/{task}/", (403, 403, 200)),
        ("PATCH", f"/api/projects/{project}/", (403, 403, 200)),
        ("DELETE", f"/api/projects/{project}/", (403, 403, None)),
        ("POST", f"/api/projects/{project}/import", (403, 403, 201)),
        ("POST", f"/api/dm/actions?id=delete_tasks_annotations&project={project}", (403, 403, 200)),
    ):
        told = [
            asking(who, method, path) if status else None
            for who, status in zip((ann, ben, admin), statuses, strict=True)
        ]
        assert tuple(told) == statuses, path


def test_accounts_are_made_once_and_can_be_used(label_studio):
    home = label_studio.data_dir
    before = read_secrets(server.home_of(home))
    assert server.ensure_accounts(label_studio.url, home, ["ann", "ben", "cleo"]) == list(
        label_studio.accounts
    )
    assert read_secrets(server.home_of(home)) == before
    [ann, *_] = label_studio.accounts
    headers = {"Authorization": f"Token {ann.token}"}
    answer = httpx.get(f"{label_studio.url}/api/current-user/whoami", headers=headers, trust_env=False)
    assert answer.json()["email"] == "ann@errata.local"


def test_an_account_whose_token_was_not_kept_is_found_again(label_studio):
    home, file = label_studio.data_dir, label_studio.data_dir / "label-studio" / "secrets.json"
    document = json.loads(file.read_text())
    document["accounts"] = [{**account, "token": ""} for account in document["accounts"]]
    file.write_text(json.dumps(document))
    again = server.ensure_accounts(
        label_studio.url, home, [account.name for account in label_studio.accounts]
    )
    assert again == list(label_studio.accounts)


def test_accounts_that_are_made_at_once_are_all_kept(tmp_path):
    tool_server.prepare(tmp_path, admin="admin", email="admin@errata.local", token="t")

    def make(account):
        time.sleep(0.1)
        return f"token of {account.name}"

    def ensure(name):
        return tool_server.ensure_account(tmp_path, name, name, is_valid=lambda token: True, make=make)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(ensure, ("ann", "ben", "cleo")))
    assert {each.token for each in read_secrets(tmp_path).accounts} == {
        f"token of {name}" for name in ("ann", "ben", "cleo")
    }


def test_who_is_locked_out_is_shown_no_project_and_their_answers_stay(label_studio):
    connector = LabelStudioConnector(label_studio.url, label_studio.admin_token)
    project = connector.set_up(slug="left", schema=SCHEMA, hook_url="", hook_secret="").external_id
    task = connector.push(project, [NewTask(key="k-1", prompt="?", response="!")])["k-1"]
    [dora] = server.ensure_accounts(label_studio.url, label_studio.data_dir, ["dora"])
    headers = {"Authorization": f"Token {dora.token}"}

    def reading(path: str) -> int:
        return httpx.get(label_studio.url + path, headers=headers, trust_env=False, timeout=30).status_code

    body = {"result": to_result(Answer(Verdict.CORRECT)), "lead_time": 3.0}
    path = f"{label_studio.url}/api/tasks/{task}/annotations/"
    httpx.post(path, headers=headers, json=body, trust_env=False, timeout=30).raise_for_status()
    assert reading(f"/api/tasks/{task}/") == 200
    for _ in range(2):
        server.lock_out(label_studio.url, label_studio.data_dir, [dora])
    assert reading(f"/api/tasks/{task}/") >= 400
    assert reading(f"/api/projects/{project}/") >= 400
    [held] = connector.fetch(project, [task])
    assert [one.answer.verdict for one in held.annotations] == [Verdict.CORRECT]


def test_a_name_that_is_no_account_name_is_refused(label_studio):
    with pytest.raises(ToolFailed, match="Ann"):
        server.ensure_accounts(label_studio.url, label_studio.data_dir, ["Ann Smith"])


def test_it_never_takes_another_port_than_the_one_it_was_given(installation, label_studio, tmp_path):
    secrets = server.prepare(installation, tmp_path)
    port = httpx.URL(label_studio.url).port
    argv, environment = server.command(installation, tmp_path, secrets, port=port)
    second = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
    )
    assert second.returncode != 0
    assert b"port is already in use" in second.stdout + second.stderr


def wait(seconds, is_alive):
    wait_until_ready(
        "http://127.0.0.1:9",
        title=server.TITLE,
        is_up=server.is_up,
        is_alive=is_alive,
        timeout_seconds=seconds,
    )


def test_a_server_that_ended_is_not_waited_for():
    with pytest.raises(ToolFailed, match="ended"):
        wait(60, is_alive=lambda: False)


def test_a_server_that_is_late_is_given_up():
    with pytest.raises(ToolFailed, match="within 0 s"):
        wait(0, is_alive=lambda: True)


def test_its_webhook_reaches_us_and_says_what_to_read_again(label_studio, receiver):
    url, received = receiver
    people = LabelStudioPeople(label_studio)
    connector = LabelStudioConnector(label_studio.url, label_studio.admin_token)
    project = connector.set_up(slug="hooked", schema=SCHEMA, hook_url=url, hook_secret="s3cret").external_id
    task = connector.push(project, [NewTask(key="k-1", prompt="?", response="!")])["k-1"]
    annotation = people.answer(project, task, "ann@errata.local", Answer(Verdict.CORRECT))
    headers, body = received.get(timeout=10)
    event = parse_label_studio(body)
    assert is_authentic("s3cret", headers[SECRET_HEADER])
    assert (event.action, event.project, event.task_keys, event.task_ids, event.annotation_ids) == (
        HookAction.ANNOTATION_CREATED,
        project,
        ("k-1",),
        (task,),
        (annotation,),
    )
    [found] = connector.fetch(project, [task])
    assert [each.updated_at for each in found.annotations] == [event.updated_at]


def test_its_webhook_reaches_no_other_private_address(label_studio):
    connector = LabelStudioConnector(label_studio.url, label_studio.admin_token)
    with pytest.raises(ToolRefused, match="forbidden"):
        connector.set_up(slug="inside", schema=SCHEMA, hook_url="http://169.254.169.254/", hook_secret="s")


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # the SDK's own
def test_a_personal_access_token_works_as_well(label_studio):
    answer = httpx.post(
        f"{label_studio.url}/api/token/",
        headers={"Authorization": f"Token {label_studio.admin_token}"},
        trust_env=False,
    )
    connector = LabelStudioConnector(label_studio.url, answer.raise_for_status().json()["token"])
    assert connector.set_up(slug="personal", schema=SCHEMA, hook_url="", hook_secret="").url
