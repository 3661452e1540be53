"""What is live here is what answers elsewhere: three ways to tell, one contract, and servers that fail, lie or lag."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest
from fsspec.core import url_to_fs
from sqlmodel import col, select
from standardwebhooks import Webhook

from retrain import handoff
from retrain.suites import GENERAL, general_questions
from retrain.types import canonical_json
from service import champions, serving
from service.schedule import ask_for_serving
from service.tables import (
    Evaluation,
    Job,
    JobKind,
    JobState,
    ModelVersion,
    PromotionKind,
    Role,
    ServingKind,
    ServingState,
    ServingTarget,
    User,
)
from service.web.app import create_app
from tests import builders
from tests.s3 import KEYS, running_s3

QUESTIONS = [each["question"] for each in general_questions()[:30]]
SHARED = QUESTIONS[:20]  # that all versions answer alike


def said_by(number: int, question: str) -> str:
    return "the same" if question in SHARED else f"version {number} on {question}"


class FakeServer:
    """An OpenAI-compatible server that can load adapters as vLLM does, and can be made to fail, lie or lag."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.failures, self.lies, self.heard = 0, False, []
        self.answers_as: int | None = None
        self.loads_by_itself = False  # as one that reads the files, or hears the webhook
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, path: str, body: dict) -> tuple[int, dict]:
        if self.failures:
            self.failures -= 1
            return 500, {}
        if path == "/v1/load_lora_adapter":
            if body["lora_name"] in self.loaded:
                return 400, {"message": "The lora adapter has already been loaded."}
            if not self.lies:
                self.loaded[body["lora_name"]] = body["lora_path"]
            return 200, {}
        if path != "/v1/chat/completions":
            return 200, {}
        if not self.loads_by_itself and body["model"] not in {*self.loaded, "base"}:
            return 404, {}
        number = self.answers_as
        if number is None:
            number = 0 if body["model"] == "base" else int(body["model"].split("--v")[1].split("--")[0])
        text = said_by(number, body["messages"][-1]["content"])
        return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                fake.heard.append((self.path, dict(self.headers), raw))
                status, document = fake.answer(self.path, json.loads(raw))
                self.send_response(status)
                data = json.dumps(document).encode()
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


class House:
    """A project whose two versions were judged, and the work that is asked for."""

    def __init__(self, runtime, work, folder: Path) -> None:
        self.runtime, self.work, self.folder = runtime, work, folder
        adapter = folder / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text("{}")
        with runtime.db.transaction() as session:
            self.project = builders.add_project(session)
            self.user, self.token = builders.add_person(session, Role.ADMIN)
            builders.add_criteria(session, self.project)
            for number in (1, 2):
                (adapter / "adapter_model.safetensors").write_text(f"weights {number}")
                model = builders.add_challenger(session, self.project, number=number)
                model.adapter_sha256 = runtime.artifacts.put_directory(adapter)
                evaluation = builders.add_evaluation(session, self.project, model)
                answers = {
                    who: {f"{GENERAL}:{each}": said_by(of, each) for each in QUESTIONS}
                    for who, of in (("base", 0), ("champion", 0), ("challenger", number))
                }
                evaluation.report = runtime.artifacts.put_bytes(canonical_json({"answers": answers}))

    def add(self, kind: ServingKind, place: str, **options) -> ServingTarget:
        with self.runtime.db.transaction() as session:
            added = serving.add(
                session, self.project, kind, place, **options, runtime=self.runtime, actor="test"
            )
            self.secret = added.get("secret")
            return session.get_one(ServingTarget, builders.UUID(added["id"]))

    def switch(self, number: int) -> None:
        with self.runtime.db.transaction() as session:
            model = session.exec(select(ModelVersion).where(ModelVersion.number == number)).one()
            user = session.get_one(User, self.user.id)
            more = {"live": champions.newest_promotion(session, self.project.id), "user": user}
            champions.switch(session, self.project, model, PromotionKind.OVERRIDE, reason="test", **more)
        self.work()

    def look(self) -> None:
        """Let every rest be over, and look again."""
        with self.runtime.db.transaction() as session:
            for each in session.exec(select(ServingTarget)):
                each.not_before = each.created_at
        ask_for_serving(self.runtime)
        self.work()

    def target(self) -> ServingTarget:
        with self.runtime.db.reading() as session:
            return session.exec(select(ServingTarget)).one()


