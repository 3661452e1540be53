"""Lists of the console: each row once, in the order that was asked for, narrowed as it says, and never another's."""

import csv
import io
import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlmodel import col, select

from service.clock import utcnow
from service.runtime import Runtime
from service.tables import AnnotationTask, Feedback, Project, Rating, Role, TaskFlag
from service.web.app import create_app
from service.web.console import listing
from tests import builders
from tests.console import Person, person

ROWS, PAGE = 23, 5
FORMULAS = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1")

UNKNOWN = (
    "sort=odd",
    "format=xml",
    "rating=odd",
    "reason=odd",
    "version=v99",
    "state=odd",
    f"q={'x' * 201}",
    "q=%00",
    *(
        f"cursor={text}"
        for text in ("odd", "%C3%A4", "e30", "W10", "WzFd", "W251bGxd", "WyJ4Il0", "W" * 5000)
    ),
)
FITTING = (
    "reason=wrong",
    "reason=unsafe",
    "language=de-CH",
    "q=%C3%84rzte",
    "q=100+%25",
    "q=%25_",
    "q=%5C",
    "q='x'",
    "reason=wrong&language=de-CH&rating=down&state=received",
)
NOT_FITTING = ("q=_rzte", "q=%25rzte", "reason=incomplete", "language=de", "q=100%25%25")


