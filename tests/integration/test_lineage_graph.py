"""From an answer back to the people behind it, from a flag on to what it changed: the same edges both ways."""

import json
from collections import defaultdict
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlmodel import SQLModel, col, select

from retrain.types import Split
from service import forgetting
from service.answers import graph, nodes
from service.cli import lineage
from service.tables import (
    AnnotationTask,
    Feedback,
    Influence,
    ModelVersion,
    Promotion,
    Response,
    Role,
    Settlement,
    TaskFlag,
    TrainingRun,
    TrainingSetExample,
)
from service.web.console.lineage import draw
from tests import builders
from tests.console import person
from tests.history import MARKER, History, Told, open_told


@pytest.fixture
def history(runtime):
    with runtime.db.transaction() as session:
        yield History(session)


def ids(found: graph.Graph, kind: str = "") -> set[UUID]:
    return {node.id for node in found.nodes if kind in ("", node.kind)}


def kinds(found: graph.Graph) -> set[str]:
    return {node.kind for node in found.nodes}


class TestWhy:
    def test_an_answer_goes_back_to_the_people_behind_it(self, history):
        settlement = history.settle(flags=2)
        model = history.train([settlement])
        found = graph.why(history.session, history.answer("who bills me now?", model))
        assert found.nodes[0].kind == "response"
        assert ids(found, "model_version") == {model.id}
        assert ids(found, "training_run") == {model.training_run_id}
        assert ids(found, "settlement") == {settlement.id}
        assert ids(found, "annotator") == {one.id for one in history.experts}
        assert ids(found, "feedback") == {flag.id for flag in history.flags_of(settlement)}
        assert len(ids(found, "response")) == 2

    def test_the_most_related_examples_come_first_and_the_rest_is_counted(self, history, monkeypatch):
        monkeypatch.setattr(graph, "EXAMPLES", 2)
        far, near, exact = map(history.settle, ("opening hours", "who pays my bill", "who sends my bill"))
        model = history.train([near, far, exact])
        found = graph.why(history.session, history.answer("who sends my bill", model))
        told = [node for node in found.nodes if node.kind == "training_set_example"]
        asked = nodes.words_of(history.session, told)
        assert [asked[node.id] for node in told] == ["who sends my bill", "who pays my bill"]
        assert told[0].similarity == 1 > told[1].similarity > 0
        assert found.more == {"training_set_example": 1}
        assert far.id not in ids(found)

    def test_what_judged_comes_after_what_taught(self, history):
        judged, taught = history.settle("who sends my bill"), history.settle("opening hours")
        model = history.train([taught])
        set_id = history.session.get_one(TrainingRun, model.training_run_id).training_set_id
        history.session.add(history.example(set_id, judged, Split.TEST))
        found = graph.why(history.session, history.answer("who sends my bill", model))
        told = [node.title for node in found.nodes if node.kind == "training_set_example"]
        assert told == ["train part", "test part"]

    def test_what_mattered_most_to_the_version_comes_before_what_is_alike_where_that_was_estimated(
        self, history
    ):
        first, second, third = map(history.settle, ("who sends my bill", "opening hours", "parking"))
        model = history.train([first, second, third])
        answer = history.answer("who sends my bill", model)
        assert graph.why(history.session, answer).ranked_by == "similarity"
        rows = {str(first.id): 0.1, str(second.id): -0.5}
        history.session.add(Influence(model_version_id=model.id, rows=rows))
        found = graph.why(history.session, answer)
        told = [node.influence for node in found.nodes if node.kind == "training_set_example"]
        assert (told, found.to_json()["ranked_by"]) == ([-0.5, 0.1, 0.0], "influence")

    def test_a_version_that_went_on_from_another_goes_back_to_what_that_learned(self, history):
        settlement = history.settle()
        second = history.train([history.settle("x")], parent=history.train([settlement]))
        found = graph.why(history.session, history.answer("who bills me?", second))
        assert settlement.id in ids(found)

    def test_what_no_version_gave_goes_back_to_nothing(self, history):
        response = builders.add_response(history.session, history.project)
        found = graph.why(history.session, response)
        assert (len(found.nodes), found.links) == (1, [])

    def test_a_walk_stops_at_what_was_flagged(self, history):
        earlier = history.train([history.settle("one")])
        model = history.train([history.settle("two", by=earlier)])
        assert earlier.id not in ids(graph.why(history.session, history.answer("three", model)))


