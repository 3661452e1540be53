"""A corpus that still is in the tool it was made in: a real Label Studio, and a real Argilla."""

import uuid
from dataclasses import dataclass, replace

import argilla as rg
import httpx
import pytest
from pydantic import SecretStr

from annotation.errors import ToolUnavailable
from annotation.label_studio import LabelStudioConnector
from service import jobs, sources
from service.stages import corpus
from service.tables import Job, JobKind, JobState, Response
from tests.servers import RunningTool, free_port
from tests.team import Team

CONFIG = """<View><Text name="t" value="$text"/>
<Choices name="topic" toName="t"><Choice value="Billing"/><Choice value="Surgery"/></Choices></View>"""
CHOSEN = {"from_name": "topic", "to_name": "t", "type": "choices", "value": {"choices": ["Billing"]}}


@dataclass(frozen=True, slots=True)
class Place:
    """A project in a tool with an answered record and one that nobody answered, and what leads there."""

    name: str
    missing: str
    url: dict[str, str]
    token: dict[str, SecretStr]


@pytest.fixture(scope="module")
def in_label_studio(label_studio: RunningTool) -> Place:
    def post(path: str, token: str, body: object) -> dict:
        headers = {"Authorization": f"Token {token}"}
        url = f"{label_studio.url}/api/{path}"
        answer = httpx.post(url, headers=headers, json=body, timeout=30, trust_env=False)
        return answer.raise_for_status().json()

    admin, ann = label_studio.admin_token, label_studio.accounts[0].token
    made = post("projects/", admin, {"title": "topics", "label_config": CONFIG})["id"]
    asked = [
        post("tasks/", admin, {"project": made, "data": {"text": text}})["id"] for text in ("who?", "why?")
    ]
    post(f"tasks/{asked[0]}/annotations/", ann, {"result": [CHOSEN]})
    url, token = {"label_studio_url": label_studio.url}, {"label_studio_token": SecretStr(admin)}
    return Place(f"label-studio:{made}", "label-studio:999999", url, token)


@pytest.fixture(scope="module")
def in_argilla(argilla: RunningTool) -> Place:
    limits = httpx.Limits(max_keepalive_connections=0)
    client = rg.Argilla(argilla.url, argilla.admin_token, retries=0, limits=limits)
    name = f"team-{uuid.uuid4().hex[:8]}"
    workspace = rg.Workspace(name=name, client=client).create()
    topics = rg.LabelQuestion(name="label", labels=["Billing", "Surgery"])
    settings = rg.Settings(fields=[rg.TextField(name="text")], questions=[topics])
    dataset = rg.Dataset(name="topics", workspace=workspace, settings=settings, client=client).create()
    said = rg.Response("label", "Billing", user_id=client.me.id, status="submitted")
    draft = rg.Response("label", "Surgery", user_id=client.me.id, status="draft")
    dataset.records.log(
        [
            rg.Record(fields={"text": "who?"}, responses=[said]),
            rg.Record(fields={"text": "why?"}, responses=[draft]),
        ]
    )
    client.http_client.close()
    url, token = {"argilla_url": argilla.url}, {"argilla_api_key": SecretStr(argilla.admin_token)}
    return Place(f"argilla:{name}/topics", f"argilla:{name}/none", url, token)


@pytest.fixture(params=["label_studio", "argilla"])
def place(request) -> Place:
    return request.getfixturevalue(f"in_{request.param}")


def imported(team: Team, place: Place, **changed: object) -> Job:
    """Do one import, with what leads to the place as it is but for what is changed."""
    here = {"name": place.name, "url": place.url, "token": place.token} | changed
    with team.runtime.db.transaction() as session:
        options = sources.import_options(session, here["name"], {}, actor="olga")
        source = sources.ensure_source(session, team.project, sources.NewSource("topics", "CC0"))
        job = team.runtime.queue.ask(
            session, JobKind.CORPUS, source.id, project_id=team.project.id, options=options
        )
    settings = team.runtime.settings.model_copy(update=here["url"] | here["token"])
    jobs.perform(replace(team.runtime, settings=settings), team.runtime.queue.lease(job))
    with team.runtime.db.reading() as session:
        return session.get_one(Job, job)


def test_what_people_answered_there_is_taken_in_once(team, place):
    done = [imported(team, place) for _ in range(2)]
    assert [job.failure for job in done] == [None, None]
    told = [job.result for job in done]
    assert [(each["added"], each["known"], each["unread"]) for each in told] == [(1, 0, 1), (0, 1, 1)]
    [row] = team.rows(Response)
    assert (row.messages[-1]["content"], row.text, row.set_aside) == ("who?", "Billing", None)
    assert row.host_metadata["origin"] == place.name
    assert told[0]["problems"][0]["place"].startswith(f"{place.name} record ")


def test_a_project_that_is_not_there_is_named_and_nothing_is_taken(team, place):
    job = imported(team, place, name=place.missing)
    assert (job.state, job.failure_code) == (JobState.DEAD, "tool_refused")
    assert "not there any more" in job.failure or "no data set 'none'" in job.failure
    assert team.rows(Response) == []


def test_a_wrong_token_is_said_to_be_one(team, place):
    job = imported(team, place, token={name: SecretStr("0" * 40) for name in place.token})
    assert (job.state, job.failure_code) == (JobState.DEAD, "tool_refused")
    assert "the token is not accepted" in job.failure


def test_a_tool_that_does_not_answer_is_tried_again(team, place):
    job = imported(team, place, url={name: f"http://127.0.0.1:{free_port()}" for name in place.url})
    assert (job.state, job.failure_code) == (JobState.PENDING, "tool_unavailable")
    assert "does not answer" in job.failure


def test_one_that_breaks_off_in_its_middle_gives_nothing(team, in_label_studio, monkeypatch):
    real, asked = LabelStudioConnector._get_tasks, []

    def break_off(self, params):
        asked.append(params)
        if len(asked) > 1:
            raise ToolUnavailable("gone")
        return real(self, params)

    monkeypatch.setattr("annotation.label_studio.PAGE", 1)
    monkeypatch.setattr(corpus, "BATCH", 1)
    monkeypatch.setattr(LabelStudioConnector, "_get_tasks", break_off)
    assert imported(team, in_label_studio).state is JobState.PENDING
    assert len(asked) == 2 and team.rows(Response) == []
