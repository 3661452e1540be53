"""What every connector promises, checked on the fake, on a real Label Studio and on a real Argilla."""

import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import httpx
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from annotation import argilla as argilla_connector
from annotation import label_studio
from annotation.answers import check
from annotation.argilla import ArgillaConnector
from annotation.argilla_results import to_values
from annotation.errors import InvalidAnswer, InvalidSchema, ToolRefused, ToolUnavailable
from annotation.label_schema import default_guidelines
from annotation.label_studio import LabelStudioConnector, label_config
from annotation.label_studio_page import keeping_asked
from annotation.label_studio_results import to_result
from annotation.questions import SPANS, QuestionType, default_ratings, questions
from annotation.types import Abstention, Answer, Cause, LabelSchema, NewTask, Span, TaskKind, Verdict
from service.label_studio_server import ADMIN_EMAIL
from tests.argilla import ArgillaPeople
from tests.fakes import FakeConnector
from tests.label_studio import LabelStudioPeople
from tests.servers import free_port

ANN, BEN = "ann@errata.local", "ben@errata.local"
HOOK, SECRET = "http://127.0.0.1:9/hooks/label-studio/x", "s3cret"
SCHEMA = LabelSchema(
    kind=TaskKind.CLASSIFICATION,
    labels=("Billing", "Ear, nose & throat", 'The "other" <one>'),
    guidelines=default_guidelines(TaskKind.CLASSIFICATION) + "<script>alert(1)</script>",
)
RIGHT = Answer(Verdict.CORRECT)
WRONG = Answer(
    Verdict.INCORRECT,
    label='The "other" <one>',
    cause=Cause.MODEL,
    ratings={"coherence": 4, "conciseness": 1},
)
BY_HAND = {"prompt": "Who sends my bill?", "response": "Cardiology"}
TASKS = [
    NewTask(key="k-1", prompt="Who pays?", response="Billing"),
    NewTask(
        key="k-2", prompt="My ear\nhurts & it's <b>bad</b>", response="Billing", context="c", reasons="wrong"
    ),
]


class FakeTool:
    """The fake connector, and what a test wants to know of it."""

    ann, ben, editor, seconds = ANN, BEN, BEN, 12.5

    def __init__(self) -> None:
        self.connector = FakeConnector()
        self.people = self.connector

    def projects(self, slug):
        return [key for key, project in self.connector.projects.items() if project.slug == slug]

    def hooks(self, project):
        return self.connector.projects[project].hooks

    def tasks(self, project):
        return len(self.connector.projects[project].tasks)

    def another_connector(self):
        return self.connector

    @contextmanager
    def losing_an_answer(self):
        self.connector.loses_next_answer = True
        yield

    def with_wrong_token(self):
        self.connector.is_refusing = True
        return self.connector

    def switched_off(self):
        self.connector.is_down = True
        return self.connector


class RealTool:
    """Label Studio's connector, and what a test wants to know of the server."""

    ann, ben, editor, seconds = ANN, BEN, ADMIN_EMAIL, 12.5

    def __init__(self, running) -> None:
        self.running = running
        self.connector = self.another_connector()
        self.people = LabelStudioPeople(running)
        self.projects, self.hooks, self.tasks = self.people.projects, self.people.hooks, self.people.tasks

    def another_connector(self):
        return LabelStudioConnector(self.running.url, self.running.admin_token)

    @contextmanager
    def losing_an_answer(self):
        projects = self.connector._client.projects
        real = projects.import_tasks

        def lost(*args, **kwargs):
            real(*args, **kwargs)
            raise httpx.ReadTimeout("lost")

        projects.import_tasks = lost
        yield
        projects.import_tasks = real

    def with_wrong_token(self):
        return LabelStudioConnector(self.running.url, "0" * 40)

    def switched_off(self):
        return LabelStudioConnector(f"http://127.0.0.1:{free_port()}", self.running.admin_token)