class TestWhere:
    def test_a_flag_leads_to_all_that_it_changed(self, history):
        settlement = history.settle()
        first = history.train([settlement])
        second = history.train([history.settle("x")], parent=first)
        history.promote(first)
        found = graph.where(history.session, history.flags_of(settlement)[0])
        assert ids(found, "model_version") == {first.id, second.id}
        assert {
            "annotation_task",
            "settlement",
            "training_set",
            "evaluation",
            "approval",
            "promotion",
        } <= kinds(found)
        assert "response" not in kinds(found)

    def test_a_flag_that_waits_has_led_to_nothing(self, history):
        response = builders.add_response(history.session, history.project)
        found = graph.where(history.session, builders.add_flag(history.session, history.project, response))
        assert kinds(found) == {"feedback"}

    def test_a_task_that_asks_again_is_of_the_same_flag(self, history):
        settlement = history.settle()
        first = history.session.get_one(AnnotationTask, settlement.task_id)
        response = history.session.get_one(Response, first.response_id)
        again = builders.add_task(history.session, history.project, response, rechecks_id=first.id)
        third = builders.add_task(history.session, history.project, response, rechecks_id=again.id)
        found = graph.where(history.session, history.flags_of(settlement)[0])
        assert {first.id, again.id, third.id} == ids(found, "annotation_task")

    def test_what_a_bound_leaves_out_is_counted(self, history, monkeypatch):
        monkeypatch.setattr(graph, "MOST", 3)
        settlement = history.settle()
        models = [history.train([settlement]) for _ in range(5)]
        found = graph.where(history.session, history.flags_of(settlement)[0])
        assert ids(found, "model_version") == {model.id for model in models[-3:]}
        assert found.more == {"training_set_example": 2}


FLAGS, LEARNED_BY = st.integers(0, 2), st.sets(st.integers(0, 2))
SHAPES = st.lists(st.tuples(FLAGS, LEARNED_BY, st.sampled_from(Split)), max_size=3)


def drawn(session, shapes, parents, *, promoted) -> History:
    """A small history: settlements by shape, and three versions, each from the base or one before."""
    history = History(session)
    learned = defaultdict(list)
    for flags, versions, split in shapes:
        settlement = history.settle(str(uuid4()), flags=flags)
        for version in versions:
            learned[version].append((settlement, split))
    for version, parent in enumerate(parents):
        model = history.train([], parent=history.models[parent] if parent is not None else None)
        set_id = session.get_one(TrainingRun, model.training_run_id).training_set_id
        session.add_all(history.example(set_id, one, split) for one, split in learned[version])
        if version in promoted:
            history.promote(model)
    session.flush()
    return history


PARENTS = st.tuples(st.none(), st.sampled_from([None, 0]), st.sampled_from([None, 0, 1]))
QUICK = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


def causes_of(session, kind: str, row_id: UUID) -> graph.Graph:
    """All that led to a row, by the steps that `graph.why` takes from an answer."""
    walk = graph.Walk({kind: {row_id: None}})
    for step in graph.TO_CAUSES:
        graph._take(session, walk, step)
    return walk.graph(session)


def walks(session, history) -> dict[UUID, tuple[graph.Graph, graph.Graph]]:
    """What led to each row of the project, and what followed from it, for rows at the ends and in the middle."""
    rows = [
        (table.__tablename__, row_id)
        for table in (Feedback, Settlement, ModelVersion, Promotion)
        for row_id in session.exec(select(table.id).where(table.project_id == history.project.id))
    ]
    return {row: (causes_of(session, kind, row), graph.effects_of(session, kind, row)) for kind, row in rows}


def disagreements(walked) -> set[tuple[UUID, UUID]]:
    """Pairs of which one direction says that the first led to the second, and the other does not."""
    back = {(cause, row) for row, (causes, _) in walked.items() for cause in ids(causes) & walked.keys()}
    ahead = {(row, effect) for row, (_, effects) in walked.items() for effect in ids(effects) & walked.keys()}
    return ahead ^ back


