"""A backup of a running installation comes back as it was, into either database, and what is damaged is found."""

import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from errno import ENOSPC
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import SQLModel, col, func, select

from service import backup_keys, backups, ledger, migrations
from service import runtime as runtimes
from service.errors import Invalid, TryAgain, WrongState
from service.runtime import Runtime, build
from service.tables import (
    AnnotationTask,
    LedgerEntry,
    ModelVersion,
    ProjectKind,
    Response,
    TaskPurpose,
    TrainingSet,
)
from tests import builders
from tests.desk import Desk


@pytest.fixture
def backed_up(any_runtime, tmp_path) -> tuple[Desk, Path]:
    desk, file = _filled(any_runtime), tmp_path / "backup"
    backups.write(any_runtime, file, with_secrets=False)
    return desk, file


@pytest.fixture
def empty(settings, tmp_path, empty_database) -> Runtime:
    """Another installation, in which nothing was ever done."""
    other = build(
        settings.model_copy(update={"data_dir": tmp_path / "other", "database_url": empty_database})
    )
    yield other
    other.db.close()


def _filled(runtime: Runtime) -> Desk:
    desk = Desk(runtime, ProjectKind.GENERATION)
    desk.settle("who?", "Ann")
    desk.settle("where?", "here")
    desk.curate()
    adapter = runtime.settings.data_dir / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    with runtime.db.transaction() as session:
        known = session.exec(select(AnnotationTask)).first()
        response = session.get_one(Response, known.response_id)
        lies_before_it = {"id": UUID(int=1), "gold_of_id": known.id, "purpose": TaskPurpose.GOLD}
        builders.add_task(session, desk.project, response, **lies_before_it)
        model = builders.add_challenger(session, desk.project, number=9)
        model.adapter_sha256 = runtime.artifacts.put_directory(adapter)
        made = session.exec(select(TrainingSet).where(TrainingSet.version == 9)).one()
        made.artifact = runtime.artifacts.put_bytes(b"rows")
    return desk


def _rows(runtime: Runtime) -> dict[str, list]:
    with runtime.db.reading() as session:
        return {
            table.name: [dict(row) for row in session.execute(table.select().order_by(table.c.id)).mappings()]
            for table in SQLModel.metadata.sorted_tables
        }


def test_everything_comes_back_in_either_database_and_a_set_is_built_again(backed_up, empty):
    desk, file = backed_up
    backups.restore(empty, file)
    assert _rows(empty) == _rows(desk.runtime)
    assert migrations.revision(empty.db) == migrations.head()
    with empty.db.reading() as session:
        assert not list(ledger.broken(session)) and not list(backups.broken_artifacts(empty, session))
        training_set = session.exec(select(TrainingSet).where(TrainingSet.version == 1)).one()
    desk.runtime = empty
    assert desk.rebuild(training_set)["equal"]


def test_an_installation_with_anything_in_it_is_not_restored_into(backed_up, runtime):
    with pytest.raises(WrongState, match="not empty"):
        backups.restore(runtime, backed_up[1])


def test_a_restore_that_broke_off_is_begun_again(runtime, settings, tmp_path, monkeypatch):
    file = tmp_path / "backup"
    backups.write(_filled(runtime).runtime, file, with_secrets=True)
    other = build(settings.model_copy(update={"data_dir": tmp_path / "other"}))
    with monkeypatch.context() as broken:
        broken.setattr(backups, "_copy_in", _run_out_of_room)
        with pytest.raises(OSError, match="No space left"):
            backups.restore(other, file)
    backups.restore(other, file)
    assert _rows(other) == _rows(runtime)
    assert build(other.settings).secrets == runtime.secrets
    assert (other.settings.data_dir / "secrets.json").stat().st_mode & 0o077 == 0
    other.db.close()


def _run_out_of_room(*_):
    raise OSError(ENOSPC, "No space left on device")


def test_a_restore_that_broke_off_leaves_nothing_in_postgresql(
    runtime, settings, tmp_path, postgres, monkeypatch
):
    file, url = tmp_path / "backup", postgres.database()
    backups.write(_filled(runtime).runtime, file, with_secrets=False)
    other = build(settings.model_copy(update={"data_dir": tmp_path / "other", "database_url": url}))
    with monkeypatch.context() as broken:
        broken.setattr(backups, "update", _run_out_of_room)
        with pytest.raises(OSError, match="No space left"):
            backups.restore(other, file)
    assert migrations.revision(other.db) is None
    backups.restore(other, file)
    assert _rows(other) == _rows(runtime)
    other.db.close()
    postgres.drop(url)