class ArgillaTool:
    """Argilla's connector, and what a test wants to know of the server: only its author may change an answer."""

    ann, ben, editor, seconds = "ann", "ben", "ann", 0.0

    def __init__(self, running) -> None:
        self.running = running
        self.connector = self.another_connector()
        self.people = ArgillaPeople(running)
        self.projects, self.tasks = self.people.projects, self.people.tasks

    def hooks(self, project):
        return [hook for hook in self.people.hooks(project) if hook[0] == HOOK]

    def another_connector(self):
        return ArgillaConnector(self.running.url, self.running.admin_token, members=("ann", "ben"))

    @contextmanager
    def losing_an_answer(self):
        records = self.connector._client.api.records
        real = records.bulk_upsert

        def lost(*args, **kwargs):
            real(*args, **kwargs)
            raise httpx.ReadTimeout("lost")

        records.bulk_upsert = lost
        yield
        records.bulk_upsert = real

    def with_wrong_token(self):
        return ArgillaConnector(self.running.url, "0" * 40)

    def switched_off(self):
        return ArgillaConnector(f"http://127.0.0.1:{free_port()}", self.running.admin_token)


TOOLS = {"label_studio": RealTool, "argilla": ArgillaTool}


def tool_of(request):
    made = TOOLS.get(request.param)
    return made(request.getfixturevalue(request.param)) if made else FakeTool()


@pytest.fixture(params=["fake", "label_studio", "argilla"])
def tool(request):
    return tool_of(request)


@pytest.fixture(params=["fake", "label_studio"])
def lenient_tool(request):
    """Tools that check no answer, and are told the secret of their webhook."""
    return tool_of(request)


@pytest.fixture
def slug() -> str:
    return f"project-{uuid.uuid4()}"


@pytest.fixture
def project(tool, slug) -> str:
    return set_up(tool.connector, slug).external_id


def set_up(connector, slug, schema=SCHEMA, secret=SECRET, known_id=None):
    return connector.set_up(slug=slug, schema=schema, hook_url=HOOK, hook_secret=secret, known_id=known_id)


def pulled(tool, project, since=None):
    return {a.external_id: a for held in tool.connector.pull(project, since) for a in held.annotations}


def answered(tool, project):
    """Return the keys of the tasks that have an annotation."""
    return {a.task_key for a in pulled(tool, project).values()}


def fetched(tool, project, task):
    """Return a task's annotations."""
    return [a for held in tool.connector.fetch(project, [task]) for a in held.annotations]


def test_setting_up_twice_makes_one_project_and_one_webhook(tool, slug):
    first, second = set_up(tool.connector, slug), set_up(tool.another_connector(), slug)
    assert first == replace(second, is_hook_new=True)
    assert not second.is_hook_new
    assert tool.projects(slug) == [first.external_id]
    assert tool.hooks(first.external_id) == [(HOOK, first.hook_secret or SECRET)]


def test_a_new_secret_replaces_the_webhook(lenient_tool, slug):
    project = set_up(lenient_tool.connector, slug).external_id
    set_up(lenient_tool.connector, slug, secret="another", known_id=project)
    assert lenient_tool.hooks(project) == [(HOOK, "another")]


def test_a_project_keeps_its_place_when_its_schema_changes(tool, slug, project):
    wider = LabelSchema(kind=TaskKind.CLASSIFICATION, labels=(*SCHEMA.labels, "Dental"))
    assert set_up(tool.connector, slug, schema=wider).external_id == project


NARROWED = [
    replace(SCHEMA, labels=SCHEMA.labels[:2]),
    replace(SCHEMA, labels=SCHEMA.labels[:2], ratings=("coherence",)),
    replace(SCHEMA, labels=SCHEMA.labels[:2], ratings=(), is_multi_label=True),
]


def test_a_question_that_was_answered_may_go_and_come_back(tool, slug, project):
    task = tool.connector.push(project, TASKS)["k-1"]
    given = tool.people.answer(project, task, tool.ann, WRONG)
    for schema in (*NARROWED, NARROWED[-1]):
        assert set_up(tool.connector, slug, schema=schema).external_id == project
    other = tool.connector.push(project, [replace(TASKS[0], key="k-3")])["k-3"]
    several = Answer(Verdict.INCORRECT, labels=("Billing",), cause=Cause.MODEL)
    later = tool.people.answer(project, other, tool.ben, several)
    assert {key: one.answer for key, one in pulled(tool, project).items()} == {given: WRONG, later: several}
    assert set_up(tool.connector, slug).external_id == project