class List:
    """A reader before lists of the project `clinic`; `other` has rows of its own."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        with runtime.db.transaction() as session:
            self.clinic, self.other = (builders.add_project(session, slug) for slug in ("clinic", "other"))
        self.olga: Person = person(runtime, Role.AUDITOR, password="")

    def flags(self, count: int, *, project: Project | None = None) -> list[str]:
        """Add flags, each with a task, and return the flags' ids, oldest first."""
        with self.runtime.db.transaction() as session:
            found = []
            for number in range(count):
                response = builders.add_response(session, project or self.clinic, f"answer {number}")
                flag = builders.add_flag(session, project or self.clinic, response, "wrong")
                builders.add_task(
                    session, project or self.clinic, response, flag=flag, priority=float(number // 7)
                )
                found.append(str(flag.id))
        return found

    def flag(self, *reasons: str, text: str = "Cardiology", asked: str = "who?", **more: Any) -> str:
        of_flag = {name: more.pop(name) for name in ("comment", "correction", "rating") if name in more}
        with self.runtime.db.transaction() as session:
            response = builders.add_response(session, self.clinic, text, asked=asked, **more)
            return str(builders.add_flag(session, self.clinic, response, *reasons, **of_flag).id)

    def page(self, query: str, name: str = "feedback"):
        return self.olga.get(f"/p/clinic/{name}{query}")

    def ids(self, query: str = "", name: str = "feedback") -> list[str]:
        """Ids of the rows on one page."""
        return re.findall(rf'href="/p/clinic/{name}/([0-9a-f-]{{36}})"', self.page(query, name).text)

    def walk(self, query: str, name: str = "feedback") -> list[list[str]]:
        """Ids on each page, from the first to the last."""
        pages = []
        while query:
            pages.append(self.ids(query, name))
            query = self.next(query, name)
        return pages

    def next(self, query: str, name: str = "feedback") -> str:
        link = re.search(r'rel="next" href="([^"]+)"', self.page(query, name).text)
        return unescape(link[1]) if link else ""


@pytest.fixture
def lists(runtime, monkeypatch) -> List:
    monkeypatch.setattr(listing, "PAGE", PAGE)
    return List(runtime)


@pytest.fixture
def any_lists(any_runtime, monkeypatch) -> List:
    monkeypatch.setattr(listing, "PAGE", PAGE)
    return List(any_runtime)


def flat(pages: list[list[str]]) -> list[str]:
    return [each for page in pages for each in page]


class TestPages:
    def test_each_row_comes_once_in_both_orders(self, any_lists):
        flags = any_lists.flags(ROWS)
        any_lists.flags(3, project=any_lists.other)
        oldest = any_lists.walk("?sort=oldest")
        assert flat(oldest) == flags
        assert flat(any_lists.walk("?sort=newest")) == flags[::-1]
        assert [len(page) for page in oldest] == [5, 5, 5, 5, 3]

    def test_the_most_urgent_come_first_and_equals_once_each(self, any_lists):
        any_lists.flags(ROWS)
        any_lists.flags(3, project=any_lists.other)
        seen = flat(any_lists.walk("?sort=urgent", "tasks"))
        with any_lists.runtime.db.reading() as session:
            mine = select(AnnotationTask).where(AnnotationTask.project_id == any_lists.clinic.id)
            order = mine.order_by(col(AnnotationTask.priority).desc(), col(AnnotationTask.id).desc())
            assert seen == [str(task.id) for task in session.exec(order)]

    def test_rows_that_come_meanwhile_move_no_page(self, lists):
        flags = lists.flags(7)
        first, then = lists.ids("?sort=newest"), lists.next("?sort=newest")
        lists.flags(4)
        assert first + lists.ids(then) == flags[::-1]

    def test_a_page_that_is_just_full_is_the_last(self, lists):
        lists.flags(PAGE)
        assert lists.next("?sort=oldest") == ""

    def test_an_empty_list_says_what_fills_it(self, lists):
        assert "Nobody has said anything yet" in lists.page("").text
        assert "Nothing that fits" in lists.page("?q=x").text

    def test_what_a_list_does_not_know_is_refused(self, any_lists):
        assert {query: any_lists.page(f"?{query}").status_code for query in UNKNOWN} == dict.fromkeys(
            UNKNOWN, 422
        )

    def test_a_cursor_of_another_order_is_refused(self, lists):
        lists.flags(7)
        cursor = lists.next("?sort=newest", "tasks").partition("cursor=")[2]
        assert lists.page(f"?sort=urgent&cursor={cursor}", "tasks").status_code == 422

    def test_an_odd_priority_in_a_cursor_is_no_error_of_ours(self, any_lists):
        any_lists.flags(2)
        for value in ("NaN", "Infinity", "1e999", "-1e308", "true", "null", '"x"', "[]"):
            text = f'[{value}, "0191d1d0-0000-7000-8000-000000000000"]'
            cursor = listing.base64.urlsafe_b64encode(text.encode()).decode()
            assert any_lists.page(f"?sort=urgent&cursor={cursor}", "tasks").status_code in (200, 422), value

    def test_every_list_answers_in_every_order_on_both_databases(self, any_lists):
        any_lists.flags(2)
        for name in ("feedback", "tasks", "sets", "runs", "evaluations", "jobs", "ledger", "annotators", ""):
            for query in ("", "?sort=oldest", "?format=csv", "?format=json"):
                assert any_lists.page(query, name).status_code == 200, (name, query)


class TestFilters:
    @pytest.fixture
    def wrong(self, any_lists) -> str:
        any_lists.flag("style", language="en", model_version="v0")
        any_lists.flag(rating=Rating.UP)
        return any_lists.flag(
            "wrong", "unsafe", language="de-CH", model_version="v1", text="Ärzte 100 %_ \\ 'x'"
        )

    def test_a_filter_leaves_what_fits(self, any_lists, wrong):
        assert {query: any_lists.ids(f"?{query}") for query in FITTING} == {
            query: [wrong] for query in FITTING
        }

    def test_a_wildcard_is_only_itself(self, any_lists, wrong):
        assert {query: any_lists.ids(f"?{query}") for query in NOT_FITTING} == {
            query: [] for query in NOT_FITTING
        }

    def test_a_reason_is_not_found_in_a_longer_one(self, lists):
        lists.flag("wrong_tone")
        assert lists.ids("?reason=wrong") == []

    def test_the_search_reads_question_answer_comment_and_correction(self, any_lists):
        found = [
            any_lists.flag(asked="needle in the question"),
            any_lists.flag(text="a NEEDLE answered"),
            any_lists.flag(comment="needle"),
            any_lists.flag(correction="needle"),
        ]
        any_lists.flag(text="hay")
        assert any_lists.ids("?q=needle&sort=oldest") == found

    def test_a_question_in_any_script_is_found(self, any_lists):
        found = any_lists.flag(asked="Wo liegt das Röntgen? 病院")
        any_lists.flag(asked="elsewhere")
        assert any_lists.ids("?q=R%C3%B6ntgen") == any_lists.ids("?q=%E7%97%85%E9%99%A2") == [found]

    def test_quotes_and_line_ends_in_a_question_are_found(self, any_lists):
        found = any_lists.flag(asked='he said "stop"\nand left')
        assert any_lists.ids("?q=%22stop%22") == [found]

    def test_feedback_is_found_by_the_version_that_answered(self, lists):
        with lists.runtime.db.transaction() as session:
            builders.add_criteria(session, lists.clinic)
            builders.add_challenger(session, lists.clinic)
        mine = lists.flag(model_version="v1")
        lists.flag(model_version="v0")
        assert lists.ids("?version=v1") == [mine]

    def test_feedback_is_found_by_what_became_of_it(self, any_lists):
        received = any_lists.flag("wrong")
        (grouped,) = any_lists.flags(1)
        with any_lists.runtime.db.transaction() as session:
            response = builders.add_response(session, any_lists.clinic)
            flag = builders.add_flag(session, any_lists.clinic, response, "wrong")
            builders.add_settlement(
                session, builders.add_task(session, any_lists.clinic, response, flag=flag)
            )
        assert any_lists.ids("?state=received") == [received]
        assert any_lists.ids("?state=grouped") == [grouped]
        assert any_lists.ids("?state=corrected") == [str(flag.id)]

    def test_a_filter_keeps_its_choice_from_page_to_page(self, lists):
        wanted = [lists.flag("wrong") for _ in range(7)]
        lists.flag("style")
        assert flat(lists.walk("?reason=wrong&sort=oldest")) == wanted

    def test_tasks_are_found_by_state_and_cause(self, lists):
        lists.flags(2)
        assert len(lists.ids("?state=selected&why=flag", "tasks")) == 2
        assert lists.ids("?why=random", "tasks") == []


class TestFarFilters:
    """A filter that finds little looks at so many rows, says so, and goes on where it stopped."""

    @pytest.fixture
    def far(self, any_lists, monkeypatch) -> List:
        monkeypatch.setattr(listing, "SCAN", 10)
        return any_lists

    def test_it_says_how_far_it_looked_and_goes_on(self, far):
        needle = far.flag("unsafe")
        far.flags(25)
        first = far.page("?reason=unsafe")
        assert "Nothing that fits among 10 rows" in first.text and "look further" in first.text
        assert far.walk("?reason=unsafe") == [[], [], [needle]]

    def test_nothing_is_missed_or_shown_twice_however_it_falls(self, far):
        wanted = []
        for number in range(31):
            flag = far.flag("unsafe" if number % 4 in (0, 1) else "style")
            wanted += [flag] if number % 4 in (0, 1) else []
        assert flat(far.walk("?reason=unsafe&sort=oldest")) == wanted
        assert flat(far.walk("?reason=unsafe")) == wanted[::-1]

    def test_an_export_looks_at_everything(self, far):
        needle = far.flag("unsafe", comment="needle")
        far.flags(25)
        items = json.loads(far.page("?reason=unsafe&format=json").text)["items"]
        assert [item["comment"] for item in items] == ["needle"] and needle


class TestExports:
    def test_a_formula_in_a_spreadsheet_is_a_text(self, lists):
        for formula in FORMULAS:
            lists.flag(comment=formula, text=formula, asked=formula)
        rows = list(csv.DictReader(io.StringIO(lists.page("?format=csv").text)))
        assert len(rows) == len(FORMULAS)
        assert not [cell for row in rows for cell in row.values() if cell.startswith(listing.FORMULA)]
        assert {row["comment"] for row in rows} == {f"'{each}" for each in FORMULAS}

    def test_a_program_gets_items_and_no_next_page(self, lists):
        flags = lists.flags(ROWS)
        answer = lists.page("?format=json&sort=oldest")
        document = json.loads(answer.text)
        assert answer.mimetype == "application/json"
        assert set(document) == {"items", "next_cursor"} and document["next_cursor"] is None
        assert [item["answer"] for item in document["items"]] == [f"answer {n}" for n in range(len(flags))]

    def test_an_export_has_whole_texts_and_ids_where_a_page_has_beginnings(self, lists):
        long = "word " * 100 + "end"
        flag = lists.flag(text=long, asked=long, comment=long, correction=long)
        item = json.loads(lists.page("?format=json").text)["items"][0]
        assert item["id"] == flag
        assert item["asked"] == item["answer"] == item["comment"] == item["correction"] == long
        assert long not in lists.page("").text

    def test_an_export_is_a_file_of_all_rows_that_fit(self, lists, monkeypatch):
        monkeypatch.setattr(listing, "EXPORTED", 4)
        lists.flags(ROWS)
        lists.flag("style")
        answer = lists.page("?format=csv&reason=wrong")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="feedback.csv"'
        assert answer.mimetype == "text/csv"
        assert len(answer.text.splitlines()) == ROWS + 1

    def test_an_export_of_nothing_is_well_formed(self, lists):
        assert json.loads(lists.page("?format=json").text) == {"items": [], "next_cursor": None}
        assert lists.page("?format=csv").text == ""

    def test_an_export_holds_no_row_of_another_project(self, lists):
        lists.flags(2)
        lists.flags(3, project=lists.other)
        assert len(json.loads(lists.page("?format=json").text)["items"]) == 2
        assert len(json.loads(lists.page("?format=json", "tasks").text)["items"]) == 2

    def test_texts_in_any_script_are_exported_as_they_are(self, lists):
        lists.flag(text="Ärzte, 病院 \u202e")
        item = json.loads(lists.page("?format=json").text)["items"][0]
        assert item["answer"] == "Ärzte, 病院 \u202e"


def test_a_flag_s_story_is_told_from_answer_to_settlement(any_lists):
    with any_lists.runtime.db.transaction() as session:
        response = builders.add_response(session, any_lists.clinic, "wrong answer")
        flag = builders.add_flag(session, any_lists.clinic, response, "wrong", comment="not so")
        task = builders.add_task(session, any_lists.clinic, response, flag=flag)
        builders.add_settlement(session, task)
    page = any_lists.page(f"/{flag.id}").text
    assert "wrong answer" in page and "not so" in page and f"/p/clinic/tasks/{task.id}" in page
    assert any_lists.page(f"/{task.id}", "tasks").status_code == 200


def test_a_flag_that_joins_a_task_is_told_before_what_became_of_both(any_lists):
    with any_lists.runtime.db.transaction() as session:
        response = builders.add_response(session, any_lists.clinic, "wrong answer")
        first = builders.add_flag(session, any_lists.clinic, response, "wrong")
        task = builders.add_task(session, any_lists.clinic, response, flag=first, sent_at=utcnow())
        late = builders.add_flag(session, any_lists.clinic, response, "unsafe")
        session.add(TaskFlag(task_id=task.id, feedback_id=late.id))
        builders.add_settlement(session, task)
    told = [
        re.findall("<strong>(?:<a [^>]+>)?([^<]+)", any_lists.page(f"/{f.id}").text) for f in (first, late)
    ]
    begin, end = (
        ["Answered by the model", "Flagged as wrong"],
        ["Handed to experts", "Settled: incorrect, Billing"],
    )
    assert told[0] == [*begin, "Chosen for experts", *end]
    assert told[1] == [*begin, "Joined to what experts were asked already", *end]


def test_feedback_whose_answer_has_not_arrived_is_listed(any_lists):
    with any_lists.runtime.db.transaction() as session:
        response = builders.add_response(session, any_lists.clinic)
        flag = builders.add_flag(session, any_lists.clinic, response, "wrong")
        session.get_one(Feedback, flag.id).response_id = None
    assert any_lists.ids() == [str(flag.id)]
    assert any_lists.page(f"/{flag.id}").status_code == 200
    assert "has not arrived yet" in any_lists.page("").text
    never_came = "?came=for+an+answer+that+never+came"
    assert any_lists.ids(never_came) == []
    with any_lists.runtime.db.transaction() as session:
        session.get_one(Feedback, flag.id).created_at -= timedelta(hours=25)
    assert any_lists.ids(never_came) == [str(flag.id)]


def test_lists_need_no_more_than_a_reader(lists):
    assert create_app(lists.runtime).test_client().get("/p/clinic/feedback?format=csv").status_code == 303


def test_reasons_that_the_project_does_not_know_are_shown_as_unknown(lists):
    flag = lists.flag("wrong", "ghost")
    for page in (lists.page(""), lists.page(f"/{flag}")):
        assert "wrong, ghost (unknown)" in page.text
