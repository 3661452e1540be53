"""Providing and running a real Argilla, whose search engine is ours."""

import stat
import subprocess
from pathlib import Path

import argilla as rg
import pytest
from sqlmodel import select

from annotation.argilla import ArgillaConnector
from annotation.hooks import HookAction, is_signed, parse_argilla
from annotation.types import Answer, Cause, LabelSchema, NewTask, TaskKind, Verdict
from retrain.corpus_files import read, sort_out
from service import argilla_server as server
from service import supervisor, tools
from service.tables import ConnectorKind, InboxEvent, Job, JobKind
from service.tool_server import Installation
from service.web.app import create_app
from tests import builders
from tests.argilla import ArgillaPeople
from tests.limits import on_a_full_disk
from tests.servers import cache_dir

SCHEMA = LabelSchema(kind=TaskKind.GENERATION)
TASKS = [
    NewTask(key="k-1", prompt="Who pays for the taxi?", response="The department."),
    NewTask(key="k-2", prompt="Where is the canteen?", response="On the taxi rank's left."),
    NewTask(key="k-3", prompt="When does it close?", response="At six."),
]


@pytest.fixture
def connector(argilla):
    return ArgillaConnector(argilla.url, argilla.admin_token, members=("ann", "ben"))


@pytest.fixture
def people(argilla):
    return ArgillaPeople(argilla)


def set_up(connector, slug, url=""):
    return connector.set_up(slug=slug, schema=SCHEMA, hook_url=url, hook_secret="")