def test_pushing_twice_makes_one_task_per_key(tool, project):
    ids = tool.connector.push(project, TASKS)
    assert tool.connector.push(project, TASKS) == ids
    assert set(ids) == {"k-1", "k-2"}
    assert tool.tasks(project) == 2


def test_a_lost_answer_makes_no_duplicate(tool, project):
    with tool.losing_an_answer(), pytest.raises(ToolUnavailable):
        tool.connector.push(project, TASKS)
    ids = tool.connector.push(project, TASKS)
    assert len(ids) == tool.tasks(project) == 2


def test_pushing_nothing_is_nothing(tool, project):
    assert tool.connector.push(project, []) == {}


def test_an_answer_comes_back_as_it_was_given(tool, project):
    ids = tool.connector.push(project, TASKS)
    annotation = tool.people.answer(project, ids["k-2"], tool.ann, WRONG)
    [found] = fetched(tool, project, ids["k-2"])
    assert (found.task_key, found.external_id, found.annotator) == ("k-2", annotation, tool.ann)
    assert (found.answer, found.problem, found.seconds_spent) == (WRONG, None, tool.seconds)
    assert pulled(tool, project) == {annotation: found}


def test_each_annotator_is_told_apart(tool, project):
    task = tool.connector.push(project, TASKS)["k-1"]
    tool.people.answer(project, task, tool.ann, RIGHT)
    tool.people.answer(project, task, tool.ben, WRONG)
    found = {a.annotator: a.answer for a in fetched(tool, project, task)}
    assert found == {tool.ann: RIGHT, tool.ben: WRONG}


def test_an_edit_is_pulled_with_its_editor(tool, project):
    task = tool.connector.push(project, TASKS)["k-1"]
    annotation = tool.people.answer(project, task, tool.ann, WRONG)
    before = pulled(tool, project)[annotation]
    tool.people.edit(project, annotation, tool.editor, RIGHT)
    after = pulled(tool, project, since=before.updated_at)[annotation]
    assert (after.answer, after.annotator, after.changed_by) == (RIGHT, tool.ann, tool.editor)
    assert after.updated_at > before.updated_at


def test_a_skip_has_neither_answer_nor_problem(tool, project):
    task = tool.connector.push(project, TASKS)["k-1"]
    annotation = tool.people.skip(project, task, tool.ann)
    found = pulled(tool, project)[annotation]
    assert (found.answer, found.problem) == (None, None)


def test_a_draft_is_no_answer(tool, project):
    ids = tool.connector.push(project, TASKS)
    tool.people.draft(project, ids["k-1"], tool.ann, WRONG)
    assert pulled(tool, project) == {}
    assert fetched(tool, project, ids["k-1"]) == []
    answer = tool.people.answer(project, ids["k-1"], tool.ben, RIGHT)
    assert set(pulled(tool, project)) == {answer}


def test_nonsense_has_a_problem_and_stops_nothing(lenient_tool, slug):
    tool, project = lenient_tool, set_up(lenient_tool.connector, slug).external_id
    ids = tool.connector.push(project, TASKS)
    nonsense = tool.people.send_nonsense(project, ids["k-1"], ANN)
    answer = tool.people.answer(project, ids["k-2"], ANN, RIGHT)
    found = pulled(tool, project)
    assert found[nonsense].answer is None
    assert "perhaps" in found[nonsense].problem
    assert found[answer].answer == RIGHT


def test_nothing_is_pulled_long_after_the_last_change(tool, project):
    task = tool.connector.push(project, TASKS)["k-1"]
    annotation = tool.people.answer(project, task, tool.ann, RIGHT)
    last = pulled(tool, project)[annotation].updated_at
    assert pulled(tool, project, since=last.replace(year=last.year + 1)) == {}


def test_a_task_that_is_not_there_is_left_out(tool, project):
    task = tool.connector.push(project, TASKS)["k-1"]
    assert [held.key for held in tool.connector.fetch(project, ["987654321", task])] == ["k-1"]