@pytest.mark.parametrize(
    ("name", "refusal"),
    [("errata.db", "rows are damaged"), ("objects/", "is damaged"), ("manifest", "format")],
)
def test_a_damaged_backup_is_refused_and_leaves_nothing(runtime, settings, tmp_path, name, refusal):
    file, damaged = tmp_path / "backup", tmp_path / "damaged"
    backups.write(_filled(runtime).runtime, file, with_secrets=False)
    with tarfile.open(file) as tar, tarfile.open(damaged, "w") as other:
        for member in tar:
            content = tar.extractfile(member).read()
            if member.name.startswith(name):
                content = (
                    json.dumps({"format": "other"}).encode() if name == "manifest" else content[:-1] + b"~"
                )
            backups._add(other, member.name, content)
    empty = build(settings.model_copy(update={"data_dir": tmp_path / "other"}))
    for broken, why in ((damaged, refusal), (tmp_path / "none", "no backup"), (Path(__file__), "no backup")):
        with pytest.raises(Invalid, match=why):
            backups.restore(empty, broken)
    assert migrations.revision(empty.db) is None


def test_flags_come_in_while_a_backup_is_made(runtime, tmp_path):
    desk = _filled(runtime)

    def go_on(number: int) -> None:
        with runtime.db.transaction() as session:
            builders.add_response(session, desk.project, f"answer {number}")
            ledger.append(session, actor="test", action="answered", subject=str(number))

    with ThreadPoolExecutor(2) as pool:
        going = [pool.submit(go_on, number) for number in range(40)]
        files = [tmp_path / str(number) for number in range(3)]
        heads = [backups.write(runtime, file, with_secrets=False)["ledger"] for file in files]
        for each in going:
            each.result()
    with runtime.db.reading() as session:
        assert len(session.exec(select(Response).where(col(Response.text).startswith("answer"))).all()) == 40
        for head in heads:
            entry = select(LedgerEntry.sha256).where(LedgerEntry.seq == head["seq"])
            assert session.exec(entry).one() == head["sha256"]


def test_no_file_is_overwritten_and_none_is_left_half_written(runtime, tmp_path):
    desk, file = _filled(runtime), tmp_path / "backup"
    file.write_text("mine")
    with pytest.raises(Invalid, match="there is one already"):
        backups.write(runtime, file, with_secrets=False)
    assert file.read_text() == "mine"
    with runtime.db.reading() as session:
        adapter = session.exec(select(ModelVersion.adapter_sha256).where(ModelVersion.number == 9)).one()
    desk.runtime.artifacts.remove(adapter)
    with pytest.raises(TryAgain, match=adapter):
        backups.write(runtime, tmp_path / "another", with_secrets=False)
    with pytest.raises(Invalid, match="No such file"):
        backups.write(runtime, tmp_path / "nowhere" / "backup", with_secrets=False)
    assert {path.name for path in tmp_path.iterdir()} >= {"backup"} and not (tmp_path / "another").exists()


def test_what_a_key_sealed_comes_back_with_it_alone_while_it_lives(runtime, settings, tmp_path, monkeypatch):
    desk, today = _filled(runtime), date(2027, 1, 1)
    monkeypatch.setattr(backup_keys, "CHUNK", 1000)
    key = backup_keys.read_or_make(tmp_path / "key", days=30, today=today)
    file, plain = tmp_path / "backup", tmp_path / "plain"
    told = backups.write(runtime, file, with_secrets=True, key=key)
    assert told["readable_until"] == "2027-01-31" and (tmp_path / "key").stat().st_mode & 0o077 == 0
    backups.write(runtime, plain, with_secrets=True)
    shown = runtime.secrets.signing_key.encode()
    assert shown in plain.read_bytes() and shown not in file.read_bytes()
    other = backup_keys.read_or_make(tmp_path / "other key", days=30, today=today)
    empty = build(settings.model_copy(update={"data_dir": tmp_path / "other"}))
    for wrong in (None, other, replace(other, id=key.id)):
        with pytest.raises(Invalid, match="sealed with"):
            backups.restore(empty, file, key=wrong)
    sealed = file.read_bytes()
    start = sealed.index(b"\n", len(backup_keys.MAGIC)) + 1 + backup_keys.SALT_BYTES
    first, second = sealed[start : start + 1016], sealed[start + 1016 : start + 2032]
    whole_chunks = sealed[: start + 2032]
    swapped = sealed[:start] + second + first + sealed[start + 2032 :]
    for damaged in (sealed[:-1], whole_chunks, swapped, sealed.replace(b"2027-01-31", b"2099-01-31")):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(Invalid, match="damaged"):
            backups.restore(empty, tmp_path / "damaged", key=key)
    backups.restore(empty, file, key=backup_keys.read(tmp_path / "key", today=today))
    with empty.db.reading() as session:
        assert len(session.exec(select(Response)).all()) == 2
    empty.db.close()
    with pytest.raises(Invalid, match="it died on 2027-01-31"):
        backup_keys.read(tmp_path / "key", today=date(2027, 1, 31))
    assert desk.runtime is runtime