def test_secrets_are_for_their_owner_alone(tmp_path):
    installation = Installation(tmp_path)
    secrets = server.prepare(installation, tmp_path)
    argv, environment = server.command(installation, tmp_path, secrets, port=1, redis_url="redis://r/1")
    files = [server.home_of(tmp_path) / name for name in ("secrets.json", "signing-key")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not {secrets.admin.password, secrets.admin.token} & set(argv)
    assert server.command(installation, tmp_path, secrets, port=1, redis_url="redis://r/1")[1] == environment


TWO_LOOPS = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import serve
from sqlalchemy import text

async def ask():
    async with serve.AsyncSessionLocal() as session:
        await session.execute(text("SELECT 1"))
        await asyncio.sleep(0.05)

async def ask_at_once():
    await asyncio.gather(*(ask() for _ in range(40)))

if sys.argv[2] == "apart":
    serve.share_no_connections()
asyncio.run(ask_at_once())
asyncio.run(ask_at_once())
"""


def test_the_server_and_its_jobs_wait_for_no_connection_of_each_other(tmp_path):
    installation = server.install(cache_dir(), lambda _: None)
    secrets = server.prepare(installation, tmp_path)
    (python, launcher, _), environment = server.command(
        installation, tmp_path, secrets, port=1, redis_url="redis://r/1"
    )

    def at_once(how):
        argv = [python, "-c", TWO_LOOPS, str(Path(launcher).parent), how]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    apart, shared = at_once("apart"), at_once("shared")
    assert apart.returncode == 0, apart.stderr
    assert "bound to a different event loop" in shared.stderr


def test_a_full_disk_leaves_no_empty_signing_key(tmp_path):
    installation = Installation(tmp_path)
    secrets = server.prepare(installation, tmp_path)

    def start():
        return server.command(installation, tmp_path, secrets, port=1, redis_url="")[1]

    assert "File too large" in on_a_full_disk(start, max_bytes=0)
    assert len(start()["ARGILLA_AUTH_SECRET_KEY"]) > 40


@pytest.mark.parametrize(
    ("damaged", "text"), [("port", ""), ("secrets.json", ""), ("secrets.json", '{"accounts": []}')]
)
def test_damaged_files_are_reported_by_up(settings, damaged, text):
    chosen = settings.model_copy(update={"cache_dir": cache_dir()})
    server.prepare(server.install(chosen.cache_dir, str), chosen.data_dir)
    (server.home_of(chosen.data_dir) / damaged).write_text(text)
    told = []
    supervisor._provide(supervisor.Supervisor(chosen, lambda *said: told.append(said)), ConnectorKind.ARGILLA)
    [(name, state)] = told
    assert (name, state.partition(":")[0]) == ("argilla", "not available")


def test_accounts_are_made_once(argilla):
    names = [account.name for account in argilla.accounts]
    assert server.ensure_accounts(argilla.url, argilla.data_dir, names) == list(argilla.accounts)


def test_an_account_made_after_sending_is_let_in(argilla, people):
    made = set_up(ArgillaConnector(argilla.url, argilla.admin_token), "sent-before")
    assert "sent-before" not in workspaces(people, "ann")
    [account] = server.ensure_accounts(argilla.url, argilla.data_dir, ["ann"])
    path = f"/api/v1/me/datasets?workspace_id={made.external_id}"
    assert len(people.call("GET", path, account.token)["items"]) == 1


def test_who_is_locked_out_is_shown_nothing(argilla, people, connector):
    connector.set_up(slug="left", schema=SCHEMA, hook_url="", hook_secret="s")
    [dora] = server.ensure_accounts(argilla.url, argilla.data_dir, ["dora"])
    assert people.call("GET", "/api/v1/me/datasets", dora.token)["items"]
    for _ in range(2):
        server.lock_out(argilla.url, argilla.data_dir, [dora])
    assert people.call("GET", "/api/v1/me/datasets", dora.token)["items"] == []
    assert people.read("/api/v1/me/datasets", "ann")["items"]


def test_nobody_is_let_in_who_is_not_ours(people, connector):
    stranger = {"first_name": "s", "username": "stranger", "password": "p" * 12, "role": "annotator"}
    token = people.call("POST", "/api/v1/users", people.running.admin_token, stranger)["api_key"]
    set_up(connector, "ours-alone")
    assert people.call("GET", "/api/v1/me/workspaces", token)["items"] == []
    assert "ours-alone" in workspaces(people, "ann")


def test_whose_accounts_are_ours_is_known_of_the_bundled_server_alone(argilla, settings):
    (server.home_of(argilla.data_dir) / "port").write_text(argilla.url.rpartition(":")[2])
    bundled = settings.model_copy(update={"data_dir": argilla.data_dir})
    own = bundled.model_copy(update={"argilla_url": argilla.url})
    names = {account.name for account in argilla.accounts}
    # Other tests invite more.
    assert names <= {*tools.running(bundled, ConnectorKind.ARGILLA).members}
    assert tools.running(own, ConnectorKind.ARGILLA).members == ()


def workspaces(people, who):
    return {workspace["name"] for workspace in people.read("/api/v1/me/workspaces", annotator=who)["items"]}


def test_its_webhook_is_signed_and_says_what_to_read_again(connector, people, receiver, runtime):
    url, received = receiver
    made = set_up(connector, "signed", url)
    task = connector.push(made.external_id, TASKS)["k-1"]
    answer = people.answer(made.external_id, task, "ann", Answer(Verdict.CORRECT))
    headers, body = received.get(timeout=30)
    event = parse_argilla(body)
    assert is_signed([made.hook_secret], body, headers)
    assert (event.action, event.project, event.task_keys, event.task_ids, event.annotation_ids) == (
        HookAction.RESPONSE_CREATED,
        made.external_id,
        ("k-1",),
        (task,),
        (answer,),
    )
    set_up(connector, "signed")
    _is_taken_in(runtime, made, headers, body)


def _is_taken_in(runtime, made, headers, body):
    with runtime.db.transaction() as session:
        project = builders.add_project(session)
        tool, secret = ConnectorKind.ARGILLA, made.hook_secret
        builders.place(session, project, made.external_id, tool=tool, hook_secret=secret)
    client = create_app(runtime).test_client()
    wrong = client.post("/hooks/argilla", data=body + b" ", headers=headers)
    right = [client.post("/hooks/argilla", data=body, headers=headers).status_code for _ in range(2)]
    assert (wrong.status_code, wrong.json["code"], right) == (401, "unauthenticated", [204, 204])
    with runtime.db.reading() as session:
        [event] = session.exec(select(InboxEvent)).all()
        assert (event.source, [job.kind for job in session.exec(select(Job))]) == ("argilla", [JobKind.SYNC])


class Search:
    """Searches as Argilla's page and its SDK do, over what the embedded engine finds."""

    def __init__(self, people, dataset):
        self.people, self.dataset = people, dataset

    def __call__(self, body, who="owner"):
        me = "/me" if who == "ann" else ""
        path = f"/api/v1{me}/datasets/{self.dataset}/records/search?include=responses"
        token = people_token(self.people, who)
        found = self.people.call("POST", path, token, body)
        assert found["total"] == len(found["items"])
        return [item["record"]["external_id"] for item in found["items"]]


def people_token(people, who):
    return people.running.admin_token if who == "owner" else people._tokens[who]


def wanted(entity, prop, values, **more):
    scope = {"entity": entity, "property": prop, **more}
    return {"filters": {"and": [{"type": "terms", "scope": scope, "values": values}]}}


@pytest.fixture
def search(connector, people):
    made = set_up(connector, "searched")
    ids = connector.push(made.external_id, TASKS)
    if not any(held.annotations for held in connector.pull(made.external_id, None)):
        people.answer(made.external_id, ids["k-1"], "ann", Answer(Verdict.CORRECT))
        people.skip(made.external_id, ids["k-2"], "ann")
        people.answer(made.external_id, ids["k-2"], "ben", Answer(Verdict.UNSURE))
    return Search(people, made.url.split("/")[-2]), ids


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("taxi", {"k-1", "k-2"}),
        ("TAXI department", {"k-1"}),
        ("tax", set()),
        ("tax*", {"k-1", "k-2"}),
        ("taxi -canteen", {"k-1"}),
        ('"at six"', {"k-3"}),
        ("(six", set()),
    ],
)
def test_words_are_found(search, text, found):
    assert set(search[0]({"query": {"text": {"q": text}}})) == found