class TestBothDirections:
    @QUICK
    @given(shapes=SHAPES, parents=PARENTS, promoted=st.sets(st.integers(0, 2)))
    def test_they_agree_and_no_edge_is_an_orphan(self, runtime, shapes, parents, promoted):
        with runtime.db.transaction() as session:
            history = drawn(session, shapes, parents, promoted=promoted)
            walked = walks(session, history)
            assert disagreements(walked) == set()
            for both in walked.values():
                for found in both:
                    self.check_whole(found)
            session.rollback()

    def check_whole(self, found: graph.Graph) -> None:
        """Every edge joins two nodes, and every node but the first hangs on an edge."""
        ends = {end for link in found.links for end in (link.cause, link.effect)}
        assert ends <= ids(found)
        assert ids(found) - ends <= {found.nodes[0].id}

    @QUICK
    @given(shapes=SHAPES, parents=PARENTS)
    def test_a_flag_leads_to_the_versions_whose_answers_go_back_to_it(self, runtime, shapes, parents):
        with runtime.db.transaction() as session:
            history = drawn(session, shapes, parents, promoted=())
            flags = [flag for one in history.settled for flag in history.flags_of(one)]
            for model in history.models:
                back = ids(graph.why(session, history.answer("x", model)), "feedback")
                assert back == {f.id for f in flags if model.id in ids(graph.where(session, f))}
                assert back == self.by_hand(session, history, model)
            session.rollback()

    def by_hand(self, session, history, model: ModelVersion) -> set[UUID]:
        """The flags behind a version, joined by hand."""
        versions = [model]
        while versions[-1].parent_id:
            versions.append(session.get_one(ModelVersion, versions[-1].parent_id))
        flags = (
            select(TaskFlag.feedback_id)
            .join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
            .join(TrainingSetExample, col(TrainingSetExample.settlement_id) == Settlement.id)
            .join(TrainingRun, col(TrainingRun.training_set_id) == TrainingSetExample.training_set_id)
            .where(col(TrainingRun.id).in_([one.training_run_id for one in versions]))
        )
        return set(session.exec(flags))

    def test_an_edge_that_only_one_direction_knows_is_found_out(self, history, monkeypatch):
        model = history.train([history.settle()])
        assert disagreements(walks(history.session, history)) == set()
        known = [step for step in graph.TO_CAUSES if step.edge.kind != "became"]
        monkeypatch.setattr(graph, "TO_CAUSES", known)
        [flag] = history.flags_of(history.settled[0])
        assert (flag.id, model.id) in disagreements(walks(history.session, history))

    def test_every_key_between_told_rows_is_an_edge_or_left_out_for_a_reason(self):
        left_out = {
            "annotation_task.flag_id": "the first of the flags that TaskFlag names",
            "annotation_task.gold_of_id": "a gold answer checks annotators and teaches nothing",
            "annotation_task.evaluation_id": "people's ratings judge a version",
            "annotation_task.rival_id": "the other answer that people compared",
            "approval.model_version_id": "by way of its evaluation",
            "evaluation.champion_id": "what was compared with",
            "evaluation.training_set_id": "by way of the version",
            "response.copy_of_id": "the copy judges versions and teaches nothing",
            "response.model_version_id": "closes the loop",
            "settlement.withdrawn_by_id": "what ended it did not lead to it",
            "training_set.parent_id": "what a set is compared with; its own rows are all named",
        }  # fmt: skip
        known = {
            str(column.property.columns[0]) for edge in graph.EDGES for column in (edge.cause, edge.effect)
        }
        tables = [SQLModel.metadata.tables[name] for name in nodes.KINDS]
        keys = {
            str(key.parent) for table in tables for key in table.foreign_keys if key.column.table in tables
        }
        assert keys - known == left_out.keys()


class TestBounds:
    @pytest.mark.parametrize("ask", ["why", "where"])
    def test_eight_times_the_flags_cost_no_more_statements(self, runtime, history, ask):
        said = []
        event.listen(runtime.db.engine, "before_cursor_execute", lambda *_: said.append(1))
        few, many = (self.counted(history, said, count, ask) for count in (2, 16))
        assert few == many <= 40

    def counted(self, history: History, said: list[int], count: int, ask: str) -> int:
        """How many statements it takes after so many more settlements have been learned from."""
        for number in range(count):
            history.settle(f"who bills me, and why {number} times?", flags=2)
        model = history.train(history.settled)
        history.promote(model)
        answered = history.answer("who bills me?", model)
        [flag, _] = history.flags_of(history.settled[-1])
        before = len(said)
        if ask == "why":
            graph.why(history.session, answered)
        else:
            graph.where(history.session, flag)
        return len(said) - before


@pytest.fixture
def told(runtime) -> Told:
    return open_told(runtime)