class TestVerify:
    @pytest.fixture
    def desk(self, errata, runtime, tmp_path) -> Desk:
        desk = _filled(runtime)
        assert errata("backup", str(tmp_path / "backup"))[0] == 0
        return desk

    def failed(self, errata, *more: str) -> dict[str, str]:
        status, document = errata("verify", *more)
        found = {each["name"]: each["detail"] for each in document["checks"] if each["state"] == "failed"}
        assert status == bool(found)
        assert all(each["remedy"] for each in document["checks"] if each["state"] == "failed")
        return found

    def test_what_is_whole_is_said_to_be(self, desk, errata, tmp_path):
        assert self.failed(errata, "--backup", str(tmp_path / "backup")) == {}

    def test_a_damaged_or_missing_artifact_is_named(self, desk, errata):
        with desk.runtime.db.reading() as session:
            made = session.exec(select(TrainingSet).where(TrainingSet.version == 1)).one()
            adapter = session.exec(select(ModelVersion.adapter_sha256).where(ModelVersion.number == 9)).one()
        [weights] = desk.runtime.artifacts.contents(adapter)
        desk.runtime.artifacts.remove(weights)
        Path(desk.runtime.artifacts._object(made.artifact)).write_bytes(b"other")
        told = self.failed(errata)["artifacts"]
        assert f"training_set.artifact: artifact {made.artifact} holds" in told
        assert "model_version.adapter_sha256: there is no artifact" in told

    def test_a_lost_row_and_an_edited_entry_are_found(self, desk, errata):
        with desk.runtime.db.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            builders.forget_history(connection)
            connection.exec_driver_sql("DELETE FROM source")
            connection.exec_driver_sql("UPDATE ledger_entry SET actor = 'eve' WHERE seq = 2")
        told = self.failed(errata)
        assert "response: row" in told["references"] and told["ledger"] == "entry 2 was edited"

    def test_what_was_cut_off_the_ledgers_end_shows_against_a_backup(self, desk, errata, tmp_path):
        with desk.runtime.db.transaction() as session:
            builders.forget_history(session.connection())
            newest = session.exec(select(func.max(LedgerEntry.seq))).one()
            session.delete(session.exec(select(LedgerEntry).where(LedgerEntry.seq == newest)).one())
        assert self.failed(errata) == {}
        assert f"entry {newest}" in self.failed(errata, "--backup", str(tmp_path / "backup"))["ledger"]

    def test_a_sealed_backup_is_looked_at_with_its_key(self, desk, errata, tmp_path):
        sealed, key = str(tmp_path / "sealed"), str(tmp_path / "key")
        assert errata("backup", sealed, "--key", key, "--key-days", "7")[1]["readable_until"]
        assert errata("verify", "--backup", sealed)[0] != 0
        assert self.failed(errata, "--backup", sealed, "--key", key) == {}

    def test_the_command_restores(self, desk, errata, tmp_path, monkeypatch):
        assert errata("restore", str(tmp_path / "backup"))[1]["code"] == "wrong_state"
        monkeypatch.setenv("ERRATA_DATA_DIR", str(tmp_path / "other"))
        runtimes.from_environment().db.close()
        runtimes.from_environment.cache_clear()
        status, told = errata("restore", str(tmp_path / "backup"))
        assert (status, told["keys"].partition(":")[0]) == (0, "new")
        assert errata("verify")[0] == 0