def test_everything_is_held_with_what_it_shows(tool, project):
    ids = tool.connector.push(project, TASKS)
    held = {one.external_id: one for one in tool.connector.pull(project, None)}
    assert {one.external_id: one.key for one in held.values()} == {ids[key]: key for key in ids}
    told = {"prompt": TASKS[1].prompt, "response": "Billing", "context": "c", "reasons": "wrong"}
    assert held[ids["k-2"]].shown == told
    assert held[ids["k-1"]].shown == {"prompt": "Who pays?", "response": "Billing"}


def test_an_annotation_that_was_deleted_is_held_no_more(tool, project):
    ids = tool.connector.push(project, TASKS)
    gone = tool.people.answer(project, ids["k-1"], tool.ann, RIGHT)
    left = tool.people.answer(project, ids["k-1"], tool.ben, RIGHT)
    tool.people.take_back(project, gone)
    assert set(pulled(tool, project)) == {left}


def test_a_task_added_by_hand_has_no_key(tool, project):
    added = tool.people.add_by_hand(project, **BY_HAND)
    [held] = [one for one in tool.connector.pull(project, None) if one.external_id == added]
    assert (held.key, held.shown) == ("", BY_HAND)


def test_deleted_tasks_are_read_to_be_gone(tool, project):
    ids = tool.connector.push(project, TASKS)
    tool.connector.delete(project, [ids["k-1"]])
    tool.connector.delete(project, [ids["k-1"]])
    assert {held.key for held in tool.connector.pull(project, None)} == {"k-2"}


def test_what_is_closed_waits_for_nobody_and_once_reopened_it_does(tool, project):
    ids = tool.connector.push(project, TASKS)
    tool.people.answer(project, ids["k-1"], tool.ann, WRONG)
    assert ids["k-1"] in tool.people.offered(project, tool.ben)
    tool.connector.close(project, list(ids.values()))
    assert tool.people.offered(project, tool.ben) == []
    tool.connector.reopen(project, [ids["k-1"]])
    assert tool.people.offered(project, tool.ben) == [ids["k-1"]]


def test_what_is_sent_first_is_what_an_expert_is_given_first(tool, project):
    urgent, later = ([f"k-{at}" for at in order] for order in ((7, 2, 9, 4), (3, 0)))
    ids: dict[str, str] = {}
    for batch in (urgent, later):
        ids |= tool.connector.push(project, [replace(TASKS[0], key=key) for key in batch])
    given = []
    for _ in ids:
        given.append(tool.people.offered(project, tool.ann)[0])
        tool.people.answer(project, given[-1], tool.ann, RIGHT)
    assert given == [ids[key] for key in (*urgent, *later)]


def test_a_webhook_that_was_removed_is_put_back_and_said_to_be_new(tool, slug):
    made = set_up(tool.connector, slug)
    tool.people.remove_hooks(made.external_id, HOOK)
    left_alone = tool.connector.set_up(slug=slug, schema=SCHEMA, hook_url=None, hook_secret=SECRET)
    assert (left_alone.is_hook_new, tool.hooks(made.external_id)) == (False, [])
    assert set_up(tool.connector, slug).is_hook_new
    assert [url for url, _ in tool.hooks(made.external_id)] == [HOOK]


def test_a_project_that_was_deleted_is_refused_and_made_anew(tool, slug):
    project = set_up(tool.connector, slug).external_id
    tool.connector.push(project, TASKS)
    tool.people.remove_project(project)
    with pytest.raises(ToolRefused):
        list(tool.connector.pull(project, None))
    assert set_up(tool.connector, slug).external_id != project


def test_a_tool_that_is_well_says_who_we_are_there(tool):
    health = tool.connector.health()
    assert health.account and health.version and not health.problem


def test_what_hinders_a_tool_has_a_remedy(tool):
    wrong, off = tool.with_wrong_token().health(), None
    assert "token" in wrong.problem or "key" in wrong.problem
    assert wrong.version and wrong.remedy
    off = tool.switched_off().health()
    assert off.problem and off.remedy and not off.version


def test_a_wrong_token_is_refused(tool, project):
    with pytest.raises(ToolRefused, match="token"):
        tool.with_wrong_token().push(project, TASKS)