@pytest.fixture
def house(runtime, work, tmp_path) -> House:
    return House(runtime, work, tmp_path)


KINDS = [ServingKind.DIRECTORY, ServingKind.VLLM, ServingKind.WEBHOOK]


class TestContract:
    """The same of every kind."""

    @pytest.fixture(params=KINDS)
    def served(self, request, house, server) -> Iterator[House]:
        is_hook = request.param is ServingKind.WEBHOOK
        place = f"{server.url}/hook" if is_hook else str(house.folder / "served")
        server.loads_by_itself = request.param is not ServingKind.VLLM
        with patch("service.outgoing.check_url"), patch("service.outgoing._refuse"):
            house.add(request.param, place, url=server.url, base_name="base")
            yield house

    def test_it_is_live_once_it_answers_as_it_did_when_it_was_judged(self, served):
        served.switch(1)
        target = served.target()
        assert (target.state, target.seq) == (ServingState.LIVE, 1), target.told
        assert target.served.startswith("clinic--v1--")

    def test_a_rollback_to_the_base_model_is_followed(self, served):
        served.switch(1)
        served.switch(0)
        target = served.target()
        assert (target.state, target.seq, target.served) == (ServingState.LIVE, 2, "base"), target.told

    def test_what_fails_is_tried_again_and_rests_longer_each_time(self, served, server):
        server.failures = 2
        served.switch(1)
        first = served.target()
        assert (first.state, first.attempts) == (ServingState.FAILING, 1)
        ask_for_serving(served.runtime)  # it rests
        served.work()
        assert served.target().attempts == 1
        server.failures = 1
        served.look()
        second = served.target()
        assert second.attempts == 2
        assert second.not_before - second.checked_at > first.not_before - first.checked_at
        served.look()
        assert (served.target().state, served.target().attempts) == (ServingState.LIVE, 0)

    def test_old_weights_under_the_new_name_are_not_live(self, served, server):
        server.answers_as = 0
        served.switch(1)
        target = served.target()
        assert target.state is ServingState.FAILING and "version 0's" in target.told
        with patch(
            "service.stages.serving.attest", return_value=handoff.Attested(is_meant=True, sentence="believed")
        ):
            served.look()
        assert served.target().state is ServingState.LIVE  # what a hand-over without the question would say

    def test_a_server_that_forgets_is_found_out(self, served, server):
        served.switch(1)
        server.answers_as = 2
        served.look()
        assert served.target().state is ServingState.FAILING


def test_a_vllm_server_that_says_it_loaded_what_it_did_not_is_not_live(house, server):
    server.lies = True
    house.add(ServingKind.VLLM, str(house.folder / "served"), url=server.url, seen_as="/adapters")
    house.switch(1)
    assert house.target().state is ServingState.FAILING and "404" in house.target().told
    server.lies = False
    house.look()
    assert house.target().state is ServingState.LIVE
    ((name, path),) = server.loaded.items()
    assert path == f"/adapters/{name}"


def test_a_directory_holds_each_adapter_whole_under_a_name_of_its_own(house):
    place = house.folder / "served"
    house.add(ServingKind.DIRECTORY, str(place))
    for number in (1, 2, 1):
        house.switch(number)
    champion = json.loads((place / handoff.CHAMPION).read_text())
    names = sorted(each.name for each in place.iterdir() if each.is_dir())
    assert len(names) == 2 and all("--v" in name and not name.startswith(".") for name in names)
    assert (champion["name"], champion["model_version"]) == (names[0], 1)
    assert (place / champion["name"] / "adapter_model.safetensors").read_text() == "weights 1"
    assert house.target().state is ServingState.PUBLISHED


