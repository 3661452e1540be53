"""What a team already has is read whatever state it is in: one bad line loses nothing else."""

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain import corpus_files
from retrain.corpus import MAX_TEXT, CorpusRow, UnreadableCorpus, example_of, row_of
from retrain.corpus_files import read, read_records, sort_out
from retrain.types import Kind, Message

ASKED = {"question": "Who sends my bill?", "answer": "The billing office."}
TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]

JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("0", "value")), inner),
    max_leaves=5,
)
SHAPES = (
    lambda said: {"data": {"text": "x"}, "annotations": said},
    lambda said: {"data": {"text": "x"}, "annotations": [{"result": said}]},
    lambda said: {"data": {"text": "x"}, "annotations": [{"result": [{"type": "choices", "value": said}]}]},
    lambda said: {
        "data": {"text": "x"},
        "annotations": [{"result": [{"type": "textarea", "value": {"text": said}}]}],
    },
    lambda said: {"fields": {"text": "x"}, "responses": {"answer": said}},
    lambda said: {"fields": {"text": "x"}, "responses": said},
)
SHARED = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "good day"}]
NO_ANSWER = "no answer and no label among 'question', 'reply'; --column answer=NAME says where"


def file_of(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def reasons(reference: str, **columns: str) -> dict[str, str]:
    return {found.place: found.reason for found in read(reference, columns=columns) if not found.row}


def answers(reference: str, **columns: str) -> list[str]:
    return [found.row.answer for found in read(reference, columns=columns) if found.row]


class TestRows:
    @pytest.mark.parametrize("prompt", ["question", "Prompt", " INSTRUCTION ", "input", "text"])
    @pytest.mark.parametrize("answer", ["answer", "Response", "output", "completion"])
    def test_columns_go_by_their_usual_names(self, prompt, answer):
        assert row_of({prompt: "who?", answer: "we"}, {}) == CorpusRow((Message("user", "who?"),), "we")

    def test_a_column_can_be_named(self):
        row = row_of(
            {"Frage": "wer?", "answer": "draft", "Antwort": "wir"}, {"prompt": "Frage", "answer": "antwort"}
        )
        assert (row.messages[0].content, row.answer, row.attributes) == ("wer?", "wir", {"answer": "draft"})

    def test_a_column_can_be_left_out(self):
        assert row_of({**ASKED, "date": "soon"}, {"written": ""}).written is None

    def test_a_named_column_that_is_not_there_is_told(self):
        with pytest.raises(UnreadableCorpus, match="no column 'Antwort' among 'question', 'answer'"):
            row_of(ASKED, {"answer": "Antwort"})

    def test_an_instruction_has_its_input(self):
        row = row_of({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}, {})
        assert row.messages[0].content == "Translate.\n\nGuten Tag"

    @pytest.mark.parametrize("turns", [TURNS, json.dumps(TURNS), SHARED])
    def test_a_conversation_s_last_turn_is_its_answer(self, turns):
        assert row_of({"messages": turns}, {}) == CorpusRow((Message("user", "hello"),), "good day")

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"answer": "we"}, "no question"),
            ({"messages": [{"role": "user", "content": " "}], "answer": "we"}, "the last turn is empty"),
            ({"question": "who?", "answer": " "}, "no answer and no label"),
            ({"question": "who?", "answer": None}, "no answer and no label"),
            ({"question": "who?", "answer": float("nan")}, "no answer and no label"),
            ({"question": "who?", "answer": ["we"]}, "answer: a list, not a text"),
            ({"question": "who?", "answer": "w" * (MAX_TEXT + 1)}, "answer: 100,001 characters"),
            ({"question": "who?\0", "answer": "we"}, "NUL"),
            ({"question": "who?", "answer": "\ud800"}, "surrogate"),
            ({"question": "who?", "answer": "we", "date": "soon"}, "'soon' is no date"),
            ({"question": "who?", "answer": "we", "date": "03/04/2014"}, "is no date"),
            ({"messages": [], "answer": "we"}, "0 turns"),
            ({"messages": "hello", "answer": "we"}, "not a list"),
            ({"messages": "[" * 200_000, "answer": "we"}, "not a list"),
            ({"messages": [{"role": "judge", "content": "x"}]}, "no role 'judge'"),
            ({"messages": [{"role": "assistant", "content": "x"}]}, "must be the user's"),
            ({}, "no columns"),
        ],
    )
    def test_what_cannot_be_used_is_told(self, record, reason):
        with pytest.raises(UnreadableCorpus, match=reason):
            row_of(record, {})

    @pytest.mark.parametrize(
        "said",
        ["2014-12-31", "2014-12-31T10:00:00Z", "31.12.2014", "2014/12/31", "December 31, 2014", "31 December 2014",
         date(2014, 12, 31), datetime(2014, 12, 31, 10, tzinfo=UTC)],
    )  # fmt: skip
    def test_a_day_is_read_in_many_forms(self, said):
        assert row_of({**ASKED, "updated": said}, {}).written == date(2014, 12, 31)

    def test_a_year_alone_is_its_first_day(self):
        assert row_of({**ASKED, "date": 2014}, {}).written == date(2014, 1, 1)

    def test_short_values_of_other_columns_are_attributes(self):
        row = row_of({**ASKED, "region": "north", "age": 7, "empty": "", "none": None, "long": "x" * 201}, {})
        assert row.attributes == {"region": "north", "age": "7"}

    def test_with_an_answer_the_audit_sees_a_text_and_else_a_label(self):
        text = example_of(row_of({**ASKED, "category": "money", "author": "ann"}, {}), "1")
        label = example_of(row_of({"text": "who?", "label": "money"}, {}), "2")
        assert (text.kind, text.label, text.attributes) == (Kind.GENERATION, None, {"author": "ann"})
        assert (label.kind, label.label, label.answer) == (Kind.CLASSIFICATION, "money", "money")

    @given(
        st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.floats() | st.lists(st.text()))
    )
    def test_whatever_a_record_holds_it_is_a_row_or_refused(self, record):
        with suppress(UnreadableCorpus):
            row_of({**ASKED, **record}, {})