def test_a_tool_that_is_down_is_unavailable(tool, project):
    with pytest.raises(ToolUnavailable):
        tool.switched_off().push(project, TASKS)


def test_label_studio_gets_one_task_from_two_processes_at_once(label_studio, slug):
    tool = RealTool(label_studio)
    project = set_up(tool.connector, slug).external_id
    both_have_looked = threading.Barrier(2)

    def push(connector):
        real = connector._client.projects.import_tasks

        def late(*args, **kwargs):
            both_have_looked.wait(30)
            return real(*args, **kwargs)

        connector._client.projects.import_tasks = late
        return connector.push(project, TASKS)

    connectors = [tool.another_connector(), tool.another_connector()]
    for connector in connectors:
        set_up(connector, slug)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(push, connectors)
    assert first == second
    assert tool.tasks(project) == 2


def test_label_studio_keeps_what_set_up_sent(label_studio, slug):
    tool = RealTool(label_studio)
    project = set_up(tool.connector, slug).external_id
    kept = tool.people.read(f"/api/projects/{project}/", {})
    sent = tool.connector._settings(slug, SCHEMA)
    assert {name: kept[name] for name in sent} == sent


def test_in_label_studio_what_is_asked_no_more_is_kept_once_and_out_of_sight():
    before, after = label_config(SCHEMA), label_config(NARROWED[-1])
    kept = keeping_asked(after, before)
    hidden = kept.partition('<View style="display:none">')[2]
    assert re.findall(r'<(?:Choices|Rating) name="(\w+)"', hidden) == ["label", *SCHEMA.ratings]
    assert not re.findall("hotkey|required", hidden)
    assert keeping_asked(after, kept) == kept
    assert keeping_asked(before, before) == before


def test_in_label_studio_another_ones_project_of_our_name_is_left_alone(label_studio, slug):
    tool = RealTool(label_studio)
    body = {"title": slug, "description": "the team's own", "label_config": "<View></View>"}
    theirs = tool.people._call("POST", "/api/projects/", label_studio.admin_token, body)
    with pytest.raises(ToolRefused, match="did not make: rename it"):
        set_up(tool.connector, slug)
    kept = tool.people.read(f"/api/projects/{theirs['id']}/", {})
    assert {name: kept[name] for name in body} == body


def test_in_label_studio_another_installation_keeps_project_and_webhook(label_studio, slug):
    tool = RealTool(label_studio)
    theirs = set_up(tool.connector, slug, secret="theirs").external_id
    with pytest.raises(ToolRefused, match="did not make"):
        set_up(tool.connector, slug)
    assert tool.hooks(theirs) == [(HOOK, "theirs")]


def test_in_label_studio_a_project_that_was_renamed_is_ours_still(label_studio, slug):
    tool = RealTool(label_studio)
    project = set_up(tool.connector, slug).external_id
    path = f"/api/projects/{project}/"
    tool.people._call("PATCH", path, label_studio.admin_token, {"title": "Renamed"})
    assert set_up(tool.connector, slug, known_id=project).external_id == project
    assert tool.projects(slug) == [project]


def test_label_studio_pulls_more_than_a_page(label_studio, slug):
    tool = RealTool(label_studio)
    project = set_up(tool.connector, slug).external_id
    tasks = [NewTask(key=f"k-{n}", prompt="?", response="Billing") for n in range(230)]
    ids = tool.connector.push(project, tasks)
    for key in ("k-0", "k-229"):
        tool.people.answer(project, ids[key], ANN, RIGHT)
    assert answered(tool, project) == {"k-0", "k-229"}


MANY = LabelSchema(TaskKind.CLASSIFICATION, ("Billing", "Ear, nose & throat", "Skin"), is_multi_label=True)
MOST = LabelSchema(TaskKind.CLASSIFICATION, tuple(f"Department {at}" for at in range(140)))
WRITTEN = LabelSchema(TaskKind.GENERATION, spans=SPANS, anchors={"coherence": ("<b>1</b>", "three", "five")})
SPOKEN = LabelSchema(
    TaskKind.CONVERSATION, ratings=default_ratings(TaskKind.CONVERSATION), spans=("made up", "<i>rude</i>")
)
COMPARED = LabelSchema(TaskKind.PAIRWISE, ratings=())
ASKED = NewTask(
    key="k-1",
    prompt="<script>alert(1)</script> My ear hurts & it's \U0001f480",
    response="Put a cold spoon on it.\nIt always helps.",
    context="<img src=x onerror=alert(2)>",
    reasons="unsafe \u00b7 <script>alert(3)</script>",
)
BETTER = "Line one\n\n- a point & <script>alert(4)</script>"