def test_a_field_can_be_named(search):
    assert search[0]({"query": {"text": {"q": "taxi", "field": "prompt"}}}) == ["k-1"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (wanted("response", "status", ["submitted"]), {"k-1", "k-2"}),
        (wanted("response", "status", ["discarded"]), {"k-2"}),
        (wanted("response", "status", ["pending"]), {"k-3"}),
        (wanted("response", "status", ["pending", "discarded"]), {"k-2", "k-3"}),
        (wanted("record", "external_id", ["k-3", "k-9"]), {"k-3"}),
        (wanted("record", "status", ["pending"]), {"k-1", "k-2", "k-3"}),
        ({"filters": {"and": [{"type": "terms", "scope": {"entity": "response", "question": "verdict"},
                               "values": ["unsure"]}]}}, {"k-2"}),
        ({"filters": {"and": [{"type": "range", "scope": {"entity": "record", "property": "inserted_at"},
                               "ge": "2100-01-01T00:00:00"}]}}, set()),
    ],
)  # fmt: skip
def test_filters_pass_what_they_name(search, body, found):
    assert set(search[0](body)) == found


def test_an_annotators_filter_looks_at_their_own_answers(search):
    assert set(search[0](wanted("response", "status", ["pending"]), who="ann")) == {"k-3"}
    assert set(search[0](wanted("response", "status", ["submitted"]), who="ann")) == {"k-1"}


@pytest.mark.parametrize(("order", "first"), [("asc", "k-1"), ("desc", "k-3")])
def test_records_come_in_the_wanted_order(search, order, first):
    scope = {"entity": "record", "property": "external_id"}
    assert search[0]({"sort": [{"scope": scope, "order": order}]})[0] == first


def test_progress_counts_records_and_each_persons_answers(search, people):
    path = f"/api/v1/datasets/{search[0].dataset}/progress"
    counts = {name: people.read(path)[name] for name in ("total", "completed", "pending")}
    assert counts == {"total": 3, "completed": 0, "pending": 3}
    mine = people.read(f"/api/v1/me/datasets/{search[0].dataset}/metrics", annotator="ann")["responses"]
    assert {name: mine[name] for name in ("total", "submitted", "discarded", "pending")} == {
        "total": 3,
        "submitted": 1,
        "discarded": 1,
        "pending": 1,
    }


@pytest.mark.filterwarnings("ignore")  # the SDK's own, when it writes files
def test_what_argilla_exported_is_read_as_a_corpus(connector, people, tmp_path):
    made = set_up(connector, "exported")
    ids = connector.push(made.external_id, TASKS[:2])
    better = Answer(Verdict.INCORRECT, correction="The ward pays.", cause=Cause.MODEL)
    people.answer(made.external_id, ids["k-1"], "ann", better)
    client = rg.Argilla(people.running.url, people.running.admin_token, retries=0)
    client.datasets(id=made.url.split("/")[-2]).get().records.to_json(tmp_path / "taxi.json")
    client.http_client.close()
    rows, unread = sort_out(read(str(tmp_path / "taxi.json"), columns={"answer": "correction"}))
    assert [(row.messages[-1].content, row.answer) for row in rows.values()] == [
        ("Who pays for the taxi?", "The ward pays.")
    ]
    assert len(unread) == 1