class TestFiles:
    def test_every_format_says_the_same(self, tmp_path):
        texts = {
            "a.csv": "question,answer\nwho?,we\n",
            "a.tsv": "question\tanswer\nwho?\twe\n",
            "semicolons.csv": "question;answer\nwho?;we\n",
            "a.jsonl": '{"question": "who?", "answer": "we"}\n\n',
            "a.json": '[{"question": "who?", "answer": "we"}]',
            "named.json": '{"version": 1, "data": [{"question": "who?", "answer": "we"}]}',
            "lines.json": '{"question": "who?", "answer": "we"}\n{"question": "who else?", "answer": "they"}\n',
        }
        for name, text in texts.items():
            file_of(tmp_path, name, text)
        pq.write_table(pa.table({"question": ["who?"], "answer": ["we"]}), tmp_path / "a.parquet")
        rows, unread = sort_out(read(str(tmp_path), columns={}))
        assert unread == []
        assert sorted(row.answer for row in rows.values()) == ["they"] + ["we"] * 8
        assert {row.source for row in rows.values()} == {"a", "semicolons", "named", "lines"}

    def test_a_bad_line_loses_nothing_else(self, tmp_path):
        text = 'question,answer\none?,1\ntwo?,2,too many\nthree?,"3\nfour?,4\n\nfive?,"5"x\nsix?,6\n'
        file = file_of(tmp_path, "faq.csv", text)
        assert answers(file) == ["1", "4", "6"]
        told = reasons(file)
        assert list(told) == ["faq.csv line 3", "faq.csv line 4", "faq.csv line 7"]
        assert told["faq.csv line 3"] == "3 fields, but the header has 2"

    def test_a_field_may_hold_lines_of_its_own(self, tmp_path):
        file = file_of(tmp_path, "faq.csv", 'question,answer\none?,"1\n1"\ntwo?\nthree?,3\n')
        assert answers(file) == ["1\n1", "3"]
        assert list(reasons(file)) == ["faq.csv line 4"]

    def test_bad_json_lines_lose_nothing_else(self, tmp_path):
        lines = (
            '{"question": "one?", "answer": "1"}',
            '{"question":',
            "[1]",
            "[" * 5000,
            '{"question": "x"}',
        )
        file = file_of(tmp_path, "faq.jsonl", "\n".join(lines))
        assert answers(file) == ["1"]
        assert [reason.partition(":")[0] for reason in reasons(file).values()] == [
            "not JSON",
            "not an object",
            "not JSON",
            "no answer and no label among 'question'; --column answer=NAME says where",
        ]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_an_encoding_is_found_out(self, tmp_path, encoding):
        file = file_of(tmp_path, "faq.csv", "question,answer\nÄrzte?,größer\n".encode(encoding))
        assert answers(file) == ["größer"]

    def test_one_line_in_another_encoding_spoils_no_other(self, tmp_path):
        lines = "question,answer\nä?,ö\n".encode() + "ü?,ß\n".encode("cp1252")
        assert answers(file_of(tmp_path, "faq.csv", lines)) == ["ö", "ß"]

    @pytest.mark.parametrize(
        ("name", "content", "why"),
        [
            ("faq.csv", "", "faq.csv: holds no rows"),
            ("faq.csv", "question,answer\n", "faq.csv: holds no rows"),
            ("faq.jsonl", "\n\n", "faq.jsonl: holds no rows"),
            ("faq.json", "", "faq.json: holds no rows"),
            ("faq.json", "7", "faq.json: not a list of objects"),
            ("faq.json", "[" * 200_000, "faq.json line 1: not JSON"),
            ("faq.csv", "question,answer,answer\na,b,c\n", "faq.csv: two columns are called 'answer'; rename one"),
            ("faq.csv", "question,reply\na,b\nc,d\n", f"faq.csv line 2: {NO_ANSWER} (and 1 more)"),
            ("faq.parquet", "not one", "faq.parquet: "),
            ("faq.docx", "x", "faq.docx: no format of ours"),
        ],
    )  # fmt: skip
    def test_a_file_of_which_nothing_can_be_read_is_refused_in_one_line(self, tmp_path, name, content, why):
        with pytest.raises(UnreadableCorpus) as refused:
            sort_out(read(file_of(tmp_path, name, content), columns={}))
        assert str(refused.value).startswith(f"nothing can be read: {why}")
        assert "\n" not in str(refused.value)

    def test_a_bad_file_of_a_folder_spoils_no_other(self, tmp_path):
        file_of(tmp_path, "a.csv", "question,question\n1,2\n")
        file_of(tmp_path, "deep/b.csv", "question,answer\nwho?,we\n")
        file_of(tmp_path, "notes.txt", "nothing of ours")
        rows, unread = sort_out(read(str(tmp_path), columns={}))
        assert list(rows) == ["deep/b.csv line 2"]
        assert [found.place for found in unread] == ["a.csv"]

    def test_a_label_studio_export_brings_its_first_answers(self, tmp_path):
        choice = {"type": "choices", "value": {"choices": ["money", "other"]}}
        text = {"type": "textarea", "value": {"text": ["The office."]}}
        span = {"type": "labels", "value": {"text": "bill", "labels": ["thing"]}}
        kept = {
            "completed_by": {"email": "ann@x"},
            "created_at": "2020-05-01T10:00:00Z",
            "result": [span, choice, text],
        }
        tasks = [
            {"id": 1, "data": {"text": "who?"}, "annotations": [{"was_cancelled": True, "result": []}, kept]},
            {"id": 2, "data": {"text": "why?"}, "annotations": []},
        ]
        file = file_of(tmp_path, "export.json", json.dumps(tasks))
        [row] = [found.row for found in read(file, columns={}) if found.row]
        assert (row.label, row.answer, row.author, row.written) == (
            "money",
            "The office.",
            "ann@x",
            date(2020, 5, 1),
        )
        assert reasons(file) == {"export.json item 2": "nobody has annotated it"}

    @pytest.mark.parametrize(
        "broken",
        [
            {"data": {"text": "x"}, "annotations": 7},
            {"data": {"text": "x"}, "annotations": [{"result": ["x"]}]},
            {"data": {"text": "x"}, "annotations": [{"result": [{"type": "choices", "value": "x"}]}]},
            {
                "data": {"text": "x"},
                "annotations": [{"result": [{"type": "choices", "value": {"choices": 7}}]}],
            },
            {"fields": {"text": "x"}, "responses": {"label": ["x"]}},
            {"fields": {"text": "x"}, "responses": {"label": {"a": 1}}},
        ],
    )
    def test_a_record_that_is_not_as_its_tool_exports_it_loses_nothing_else(self, tmp_path, broken):
        file = file_of(tmp_path, "export.json", json.dumps([broken, ASKED]))
        assert answers(file) == [ASKED["answer"]]
        assert reasons(file)["export.json item 1"].startswith("not as Label Studio or Argilla exports it: ")

    @given(shape=st.sampled_from(SHAPES), said=JSON)
    def test_whatever_a_tool_exports_is_a_row_or_told(self, shape, said):
        [found] = read_records("faq", [shape(said)], columns={})
        assert (found.row is None) == bool(found.reason)

    def test_a_data_set_of_the_hub_brings_its_splits(self, monkeypatch):
        splits = {"train": [ASKED], "test": [{"question": "x"}]}
        made = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
        monkeypatch.setattr(
            corpus_files, "load_dataset", {"team/faq": datasets.DatasetDict(made)}.__getitem__
        )
        found = list(read("team/faq", columns={}))
        assert [each.place for each in found] == ["team/faq train row 1", "team/faq test row 1"]
        assert found[0].row.source == "team/faq/train" and found[1].row is None

    def test_a_class_of_the_hub_is_read_by_its_name(self, monkeypatch):
        names = datasets.ClassLabel(names=["refund", "shipping"])
        made = datasets.Dataset.from_dict(
            {"text": ["one", "two", "none"], "label": [1, 0, -1]},
            features=datasets.Features({"text": datasets.Value("string"), "label": names}),
        )
        monkeypatch.setattr(corpus_files, "load_dataset", {"team/mail": made}.__getitem__)
        found = list(read("team/mail", columns={}))
        assert [each.row and each.row.label for each in found] == ["shipping", "refund", None]

    def test_a_data_set_that_the_hub_does_not_give_is_refused(self, monkeypatch):
        def refuse(name: str):
            raise ConnectionError("no way there")

        monkeypatch.setattr(corpus_files, "load_dataset", refuse)
        with pytest.raises(
            UnreadableCorpus, match="team/faq: no such file or folder, and not from the hub: no way"
        ):
            list(read("team/faq", columns={}))

    @pytest.mark.parametrize("reference", ["/nowhere/faq.csv", "./faq", "faq.csv", "a/b/c"])
    def test_a_path_is_not_asked_of_the_hub(self, monkeypatch, reference):
        monkeypatch.setattr(corpus_files, "load_dataset", pytest.fail)
        with pytest.raises(UnreadableCorpus, match="no such file or folder"):
            list(read(reference, columns={}))

    def test_a_column_for_what_rows_do_not_have_is_refused(self, tmp_path):
        with pytest.raises(UnreadableCorpus, match="no row has a 'colour'"):
            list(read(str(tmp_path), columns={"colour": "x"}))

    @given(lines=st.lists(st.text("ab,\"'\n ;", max_size=20), max_size=12))
    def test_however_broken_a_file_is_its_good_lines_are_read(self, tmp_path_factory, lines):
        broken = "".join(f"{line}\n" for line in lines)
        path = tmp_path_factory.mktemp("broken") / "faq.csv"
        path.write_text("question,answer\nfirst?,1\n" + broken)
        assert answers(str(path))[0] == "1"