def asked_again(**more):
    return Answer(Verdict.INCORRECT, cause=Cause.CONTEXT, **more)


@pytest.mark.parametrize(
    ("schema", "rival", "suggestion", "answer"),
    [
        (SCHEMA, None, {"label": "Billing"}, WRONG),
        (MANY, None, {"labels": ["Billing", "Skin"]}, asked_again(labels=("Ear, nose & throat", "Skin"))),
        (
            WRITTEN,
            None,
            {"correction": BETTER},
            asked_again(correction=BETTER, spans=(Span(0, 3, "unsafe"), Span(24, 39, "hallucinated"))),
        ),
        (
            SPOKEN,
            None,
            {"correction": "Ask a doctor."},
            asked_again(
                correction="No.",
                spans=(Span(4, 10, "<i>rude</i>"),),
                ratings={"turn_taking": 1, "sentiment_alignment": 3, "task_completion": 5},
            ),
        ),
        (WRITTEN, None, {"correction": BETTER}, Answer(Abstention.CANNOT_JUDGE)),
        (MANY, None, {}, Answer(Abstention.GUIDELINE_UNCLEAR)),
        (COMPARED, "<b>Ask</b> a doctor.", {}, Answer(Verdict.TIE)),
        (COMPARED, "Ask a doctor.", {}, Answer(Verdict.B)),
    ],
)
def test_every_kind_of_question_is_asked_suggested_and_answered(tool, schema, rival, suggestion, answer):
    project = set_up(tool.connector, f"project-{uuid.uuid4()}", schema=schema).external_id
    task = replace(ASKED, rival=rival, suggestion=suggestion)
    identifier = tool.connector.push(project, [task])["k-1"]
    assert tool.people.suggested(project, identifier) == suggestion
    tool.people.answer(project, identifier, tool.ann, answer)
    [found] = fetched(tool, project, identifier)
    assert (found.answer, found.problem) == (answer, None)
    assert check(found.answer, schema, ASKED.response) == answer


def test_a_repeated_push_suggests_nothing_twice(tool, project):
    tasks = [replace(TASKS[0], suggestion={"label": "Billing"})]
    with tool.losing_an_answer(), pytest.raises(ToolUnavailable):
        tool.connector.push(project, tasks)
    task = tool.connector.push(project, tasks)["k-1"]
    assert tool.people.suggested(project, task) == {"label": "Billing"}


def test_label_studio_keeps_everything_that_its_server_does_not_check(lenient_tool, slug):
    tool = lenient_tool
    project = set_up(tool.connector, slug, schema=WRITTEN).external_id
    task = tool.connector.push(project, [ASKED])["k-1"]
    for wrong in (
        asked_again(correction="x", ratings={"coherence": 9}),
        asked_again(correction="x", spans=(Span(30, 300, "unsafe"),)),
        asked_again(correction="x", spans=(Span(0, 3, "dull"),)),
        asked_again(correction="x" * 5_000_000),
        asked_again(label="Billing"),
    ):
        annotation = tool.people.answer(project, task, tool.ann, wrong)
        found = pulled(tool, project)[annotation]
        assert found.answer == wrong
        with pytest.raises(InvalidAnswer):
            check(found.answer, WRITTEN, ASKED.response)


