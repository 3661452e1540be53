"""Training sets: what enters them, what people decide about their audit, and what caused each difference."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, event
from sqlmodel import col, select

from annotation.types import Cause, Verdict
from retrain.audit import Repair, RepairKind, Severity, checks
from retrain.near_duplicates import text_of
from retrain.types import Form, Kind, Message, Split
from service import glossary, people, projects, taking_back
from service.answers import newest_set
from service.answers.audits import blocking
from service.answers.lineage import consents
from service.clock import utcnow
from service.errors import AlreadyDecided, AuditBlocked, Invalid, NotFound, TryAgain, WrongState
from service.runtime import from_environment
from service.stages import intake
from service.tables import (
    Annotation,
    AnnotationTask,
    Annotator,
    AuditFinding,
    ConnectorKind,
    DocumentKind,
    Feedback,
    ModelState,
    Project,
    ProjectKind,
    Response,
    Role,
    Settlement,
    SettlementAnnotation,
    SplitAssignment,
    TaskFlag,
    TaskPurpose,
    TaskState,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)
from service.web.app import create_app
from tests import builders
from tests.console import person
from tests.desk import TOMORROW, Desk

ALL_TRAIN = {"validation_share": 0.0, "test_share": 0.0, "regression_share": 0.0}


def cost_of_comparing(desk: Desk, a: TrainingSet, b: TrainingSet) -> tuple[int, int]:
    """Compare two sets that differ by a row; return how many rows of sets were loaded, by how many statements."""
    loaded: list[object] = []
    statements: list[str] = []

    def note_row(row, *_):
        loaded.append(row)

    def note_statement(connection, cursor, statement, *_):
        statements.append(statement)

    event.listen(TrainingSetExample, "load", note_row)
    event.listen(desk.runtime.db.reader, "before_cursor_execute", note_statement)
    try:
        assert len(desk.compare(a, b)["added"]) == 1
    finally:
        event.remove(TrainingSetExample, "load", note_row)
        event.remove(desk.runtime.db.reader, "before_cursor_execute", note_statement)
    return len(loaded), len(statements)


class TestForms:
    def test_each_settlement_teaches_the_most_it_can(self, any_desk):
        right = any_desk.settle("who?", "Ann")
        better = any_desk.settle("where?", "here", Verdict.INCORRECT, correction="there")
        wrong = any_desk.settle("when?", "now", Verdict.INCORRECT)
        rows = any_desk.examples(any_desk.curate())
        assert {key: row.form for key, row in rows.items()} == {
            right: Form.SFT,
            better: Form.PREFERENCE,
            wrong: Form.SINGLE,
        }
        assert (rows[better].answer, rows[better].rejected) == ("there", "here")
        assert (rows[wrong].answer, rows[wrong].is_wanted) == ("now", False)
        assert [rows[key].was_wrong for key in (right, better, wrong)] == [False, True, True]
        assert rows[wrong].reasons == ("wrong",)

    def test_a_fault_of_the_question_or_the_context_teaches_nothing(self, desk):
        kept = desk.settle("who?", "Ann")
        desk.settle("where?", "here", Verdict.INCORRECT, correction="there", cause=Cause.PROMPT)
        assert set(desk.examples(desk.curate())) == {kept}

    def test_nothing_is_learned_without_consent(self, desk):
        kept = desk.settle("who?", "Ann")
        desk.settle("where?", "here", may_train=False)
        desk.settle("when?", "now", of_flag={"consent": False})
        assert set(desk.examples(desk.curate())) == {kept}

    def test_a_users_own_words_are_learned_with_their_consent_alone(self, any_desk):
        told = [
            {"correction": "over there"},
            {"correction": " there"},
            {"correction": "there", "consent": True},
        ]
        other, own, allowed = (
            any_desk.settle(f"where {n}?", f"here {n}", Verdict.INCORRECT, correction="there", of_flag=each)
            for n, each in enumerate(told)
        )
        assert set(any_desk.examples(any_desk.curate())) == {other, allowed}
        with any_desk.runtime.db.transaction() as session:
            session.get_one(Project, any_desk.project.id).presumes_consent = True
        assert set(any_desk.examples(any_desk.curate())) == {other, own, allowed}

    def test_what_only_flags_led_to_that_were_taken_back_is_left_out_from_then_on(self, any_desk):
        kept, gone, shared = (any_desk.settle(f"{word}?", word) for word in ("who", "when", "where"))
        before = any_desk.curate()
        with any_desk.runtime.db.transaction() as session:
            for key in (gone, shared):
                task = session.get_one(AnnotationTask, session.get_one(Settlement, UUID(key)).task_id)
                flag = session.get_one(Feedback, task.flag_id)
                taking_back.withdraw(session, flag)
                if key == shared:
                    response = session.get_one(Response, task.response_id)
                    other = builders.add_flag(session, any_desk.project, response, "wrong")
                    session.add(TaskFlag(task_id=task.id, feedback_id=other.id))
                else:
                    cause = {"kind": "flag", "id": str(flag.id)}
        after = any_desk.curate()
        assert set(any_desk.examples(after)) == {kept, shared}
        [removed] = any_desk.compare(before, after)["removed"]
        assert (removed["row"]["key"], removed["cause"]) == (gone, cause)
        assert set(any_desk.examples(before)) == {kept, gone, shared}

    @pytest.mark.parametrize("way", ["schema", "repair"])
    def test_a_flag_counts_for_each_task_about_its_response(self, any_desk, way):
        kept = any_desk.settle("who?", "Ann")
        before = any_desk.curate()
        first = any_desk.settle("where?", "here", Verdict.INCORRECT, correction="there")
        again = any_desk.settle_again(first, way, "over there")
        after = any_desk.curate()
        assert any_desk.examples(after)[again].reasons == ("wrong",)
        [added] = any_desk.compare(before, after)["added"]
        with any_desk.runtime.db.transaction() as session:
            flag = session.exec(select(Feedback).order_by(col(Feedback.id).desc())).first()
            told = consents(session, [UUID(again)])[UUID(again)]
            flag.consent = False
        assert added["cause"] == {"kind": "flag", "id": str(flag.id)}
        assert told["flags"] == {str(flag.id): None}
        assert set(any_desk.examples(any_desk.curate())) == {kept}

    def test_extraction_is_a_kind_too(self, runtime):
        desk = Desk(runtime, ProjectKind.EXTRACTION)
        key = desk.settle(
            "Ann met Bob", '[{"text": "Bob", "kind":"person"},  {"kind": "person","text":"Ann"}]'
        )
        desk.settle("Ann met nobody", "Ann")
        [row] = desk.examples(desk.curate()).values()
        assert (row.key, row.kind) == (key, Kind.EXTRACTION)
        assert row.answer == '[{"kind":"person","text":"Ann"},{"kind":"person","text":"Bob"}]'


class TestWaivers:
    @pytest.fixture
    def blocked(self, any_desk) -> TrainingSet:
        any_desk.finds(any_desk.settle("who?", "Ann"))
        return any_desk.curate()

    def test_what_the_audit_blocks_is_not_trained_on(self, any_desk, blocked):
        assert blocked.is_blocked
        with pytest.raises(AuditBlocked, match="rows say nothing"):
            any_desk.train(blocked)

    def test_a_waiver_lets_it_through_and_is_on_record(self, any_desk, blocked):
        any_desk.waive(any_desk.finding(blocked))
        any_desk.train(blocked)
        assert "finding_waived" in any_desk.actions()

    def test_a_waiver_ends_with_its_day(self, any_desk, blocked):
        any_desk.waive(any_desk.finding(blocked))
        with any_desk.runtime.db.reading() as session:
            assert not blocking(session, blocked, utcnow().date() + TOMORROW)
            assert blocking(session, blocked, utcnow().date() + 2 * TOMORROW)

    def test_a_waiver_holds_for_a_later_set_with_the_same_rows(self, any_desk, blocked):
        any_desk.waive(any_desk.finding(blocked))
        any_desk.settle("where?", "there")
        later = any_desk.curate()
        assert later.version == 2 and later.is_blocked
        any_desk.train(later)

    def test_a_waiver_is_for_its_rows_alone(self, any_desk, blocked):
        any_desk.waive(any_desk.finding(blocked))
        any_desk.finds(any_desk.settle("where?", "there"))
        with pytest.raises(AuditBlocked):
            any_desk.train(any_desk.curate())

    def test_only_what_blocks_is_waived_for_a_year_at_most(self, desk):
        desk.finds(desk.settle("who?", "Ann"), severity=Severity.WARN)
        warned = desk.finding(desk.curate())
        with pytest.raises(WrongState, match="blocks nothing"):
            desk.waive(warned)
        desk.finds(desk.settle("where?", "there"))
        finding = desk.finding(desk.curate())
        for days in (-1, 400):
            with pytest.raises(Invalid, match="until"):
                desk.waive(finding, utcnow().date() + timedelta(days=days))


class TestRepairs:
    @pytest.fixture
    def rows(self, any_desk) -> dict[str, str]:
        rows = {
            name: any_desk.settle(f"{name}?", f"{name} says hello, regards")
            for name in ("north", "east", "south", "west")
        }
        any_desk.finds(
            *rows.values(),
            severity=Severity.WARN,
            proposals=[
                Repair(RepairKind.REPLACE, (rows["north"], rows["east"]), find=", Regards", put="."),
                Repair(RepairKind.DROP, (rows["south"],)),
                Repair(RepairKind.WEIGHT, (rows["west"],), factor=2.0),
            ],
        )
        return rows

    def test_an_accepted_repair_changes_the_next_set_and_the_original_stays(self, any_desk, rows):
        first = any_desk.curate()
        accepted = [any_desk.accept(any_desk.finding(first), place) for place in range(3)]
        second = any_desk.curate()
        after = any_desk.examples(second)
        assert after[rows["north"]].answer == "north says hello."
        assert rows["south"] not in after and after[rows["west"]].weight == 2.0
        assert any_desk.examples(first)[rows["north"]].answer == "north says hello, regards"
        with any_desk.runtime.db.reading() as session:
            touched = select(TrainingSetExample).where(
                TrainingSetExample.training_set_id == second.id,
                TrainingSetExample.settlement_id == UUID(rows["north"]),
            )
            assert session.exec(touched).one().repairs == [str(accepted[0].id)]
            assert session.get_one(Response, self.response_of(session, rows["north"])).text.endswith(
                "regards"
            )

    def response_of(self, session, key: str) -> UUID:
        flag = (
            select(Feedback)
            .join(TaskFlag, col(TaskFlag.feedback_id) == Feedback.id)
            .join(Settlement, col(Settlement.task_id) == TaskFlag.task_id)
            .where(Settlement.id == UUID(key))
        )
        return session.exec(flag).one().response_id

    def test_a_repaired_set_is_rebuilt_to_the_byte_even_after_the_repair_was_taken_back(self, any_desk, rows):
        accepted = [any_desk.accept(any_desk.finding(any_desk.curate()), place) for place in range(3)]
        repaired = any_desk.curate()
        for each in accepted:
            any_desk.undo(each)
        assert any_desk.rebuild(repaired)["equal"]

    def test_a_row_with_swapped_words_stays_in_its_split_and_names_its_repair(self, any_desk):
        key = any_desk.settle("may my wife pay by card", "Your wife may.")
        swap = Repair(RepairKind.SWAP, (key,), find="wife", put="husband")
        any_desk.finds(key, severity=Severity.WARN, proposals=[swap])
        first = any_desk.curate(test_share=0.99, validation_share=0.0, regression_share=0.0)
        accepted = any_desk.accept(any_desk.finding(first))
        second = any_desk.curate()
        before, after = any_desk.examples(first)[key], any_desk.examples(second)[key]
        assert (after.prompt, after.answer) == ("may my husband pay by card", "Your husband may.")
        assert after.split is before.split
        [changed] = any_desk.compare(first, second)["changed"]
        assert changed["cause"] == {"kind": "repair", "id": str(accepted.id)}
        assert changed["asked"] == "may my wife pay by card"
        assert any_desk.rebuild(second)["equal"]

    def test_a_restored_copy_gives_the_same_bytes_in_another_process(self, desk, tmp_path):
        keys = [desk.settle(f"who answers question {number}?", f"Ann {number}") for number in range(4)]
        replaced = Repair(RepairKind.REPLACE, (keys[0],), find="Ann", put="Ben")
        desk.finds(keys[0], proposals=[replaced])
        desk.accept(desk.finding(desk.curate()))
        repaired, kept, copy = desk.curate(), desk.runtime.settings.data_dir, tmp_path / "restored"
        shutil.copytree(kept, copy, ignore=shutil.ignore_patterns("errata.db*"))
        pair = sqlite3.connect(kept / "errata.db"), sqlite3.connect(copy / "errata.db")
        with closing(pair[0]) as source, closing(pair[1]) as target:
            source.backup(target)
        environment = os.environ | {
            "ERRATA_DATA_DIR": str(copy),
            "ERRATA_REDIS_URL": desk.runtime.settings.redis_url,
            "PYTHONHASHSEED": "7",
        }
        command = ["-m", "service.cli", "rebuild", "--verify", f"clinic/v{repaired.version}", "--json"]
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True)
        answer = json.loads(done.stdout)
        assert (answer["equal"], answer["fingerprint"], answer["artifact"]) == (
            True,
            repaired.fingerprint,
            repaired.artifact,
        )

    def test_a_repair_taken_back_gives_the_first_set_again(self, any_desk, rows):
        first = any_desk.curate()
        any_desk.undo(any_desk.accept(any_desk.finding(first), 1))
        assert any_desk.curate().id == first.id

    def test_a_proposal_is_accepted_once(self, any_desk, rows):
        finding = any_desk.finding(any_desk.curate())
        any_desk.accept(finding)
        with pytest.raises(AlreadyDecided, match="olga accepted"):
            any_desk.accept(finding)
        with pytest.raises(NotFound, match="no proposal 3"):
            any_desk.accept(finding, 3)

    def test_repairs_that_leave_nothing_are_refused_and_no_set_is_made(self, any_desk):
        key = any_desk.settle("who?", "Ann")
        any_desk.finds(key, proposals=[Repair(RepairKind.DROP, (key,))])
        any_desk.accept(any_desk.finding(any_desk.curate()))
        with pytest.raises(Invalid, match="leave none of 1"):
            any_desk.curate()
        with any_desk.runtime.db.reading() as session:
            assert len(session.exec(select(TrainingSet)).all()) == 1


class TestCauses:
    def test_a_new_row_is_caused_by_its_flag(self, any_desk):
        any_desk.settle("who?", "Ann")
        first = any_desk.curate()
        key = any_desk.settle("where?", "here", Verdict.INCORRECT, correction="there")
        [added] = any_desk.compare(first, any_desk.curate())["added"]
        with any_desk.runtime.db.reading() as session:
            flag = session.exec(select(Feedback).order_by(col(Feedback.id).desc())).first()
        assert added["row"]["key"] == key
        assert added["cause"] == {"kind": "flag", "id": str(flag.id)}

    def test_repairs_cause_what_they_change_and_remove(self, any_desk):
        kept, gone = any_desk.settle("who?", "Ann, regards"), any_desk.settle("where?", "there")
        any_desk.finds(
            kept,
            gone,
            proposals=[
                Repair(RepairKind.REPLACE, (kept,), find=", regards"),
                Repair(RepairKind.DROP, (gone,)),
            ],
        )
        first = any_desk.curate()
        replaced, dropped = (any_desk.accept(any_desk.finding(first), place) for place in range(2))
        second = any_desk.curate()
        changes = any_desk.compare(first, second)
        assert [row["cause"] for row in changes["changed"]] == [{"kind": "repair", "id": str(replaced.id)}]
        assert [row["cause"] for row in changes["removed"]] == [{"kind": "repair", "id": str(dropped.id)}]
        assert not changes["added"] and not changes["moved"]
        back = any_desk.compare(second, first)
        assert [row["cause"] for row in back["added"]] == [{"kind": "repair", "id": str(dropped.id)}]

    def test_the_recipe_causes_what_it_leaves_out(self, any_desk):
        for number, asked in enumerate(("who is it?", "where do they live?", "when may I come by?")):
            any_desk.settle(asked, f"answer {number}", subject="Ann")
            any_desk.settle(
                f"{number} is what sum of two primes?", f"{number} of mine", subject=f"Ben {number}"
            )
        first = any_desk.curate(**ALL_TRAIN)
        second = any_desk.curate(**ALL_TRAIN, subject_cap=0.3)
        changes = any_desk.compare(first, second)
        assert changes["removed"] and not changes["moved"] and not changes["added"]
        assert {json.dumps(row["cause"]) for row in changes["removed"]} == {
            json.dumps({"kind": "recipe", "id": second.fingerprint})
        }

    def test_a_move_is_caused_by_a_merge_only_where_groups_met(self, any_desk):
        for number in range(6):
            any_desk.settle(f"question {number} about it", f"answer {number}")
        first = any_desk.curate(validation_share=0.5, regression_share=0.0)
        second = any_desk.curate(validation_share=0.5, regression_share=0.0, near_threshold=0.1)
        moved = any_desk.compare(first, second)["moved"]
        assert moved and {row["cause"]["kind"] for row in moved} == {"merge"}
        with any_desk.runtime.db.transaction() as session:
            session.exec(delete(SplitAssignment).where(col(SplitAssignment.training_set_id) == second.id))
        moved = any_desk.compare(first, second)["moved"]
        assert {row["cause"]["kind"] for row in moved} == {"recipe"}

    def test_a_changed_weight_and_a_changed_rejected_answer_are_told(self, any_desk):
        heavy = any_desk.settle("who?", "Ann")
        worse = any_desk.settle("where?", "here, wife", Verdict.INCORRECT, correction="there")
        any_desk.finds(
            *(heavy, worse),
            severity=Severity.WARN,
            proposals=[
                Repair(RepairKind.WEIGHT, (heavy,), factor=2.0),
                Repair(RepairKind.SWAP, (worse,), find="wife", put="husband"),
            ],
        )
        first = any_desk.curate(**ALL_TRAIN)
        accepted = [any_desk.accept(any_desk.finding(first), place) for place in range(2)]
        second = any_desk.curate(**ALL_TRAIN)
        weighed, swapped = sorted(
            any_desk.compare(first, second)["changed"], key=lambda row: row["row"]["weight"]
        )[::-1]
        assert (weighed["was_weight"], weighed["row"]["weight"]) == (1.0, 2.0)
        assert (swapped["was_rejected"], swapped["row"]["rejected"]) == ("here, wife", "here, husband")
        causes = [{"kind": "repair", "id": str(each.id)} for each in accepted]
        assert [weighed["cause"], swapped["cause"]] == causes
        page = (
            person(any_desk.runtime, Role.AUDITOR, password="").get(f"/p/clinic/sets/{second.id}/diff").text
        )
        assert "Weight 1 → 2" in page and "Instead of:" in page

    def test_a_comparison_costs_what_differs_and_not_what_is_equal(self, any_desk):
        def cost(name: str, rows: int) -> tuple[int, int]:
            for number in range(rows):
                any_desk.settle(f"{name} {number * 7919}?", f"{number}")
            before = any_desk.curate(**ALL_TRAIN)
            any_desk.settle(f"and after {name}?", "soon")
            return cost_of_comparing(any_desk, before, any_desk.curate(**ALL_TRAIN))

        few = cost("few", 2)
        assert cost("many", 30) == few and few[0] == 1

    def test_a_withdrawn_consent_causes_a_removal_without_its_words(self, any_desk):
        any_desk.settle("who?", "Ann")
        key = any_desk.settle("where?", "MARKER")
        first = any_desk.curate()
        with any_desk.runtime.db.transaction() as session:
            response = session.exec(select(Response).where(Response.text == "MARKER")).one()
            response.may_train = False
        gone = any_desk.compare(first, any_desk.curate())["removed"]
        assert gone == [
            {
                "row": {
                    "key": key,
                    "prompt": "",
                    "answer": "",
                    "split": gone[0]["row"]["split"],
                },
                "cause": {"kind": "consent", "id": key},
            }
        ]
        with any_desk.runtime.db.reading() as session:
            assert any_desk.compare(newest_set(session, any_desk.project.id), first)["added"] == gone
        rebuilt = any_desk.rebuild(first)
        assert (rebuilt["withheld"], rebuilt["erased"], rebuilt["equal"]) == (1, 0, True)

    def test_a_row_that_nobody_took_back_and_that_is_gone_makes_a_set_unequal(self, any_desk):
        any_desk.settle("who?", "Ann")
        any_desk.settle("where?", "there")
        made = any_desk.curate()
        with any_desk.runtime.db.transaction() as session:
            session.exec(select(Settlement)).first().verdict = Verdict.UNSURE
        rebuilt = any_desk.rebuild(made)
        assert (rebuilt["missing"], rebuilt["erased"], rebuilt["equal"]) == (1, 0, False)

    def test_a_row_that_experts_added_by_themselves_is_caused_by_an_annotation(self, desk):
        desk.settle("who?", "Ann")
        first = desk.curate()
        key = desk.settle("where?", "there")
        with desk.runtime.db.transaction() as session:
            ada = Annotator(connector=ConnectorKind.NONE, account="ada")
            session.add(ada)
            session.flush()
            annotation = Annotation(
                task_id=session.get_one(Settlement, UUID(key)).task_id,
                annotator_id=ada.id,
                external_id="1",
                revised_at=utcnow(),
            )
            session.add(annotation)
            session.flush()
            session.add(SettlementAnnotation(settlement_id=UUID(key), annotation_id=annotation.id))
            session.delete(session.exec(select(TaskFlag).order_by(col(TaskFlag.id).desc())).first())
        [added] = desk.compare(first, desk.curate())["added"]
        assert added["cause"] == {"kind": "annotation", "id": str(annotation.id)}


class TestAsking:
    """A repair that asks experts about responses like those that training lacks."""

    @pytest.fixture
    def responses(self, any_desk) -> list[UUID]:
        with any_desk.runtime.db.transaction() as session:
            return [
                builders.add_response(session, any_desk.project, asked=f"fines {n}", may_train=n != 2).id
                for n in range(3)
            ]

    def finding(self, desk, responses) -> AuditFinding:
        slices = [Repair(RepairKind.ASK, tuple(map(str, part))) for part in (responses, responses[:1])]
        desk.finds(desk.settle("who?", "Ann"), severity=Severity.WARN, proposals=slices)
        return desk.finding(desk.curate())

    def tasks(self, desk) -> dict[UUID, TaskState]:
        of_repairs = select(AnnotationTask).where(col(AnnotationTask.repair_id).is_not(None))
        with desk.runtime.db.reading() as session:
            tasks = session.exec(of_repairs.order_by(col(AnnotationTask.id))).all()
        assert {task.purpose for task in tasks} <= {TaskPurpose.COVERAGE}
        return {task.response_id: task.state for task in tasks}

    def test_experts_are_asked_once_about_each_response_that_may_be_learned_from(self, any_desk, responses):
        finding = self.finding(any_desk, responses)
        accepted = any_desk.accept(finding)
        assert self.tasks(any_desk) == dict.fromkeys(responses[:2], TaskState.SELECTED)
        any_desk.accept(finding, 1)
        with any_desk.runtime.db.reading() as session:
            assert {task.repair_id for task in session.exec(select(AnnotationTask))} == {None, accepted.id}

    def test_what_is_taken_back_before_it_was_sent_is_asked_no_more(self, any_desk, responses):
        finding = self.finding(any_desk, responses)
        accepted = any_desk.accept(finding)
        with any_desk.runtime.db.transaction() as session:
            sent = select(AnnotationTask).where(AnnotationTask.response_id == responses[0])
            session.exec(sent).one().state = TaskState.SENT
        any_desk.undo(accepted)
        states = [TaskState.SENT, TaskState.WITHDRAWN]
        assert self.tasks(any_desk) == dict(zip(responses, states, strict=False))
        any_desk.accept(finding)
        assert self.tasks(any_desk)[responses[1]] is TaskState.SELECTED


class TestContext:
    def test_checks_know_the_glossary_the_task_and_what_users_ask(self, desk):
        content = {
            "description": "a bank's counter",
            "terms": {"account": ["deposit book"]},
            "validity": [{"name": "Plan 7", "valid_to": "2020-12-31"}],
            "groups": ["region"],
        }
        with desk.runtime.db.transaction() as session:
            glossary.set_glossary(session, desk.project, content, actor="olga")
        desk.settle("who?", "Ann")
        desk.curate(near_threshold=0.6)
        seen = desk.reviewer.seen
        assert seen.near_threshold == 0.6
        assert (seen.description, seen.glossary) == ("a bank's counter", {"account": ["deposit book"]})
        assert [str(each.valid_to) for each in seen.validity] == ["2020-12-31"]
        assert list(seen.prompts.values()) == ["who?"] and list(seen.groups) == ["region"]
        assert list(seen.doubts.values()) == [0.25]

    def test_a_logged_conversation_is_compared_as_a_row_of_it_is(self, desk):
        turns = [("system", "be brief"), ("user", "who?"), ("assistant", "Ann"), ("user", "since when?")]
        messages = [{"role": role, "content": content} for role, content in turns]
        with desk.runtime.db.transaction() as session:
            new = intake.NewResponse(messages=messages, response="May")
            intake.log_response(session, desk.project, new, sha256="sha256:0")
        desk.settle("where?", "there")
        desk.curate()
        row = [Message(**message) for message in messages]
        assert text_of(row) in desk.reviewer.seen.prompts.values()

    def test_checks_know_which_rows_the_champion_has_learned(self, desk):
        key = desk.settle("who?", "Ann")
        first = desk.curate()
        assert desk.reviewer.seen.known == set()
        with desk.runtime.db.transaction() as session:
            model = builders.add_challenger(session, desk.project, number=7)
            model.state = ModelState.CHAMPION
            session.get_one(TrainingRun, model.training_run_id).training_set_id = first.id
        desk.settle("where?", "there")
        desk.curate()
        assert desk.reviewer.seen.known == {key}

    def test_an_accepted_term_enters_the_glossary_by_name_and_later_audits_know_it(self, desk):
        def terms() -> tuple[str, int, dict]:
            with desk.runtime.db.reading() as session:
                newest = projects.document(session, desk.project.id, DocumentKind.GLOSSARY)
                return newest.author, newest.version, newest.content["terms"]

        key = desk.settle("who lends?", "The home loan is with Ann.")
        desk.finds(key, proposals=[Repair(RepairKind.TERM, (key,), find="home loan", put="mortgage")])
        first = desk.curate()
        accepted = desk.accept(desk.finding(first))
        assert terms() == ("olga", 1, {"mortgage": ["home loan"]})
        assert desk.examples(desk.curate())[key].answer == "The mortgage is with Ann."
        desk.reviewer.audit = checks.run_all
        later = desk.settle("who lends to me?", "Any home loan is with Bob.")
        found = desk.finding(desk.curate(checks=("terminology",)))
        assert (found.keys, found.severity) == ([later], Severity.WARN)
        desk.undo(accepted)
        assert terms() == ("olga", 2, {})

    def test_a_term_of_another_concept_is_not_accepted(self, desk):
        content = {"terms": {"credit": ["home loan"]}}
        with desk.runtime.db.transaction() as session:
            glossary.set_glossary(session, desk.project, content, actor="olga")
        key = desk.settle("who lends?", "The home loan is with Ann.")
        desk.finds(key, proposals=[Repair(RepairKind.TERM, (key,), find="home loan", put="mortgage")])
        with pytest.raises(Invalid, match="two concepts"):
            desk.accept(desk.finding(desk.curate()))

    @pytest.mark.parametrize(
        ("content", "named"),
        [
            ({"term": {}}, "term"),
            ({"terms": {"a": ["b"], "c": ["B"]}}, "two concepts"),
            ({"validity": [{"name": "x", "valid_to": "soon"}]}, "valid_to"),
            ([], "glossary"),
        ],
    )
    def test_a_glossary_that_cannot_be_read_is_refused(self, desk, content, named):
        with desk.runtime.db.transaction() as session, pytest.raises(Invalid, match=named):
            glossary.set_glossary(session, desk.project, content, actor="olga")


class TestApi:
    @pytest.fixture
    def client(self, desk):
        return create_app(desk.runtime).test_client()

    def token(self, desk, role: Role) -> dict:
        with desk.runtime.db.transaction() as session:
            name = f"somebody-{role}"
            builders.add_person(session, role, name)
            return {"Authorization": f"Bearer {people.add_token(session, name, actor='test')}"}

    def test_a_waiver_and_a_repair_need_a_person_with_the_role(self, desk, client):
        key = desk.settle("who?", "Ann, regards")
        desk.finds(key, proposals=[Repair(RepairKind.REPLACE, (key,), find=", regards")])
        finding = desk.finding(desk.curate())
        waiver = {"reason": "known", "until": (utcnow().date() + TOMORROW).isoformat()}
        operator, approver = (self.token(desk, role) for role in (Role.OPERATOR, Role.APPROVER))
        path = f"/v1/findings/{finding.id}"
        assert client.post(f"{path}/waivers", json=waiver, headers=operator).status_code == 403
        assert client.post(f"{path}/waivers", json=waiver).status_code == 401
        assert client.post(f"{path}/waivers", json=waiver, headers=approver).status_code == 201
        made = client.post(f"{path}/repairs", json={"place": 0}, headers=operator)
        assert made.status_code == 201 and made.json["is_in_force"]
        assert client.post(f"{path}/repairs", json={"place": 0}, headers=operator).status_code == 409
        undone = client.delete(f"/v1/repairs/{made.json['id']}", headers=operator)
        assert undone.status_code == 200 and not undone.json["is_in_force"]
        assert client.post(f"{path}/repairs", json={"place": 7}, headers=operator).status_code == 404


class TestRecipes:
    def test_a_recipe_is_a_file_and_holds_until_another_is_given(self, errata, jobs_here, tmp_path):
        errata("init", "--admin", "olga")
        with from_environment().db.transaction() as session:
            project = builders.add_project(session)
            for number in range(8):
                response = builders.add_response(
                    session, project, builders.LABELS[number % 2], asked=f"word{number} other{number}"
                )
                builders.add_settlement(
                    session,
                    builders.add_task(
                        session, project, response, flag=builders.add_flag(session, project, response)
                    ),
                    verdict=Verdict.CORRECT,
                    label=None,
                )
        recipe = tmp_path / "recipe.json"
        recipe.write_text('{"validation_share": 0.5, "regression_share": 0, "checks": ["leakage"]}')
        status, first = errata("curate", "--project", "clinic", "--recipe", str(recipe))
        assert status == 0 and first["counts"]["validation"] == 4
        assert first["recipe"]["checks"] == ["leakage"]
        assert errata("curate", "--project", "clinic")[1]["fingerprint"] == first["fingerprint"]
        recipe.write_text('{"validation_share": 0.5, "test_share": 0.6}')
        status, problem = errata("curate", "--project", "clinic", "--recipe", str(recipe))
        assert (status, problem["code"]) == (1, "broken_recipe")
        recipe.write_text('{"checks": ["tarot"]}')
        status, problem = errata("curate", "--project", "clinic", "--recipe", str(recipe))
        assert status == 1 and "tarot" in problem["detail"]

    def test_the_api_refuses_a_recipe_that_conflicts(self, desk):
        client = create_app(desk.runtime).test_client()
        with desk.runtime.db.transaction() as session:
            token = people.add_token(session, "olga", actor="test")
        headers = {"Authorization": f"Bearer {token}"}
        body = {"project": "clinic", "recipe": {"source_cap": 0}}
        answer = client.post("/v1/training-sets", json=body, headers=headers)
        assert answer.status_code in (409, 422) and "source_cap" in answer.json["detail"]
        body = {"project": "clinic", "recipe": {"source_cap": 0.5}}
        assert client.post("/v1/training-sets", json=body, headers=headers).status_code == 202


class TestHistory:
    def test_of_two_sets_built_at_once_the_later_one_goes_by_the_splits_of_the_first(self, any_desk):
        key = any_desk.settle("who?", "Ann")
        any_desk.settle("where?", "there")
        all_test = {"test_share": 0.99, "validation_share": 0.0, "regression_share": 0.0}
        audit, made = any_desk.reviewer.audit, []

        def build_another(*arguments, **more):
            any_desk.reviewer.audit = audit
            made.append(any_desk.curate(**all_test))
            return audit(*arguments, **more)

        any_desk.reviewer.audit = build_another
        with pytest.raises(TryAgain, match="another set"):
            any_desk.curate(**ALL_TRAIN)
        [first] = made
        later = any_desk.curate(**ALL_TRAIN)
        assert any_desk.examples(first)[key].split is any_desk.examples(later)[key].split is Split.TEST

    def test_what_is_near_a_row_that_left_stays_in_its_split(self, desk):
        asked = "how do i open an account after moving abroad with my family"
        key = desk.settle(asked, "go there")
        desk.finds(key, proposals=[Repair(RepairKind.DROP, (key,))])
        desk.settle("something else entirely", "yes")
        first = desk.curate(test_share=0.99, validation_share=0.0, regression_share=0.0)
        split = {row.key: row.split for row in desk.examples(first).values()}[key]
        desk.accept(desk.finding(first))
        desk.curate(test_share=0.99, validation_share=0.0, regression_share=0.0)
        near = desk.settle(f"please {asked}", "go here")
        for share in (0.99, 0.0):
            later = desk.curate(test_share=share, validation_share=0.0, regression_share=0.0)
            assert desk.examples(later)[near].split is split

    def test_what_a_host_calls_written_is_no_date_of_ours(self, desk):
        key = desk.settle("who?", "Ann")
        with desk.runtime.db.transaction() as session:
            session.exec(select(Response)).one().host_metadata = {"written": "last week"}
        assert key in desk.examples(desk.curate())

    def test_a_set_that_is_built_again_is_the_current_one_and_audited_anew(self, desk):
        key = desk.settle("who?", "Ann")
        first = desk.curate()
        other = desk.settle("where?", "there")
        desk.finds(other, proposals=[Repair(RepairKind.DROP, (other,))])
        second = desk.curate()
        accepted = desk.accept(desk.finding(second))
        assert desk.curate().id == first.id
        with desk.runtime.db.reading() as session:
            assert newest_set(session, desk.project.id).id == first.id
        desk.undo(accepted)
        desk.finds(key)
        again = desk.curate()
        assert again.id == second.id and again.is_blocked
        assert len(desk.examples(again)) == 2