@pytest.fixture
def printed(runtime, monkeypatch, capsys):
    """Ask at the command line; returns what it prints."""
    monkeypatch.setattr(lineage, "connect", lambda: runtime)

    def ask(question: str, row_id: UUID, *, as_json: bool = False) -> str:
        getattr(lineage, question)(row_id, as_json=as_json)
        return capsys.readouterr().out

    return ask


class TestFaces:
    @pytest.mark.parametrize("question", ["why", "where"])
    def test_the_api_and_the_command_line_say_the_same_without_users_words(
        self, client, told, question, printed
    ):
        row = told.answer if question == "why" else told.flag
        headers = {"Authorization": f"Bearer {told.key}"}
        answer = client.get(f"/v1/lineage/{question}/{row.id}", headers=headers)
        assert answer.status_code == 200
        assert MARKER not in answer.text
        assert {edge.keys() == {"from", "to", "kind"} for edge in answer.json["edges"]} == {True}
        assert answer.json["nodes"][0]["id"] == str(row.id)
        document = json.loads(printed(question, row.id, as_json=True))
        assert document["edges"] == answer.json["edges"]
        assert [node["id"] for node in document["nodes"]] == [node["id"] for node in answer.json["nodes"]]

    def test_a_tree_shows_each_row_once_below_what_it_led_to(self, told, printed):
        lines = printed("why", told.answer.id).splitlines()
        at = [
            next(line.index("─ ") for line in lines if str(row_id) in line)
            for row_id in (told.model.id, told.model.training_run_id, told.flag.id)
        ]
        assert at[0] < at[1] < at[2]
        assert sum(str(told.model.id) in line for line in lines) == 1

    def test_what_a_terminal_would_obey_is_shown_as_a_sign(self, runtime, told, printed):
        with runtime.db.transaction() as session:
            asked = [{"role": "user", "content": "a\x1b[2Jb\u202e"}]
            session.get_one(Response, told.answer.id).messages = asked
        assert "a\ufffd[2Jb\ufffd" in printed("why", told.answer.id)

    @pytest.mark.parametrize("path", ["lineage/why", "lineage/where", "models/{}/evidence"])
    def test_another_project_s_key_finds_nothing_and_an_annotator_may_not_look(
        self, runtime, client, told, path
    ):
        path = path if "{}" in path else f"{path}/{{}}"
        row = {"lineage/why/{}": told.answer, "lineage/where/{}": told.flag}.get(path, told.model)
        with runtime.db.transaction() as session:
            key = builders.add_key(session, builders.add_project(session, "other"))
            _, token = builders.add_person(session, Role.ANNOTATOR)
        for secret, status in ((key, 404), (token, 403)):
            answer = client.get(f"/v1/{path.format(row.id)}", headers={"Authorization": f"Bearer {secret}"})
            assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")

    def test_the_page_draws_each_node_as_a_link_and_lists_it_below(self, runtime, told):
        olga = person(runtime, Role.AUDITOR, password="")
        for question, row in (("why", told.answer), ("where", told.flag)):
            page = olga.get(f"/p/{told.slug}/lineage/{question}/{row.id}").text
            picture, table = page.partition("<svg class=")[2].split("</svg>")
            assert picture.count("<a href=") == table.count("<tr><td") > 5
            assert MARKER in table

    def test_a_page_that_leads_there_is_the_flag_s(self, runtime, told):
        olga = person(runtime, Role.AUDITOR, password="")
        story = olga.get(f"/p/{told.slug}/feedback/{told.flag.id}").text
        for path in (f"where/{told.flag.id}", f"why/{told.flagged}"):
            assert f"/p/{told.slug}/lineage/{path}" in story

    def test_causes_stand_left_of_their_effects(self, runtime, told):
        with runtime.db.reading() as session:
            found = graph.why(session, session.get_one(Response, told.answer.id))
        picture = draw(found)
        assert all(picture.places[link.cause] < picture.places[link.effect] for link in found.links)
        assert len(set(picture.places.values())) == len(found.nodes)

    def test_what_was_erased_is_shown_as_erased(self, runtime, told):
        with runtime.db.transaction() as session:
            session.get_one(Response, told.flagged).subject = "pat"
        with runtime.db.transaction() as session:
            forgetting.erase_words(session, builders.add_erasure(session, "pat"))
        with runtime.db.reading() as session:
            found = graph.why(session, session.get_one(Response, told.answer.id))
            words = nodes.words_of(session, found.nodes)
        title = {node.id: node.title for node in found.nodes}
        assert (title[told.flagged], title[told.flag.id]) == ("erased", "erased, withdrawn")
        assert words[told.flagged] == ""