@pytest.mark.parametrize("schema", [SCHEMA, MANY, MOST, WRITTEN, SPOKEN, COMPARED])
def test_label_studio_validates_what_we_write(schema):
    interface = LabelInterface(label_config(schema))
    keys = re.findall(r'hotkey="([^"]*)"', interface.config)
    assert (
        len(keys)
        == len(set(keys))
        == sum(
            len(question.choices) or question.type is QuestionType.RATING for question in questions(schema)
        )
    )
    given = (
        {"labels": schema.labels} if schema is MANY else {"label": schema.labels[-1]} if schema.labels else {}
    )
    spans = (Span(0, 3, schema.spans[0]),) if schema.spans else ()
    ratings = dict.fromkeys(schema.ratings, 5)
    verdict = Verdict.A if schema is COMPARED else Verdict.INCORRECT
    result = to_result(Answer(verdict, **given, spans=spans, ratings=ratings))
    assert (
        interface.validate_prediction({"model_version": "errata", "result": result}, return_errors=True) == []
    )
    wrong = to_result(Answer(verdict, cause="weather"))
    assert (
        interface.validate_prediction({"model_version": "errata", "result": wrong}, return_errors=True) != []
    )


def test_label_studio_cannot_show_two_questions_of_one_name():
    with pytest.raises(InvalidSchema):
        label_config(LabelSchema(kind=TaskKind.GENERATION, ratings=("verdict",)))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ToolRefused, match="address"):
        set_up(LabelStudioConnector("label-studio", "x"), "p")


@pytest.fixture
def argilla_tool(argilla):
    return ArgillaTool(argilla)


def test_in_argilla_another_installation_keeps_its_webhook(argilla_tool, slug):
    theirs, ours = "http://127.0.0.1:9/hooks/theirs", "http://127.0.0.1:9/hooks/moved"
    for url, secret in ((theirs, "theirs"), (HOOK, SECRET), (ours, SECRET)):
        argilla_tool.connector.set_up(slug=slug, schema=SCHEMA, hook_url=url, hook_secret=secret)
    kept = {url for url, _ in argilla_tool.people.hooks("")}
    assert (theirs in kept, HOOK in kept, ours in kept) == (True, False, True)
    for secret in ("theirs", SECRET):
        argilla_tool.connector.set_up(slug=slug, schema=SCHEMA, hook_url="", hook_secret=secret)
    assert not {theirs, ours} & {url for url, _ in argilla_tool.people.hooks("")}


def test_a_data_set_that_was_never_published_in_argilla_is_made_anew(argilla_tool, slug):
    def ended(*args, **kwargs):
        raise httpx.ReadTimeout("ended")

    connector = argilla_tool.another_connector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("argilla.Dataset._publish", ended)
        patch.setattr("argilla.Dataset._rollback_dataset_creation", lambda self: None)
        with pytest.raises((ToolRefused, ToolUnavailable)):
            set_up(connector, slug)
    project = set_up(argilla_tool.connector, slug).external_id
    assert set(argilla_tool.connector.push(project, TASKS)) == {"k-1", "k-2"}


def test_argilla_takes_no_answer_that_it_did_not_ask_for(argilla_tool, slug):
    project = set_up(argilla_tool.connector, slug).external_id
    task = argilla_tool.connector.push(project, TASKS)["k-1"]
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        argilla_tool.people.send_nonsense(project, task, "ann")


def test_in_argilla_nobody_changes_anothers_answer_or_is_shown_it(argilla_tool, slug):
    made = set_up(argilla_tool.connector, slug)
    task = argilla_tool.connector.push(made.external_id, TASKS)["k-1"]
    answer = argilla_tool.people.answer(made.external_id, task, "ann", WRONG)
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        argilla_tool.people.edit(made.external_id, answer, "ben", RIGHT)
    assert argilla_tool.people.shown(made.external_id, task, "ann") == [answer]
    assert argilla_tool.people.shown(made.external_id, task, "ben") == []
    reading = {
        who: argilla_tool.people.read(f"/api/v1/records/{task}", who)["responses"]
        for who in ("ann", "ben", None)
    }
    assert {who: len(found) for who, found in reading.items()} == {"ann": 1, "ben": 0, None: 1}