def test_a_prefix_in_s3_holds_the_same(house, monkeypatch):
    with running_s3() as endpoint:
        for name, value in {"endpoint_url": endpoint, **KEYS}.items():
            monkeypatch.setenv(f"AWS_{name.upper()}", value)
        house.add(ServingKind.DIRECTORY, "s3://sets/served")
        for number in (1, 2, 1):
            house.switch(number)
        files, root = url_to_fs("s3://sets/served")
        champion = json.loads(files.cat_file(f"{root}/{handoff.CHAMPION}"))
        names = [path.rpartition("/")[2] for path in files.ls(root) if not path.endswith(".json")]
        weights = files.cat_file(f"{root}/{champion['name']}/adapter_model.safetensors")
    assert (len(names), champion["name"] in names, champion["model_version"]) == (2, True, 1)
    assert weights == b"weights 1"
    assert house.target().state is ServingState.PUBLISHED


def test_a_webhook_is_signed(house, server):
    with patch("service.outgoing.check_url"), patch("service.outgoing._refuse"):
        house.add(ServingKind.WEBHOOK, f"{server.url}/hook")
        house.switch(1)
    ((path, headers, raw),) = server.heard[-1:]
    told = Webhook(house.secret).verify(raw, {name.lower(): value for name, value in headers.items()})
    assert (path, told["type"], told["data"]["model_version"]) == ("/hook", "serving.wanted", 1)


def test_versions_that_answer_alike_are_never_called_live(house, server):
    with house.runtime.db.transaction() as session:
        for evaluation in session.exec(select(Evaluation)):
            alike = {
                who: {f"{GENERAL}:{each}": "the same" for each in QUESTIONS} for who in ("base", "challenger")
            }
            evaluation.report = house.runtime.artifacts.put_bytes(canonical_json({"answers": alike}))
    house.add(ServingKind.VLLM, str(house.folder / "served"), url=server.url)
    house.switch(1)
    assert house.target().state is ServingState.CANNOT_TELL


def test_a_server_that_is_away_keeps_no_other_waiting(house, server):
    house.add(ServingKind.VLLM, str(house.folder / "slow"), url="http://127.0.0.1:9")
    house.add(ServingKind.VLLM, str(house.folder / "served"), url=server.url)
    house.switch(1)
    with house.runtime.db.reading() as session:
        states = [each.state for each in session.exec(select(ServingTarget).order_by(col(ServingTarget.id)))]
    assert states == [ServingState.FAILING, ServingState.LIVE]


def test_without_targets_nothing_is_asked_for(house):
    house.switch(1)
    with house.runtime.db.reading() as session:
        assert session.exec(select(Job).where(Job.kind == JobKind.SERVE)).all() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "directory", "place": "gopher://x/y"}, "place"),
        ({"kind": "vllm", "place": "/adapters"}, "url"),
        ({"kind": "vllm", "place": "/adapters", "url": "file:///etc/passwd"}, "url"),
        ({"kind": "webhook", "place": "http://169.254.169.254/"}, "url"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused(house, body, field):
    client = create_app(house.runtime).test_client()
    headers = {"Authorization": f"Bearer {house.token}"}
    answer = client.post("/v1/serving-targets", json={"project": "clinic"} | body, headers=headers)
    assert answer.status_code in (422, 403) and field in answer.json["detail"]


def test_what_is_removed_is_told_nothing(house, server):
    target = house.add(ServingKind.VLLM, str(house.folder / "served"), url=server.url)
    with house.runtime.db.transaction() as session:
        serving.remove(session, session.get_one(ServingTarget, target.id), actor="test")
        for job in session.exec(select(Job).where(Job.state == JobState.PENDING)):
            session.delete(job)
    house.switch(1)
    assert server.heard == []