def test_a_changed_question_asks_anew_and_earlier_answers_are_still_pulled(argilla_tool, slug):
    project = set_up(argilla_tool.connector, slug).external_id
    first = argilla_tool.connector.push(project, TASKS)
    wider = LabelSchema(kind=TaskKind.CLASSIFICATION, labels=(*SCHEMA.labels, "Dental"))
    set_up(argilla_tool.connector, slug, schema=wider)
    again = argilla_tool.connector.push(project, [*TASKS, NewTask(key="k-3", prompt="?", response="Dental")])
    argilla_tool.people.answer(project, again["k-1"], "ann", WRONG)
    argilla_tool.people.answer(project, again["k-3"], "ann", replace(WRONG, label="Dental"))
    assert {key: again[key] for key in first} == first
    assert answered(argilla_tool, project) == {"k-1", "k-3"}


@pytest.mark.parametrize(("engine", "read"), [("dated_by_answers", 1), ("elasticsearch", 4)])
def test_argilla_reads_the_answer_that_changed_where_its_search_can_tell(
    argilla_tool, slug, monkeypatch, engine, read
):
    monkeypatch.setattr("annotation.argilla.MARGIN", timedelta(microseconds=-1))
    monkeypatch.setattr("annotation.argilla.DATED_BY_ANSWERS", engine)
    tool, project = argilla_tool, set_up(argilla_tool.connector, slug).external_id
    ids = tool.connector.push(
        project, [NewTask(key=f"k-{n}", prompt="?", response="Billing") for n in range(5)]
    )
    given = [tool.people.answer(project, task, "ann", WRONG) for task in list(ids.values())[:4]]
    newest = max(held.changed_at for held in tool.connector.pull(project, None) if held.changed_at)
    tool.people.edit(project, given[1], "ann", RIGHT)
    held = list(tool.connector.pull(project, newest))
    assert len(held) == read
    assert RIGHT in [one.answer for task in held for one in task.annotations]


def test_argilla_pulls_more_than_a_page(argilla_tool, slug, monkeypatch):
    monkeypatch.setattr("annotation.argilla.PAGE", 2)
    project = set_up(argilla_tool.connector, slug).external_id
    ids = argilla_tool.connector.push(
        project, [NewTask(key=f"k-{n}", prompt="?", response="Billing") for n in range(5)]
    )
    for task in ids.values():
        argilla_tool.people.answer(project, task, "ann", RIGHT)
    assert answered(argilla_tool, project) == set(ids)


def test_what_postgresql_does_not_keep_is_left_out_of_answers():
    result = [*to_result(WRONG), *to_result(RIGHT)]
    result[-1]["from_name"] = "verdict\0"
    sent = {"id": 1, "completed_by": 7, "updated_at": AT, "result": result}
    assert label_studio._pulled("k-1", sent, {7: ANN}).problem == "verdict was answered twice"
    values = to_values(replace(WRONG, label="Bil\0ling"))
    sent = {"id": "r", "user_id": "7", "updated_at": AT, "status": "submitted", "values": values}
    assert argilla_connector._pulled("k-1", sent, {"7": "ann"}, {}).answer.label == "Billing"


AT = "2026-01-02T03:04:05.678901"


@pytest.mark.parametrize(
    ("read", "given", "known"),
    [
        (
            label_studio._pulled,
            {"id": 1, "completed_by": 7, "updated_by": 7, "updated_at": AT, "result": to_result(RIGHT)},
            {7: ANN},
        ),
        (
            partial(argilla_connector._pulled, fields={}),
            {"id": "r", "user_id": "7", "updated_at": AT, "status": "submitted", "values": to_values(RIGHT)},
            {"7": "ann"},
        ),
    ],
)
def test_an_answer_of_an_account_that_is_gone_is_kept_and_is_none(read, given, known):
    ours, nobodys = read("k-1", given, known), read("k-1", given, {})
    assert (ours.answer, ours.problem, ours.changed_by) == (RIGHT, None, ours.annotator)
    assert (nobodys.annotator, nobodys.answer) == ("user 7", None)
    assert nobodys.problem == "by an account that the tool does not know"


def test_an_answer_that_was_imported_into_label_studio_is_nobodys():
    imported = {"id": 1, "completed_by": 7, "updated_by": None, "updated_at": AT, "result": to_result(RIGHT)}
    pulled = label_studio._pulled("k-1", imported, {7: ANN})
    assert (pulled.annotator, pulled.changed_by) == (ANN, "")
