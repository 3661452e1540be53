"""What the database layer, the migrations and the ledger promise, on SQLite and PostgreSQL."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    delete,
    insert,
    inspect,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.schema import CreateTable
from sqlmodel import Session, SQLModel, col, select

from retrain.types import sha256_of
from service import ledger, migrations
from service.db import Database
from service.errors import ConfigurationError
from service.stages import promotion
from service.tables import (
    Decision,
    InboxEvent,
    LedgerEntry,
    User,
    uuid7,
)
from service.tables.project import Role
from tests import builders
from tests.repetitions import CHOSEN

COUNTER = Table("counter", MetaData(), Column("n", Integer))
ADDITIONS = 25
ENTRIES = 6
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CHAINED_FALSELY = {"previous": f"sha256:{'1' * 64}", "sha256": f"sha256:{'2' * 64}"}
EDITS = {
    "id": uuid4(),
    "actor": "eve",
    "action": "undo",
    "subject": "another",
    "facts": {"number": 99},
    "created_at": EPOCH,
    "seq": 99,
    **CHAINED_FALSELY,
}


@pytest.fixture
def db(any_database: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    db = Database(any_database)
    yield db
    db.close()


@pytest.fixture
def empty_db(empty_database: str) -> Iterator[Database]:
    """A database of each kind without tables."""
    db = Database(empty_database)
    yield db
    db.close()


class TestTransactions:
    """Each of these would fail without an error message if the hooks of `service.db` were off."""

    def test_no_update_is_lost_when_threads_read_then_write(self, db):
        _make_counter(db.engine)
        _count_from_threads(lambda: Session(db.engine))
        assert _counted(db.engine) == CHOSEN.racing_threads * ADDITIONS

    def test_without_the_hooks_sqlite_loses_updates_without_an_error(self, tmp_path):
        engine = create_engine(f"sqlite:///{tmp_path / 'plain.db'}", connect_args={"timeout": 10})
        _make_counter(engine)
        _count_from_threads(lambda: Session(engine))
        counted = _counted(engine)
        engine.dispose()
        assert counted < CHOSEN.racing_threads * ADDITIONS

    def test_sqlite_waits_for_the_disk_and_checks_foreign_keys(self, tmp_path):
        db = Database(f"sqlite:///{tmp_path / 'errata.db'}")
        with db.engine.connect() as connection:
            found = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
            }
        db.close()
        assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "trusted_schema": 0}

    def test_a_row_without_its_cause_is_refused(self, db):
        with pytest.raises(IntegrityError), db.transaction() as session:
            session.add(InboxEvent(project_id=uuid4(), source="x", natural_key="x", facts={}))

    def test_reading_refuses_writes(self, db):
        with db.reading() as session, pytest.raises(DBAPIError):
            session.execute(insert(User).values(**_user("ann").model_dump()))
        with db.transaction() as session:
            session.add(_user("ann"))
        assert _names(db) == ["ann"]

    def test_a_transaction_that_raises_leaves_nothing(self, db):
        with suppress(ZeroDivisionError), db.transaction() as session:
            session.add(_user("ann"))
            session.flush()
            raise ZeroDivisionError
        assert _names(db) == []

    def test_the_leases_clock_goes_on_within_a_transaction(self, db):
        with db.transaction() as session:
            first, second = db.now(session), db.now(session)
        assert first < second
        assert first.tzinfo is UTC
        assert abs(first - datetime.now(UTC)) < timedelta(seconds=10)


class TestColumns:
    def test_a_moment_comes_back_as_it_was_in_utc(self, db):
        east = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
        with db.transaction() as session:
            session.add(_user("ann", disabled_at=east))
        with db.reading() as session:
            read = session.exec(select(User.disabled_at)).one()
        assert (read, read.tzinfo) == (east, UTC)

    def test_a_naive_moment_is_refused(self, db):
        with pytest.raises(StatementError, match="naive datetime"), db.transaction() as session:
            session.add(_user("ann", disabled_at=datetime(2026, 3, 29)))  # noqa: DTZ001  the very mistake

    def test_a_value_outside_its_enum_is_refused_by_the_database_itself(self, db):
        with pytest.raises(IntegrityError), db.engine.begin() as connection:
            connection.execute(
                text("INSERT INTO \"user\" (id, created_at, name, role) VALUES (:id, :at, 'eve', 'root')"),
                {"id": uuid7().hex, "at": datetime.now(UTC).isoformat(" ")},
            )

    def test_ids_are_ordered_by_time_and_distinct(self):
        made = [uuid7() for _ in range(10_000)]
        assert len(set(made)) == len(made)
        assert [each.int >> 64 for each in made] == sorted(each.int >> 64 for each in made)
        assert {(each.version, each.variant) for each in made} == {(7, "specified in RFC 4122")}


class TestMigrations:
    def test_tables_and_revisions_agree(self, empty_db):
        migrations.upgrade(empty_db)
        with empty_db.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, SQLModel.metadata) == []

    def test_a_revision_is_named_after_its_tables(self):
        """So that a database of an unreleased state with other tables is refused, and not half understood."""
        dialects = (sqlite.dialect(), postgresql.dialect())
        tables = [
            str(CreateTable(table).compile(dialect=dialect))
            for dialect in dialects
            for table in SQLModel.metadata.sorted_tables
        ]
        assert migrations.head() == f"v1_{sha256_of(tables).removeprefix('sha256:')[:8]}"

    def test_upgrading_twice_changes_nothing(self, empty_db):
        migrations.upgrade(empty_db)
        with empty_db.transaction() as session:
            session.add(_user("ann"))
        migrations.upgrade(empty_db)
        assert _names(empty_db) == ["ann"]
        assert migrations.revision(empty_db) == migrations.head()

    def test_every_revision_can_be_taken_back(self, empty_db):
        migrations.upgrade(empty_db)
        _downgrade(empty_db)
        assert inspect(empty_db.engine).get_table_names() == ["alembic_version"]
        migrations.upgrade(empty_db)
        assert migrations.revision(empty_db) == migrations.head()

    def test_of_a_task_one_settlement_is_in_force(self, empty_db):
        migrations.upgrade(empty_db)
        with empty_db.transaction() as session:
            project = builders.add_project(session)
            task = builders.add_task(session, project, builders.add_response(session, project))
            builders.add_settlement(session, task, withdrawn_at=EPOCH)
            builders.add_settlement(session, task)
        with pytest.raises(IntegrityError), empty_db.transaction() as session:
            builders.add_settlement(session, task)

    def test_a_newer_schema_is_refused_and_left_alone(self, db):
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        for refuse in (migrations.upgrade, migrations.check):
            with pytest.raises(ConfigurationError, match="ERRATA_DATABASE_URL: the schema 9999"):
                refuse(db)
        assert migrations.revision(db) == "9999"

    def test_an_empty_database_has_no_revision(self, empty_db):
        assert migrations.revision(empty_db) is None
        migrations.check(empty_db)


class TestLedger:
    def test_a_chain_that_nobody_touched_is_intact(self, db):
        _write(db)
        assert _broken(db) == []

    def test_threads_that_append_at_once_make_one_chain(self, db):
        def add(number: int) -> None:
            with db.transaction() as session:
                ledger.append(session, actor="ann", action="act", subject=str(number))

        with ThreadPoolExecutor(CHOSEN.racing_threads) as pool:
            list(pool.map(add, range(2 * CHOSEN.racing_threads)))
        assert _broken(db) == []
        assert _length(db) == 2 * CHOSEN.racing_threads

    @pytest.mark.parametrize("column", EDITS)
    def test_an_edited_entry_is_found(self, tampering, column):
        for number in range(1, ENTRIES + 1):
            with tampering() as connection:
                _edit(connection, number, **{column: EDITS[column]})
                assert _broken_in(connection), number

    def test_a_deleted_entry_is_found(self, tampering):
        for number in range(1, ENTRIES):
            with tampering() as connection:
                _delete(connection, number)
                assert f"entry {number} is missing" in _broken_in(connection)

    def test_a_deleted_entry_is_found_although_the_later_ones_moved_up(self, tampering):
        for number in range(1, ENTRIES):
            with tampering() as connection:
                _delete(connection, number)
                for later in range(number + 1, ENTRIES + 1):
                    _edit(connection, later, seq=later - 1)
                assert _broken_in(connection), number

    def test_two_swapped_entries_are_found(self, tampering):
        for first in range(1, ENTRIES):
            with tampering() as connection:
                for number, moved in ((first, 99), (first + 1, first), (99, first + 1)):
                    _edit(connection, number, seq=moved)
                assert _broken_in(connection), first

    def test_an_entry_put_in_between_is_found(self, tampering):
        with tampering() as connection:
            for later in range(ENTRIES, 3, -1):
                _edit(connection, later, seq=later + 1)
            forged = {"actor": "eve", "action": "act", "subject": "4", "facts": {}, **CHAINED_FALSELY}
            connection.execute(insert(LedgerEntry).values(id=uuid7(), created_at=EPOCH, seq=4, **forged))
            assert _broken_in(connection)

    def test_whatever_a_row_is_made_of_is_chained(self):
        assert set(LedgerEntry.__table__.columns.keys()) == {"project_id", *EDITS}

    def test_a_ledger_without_entries_is_none(self, db, tampering):
        with db.transaction() as session:
            builders.add_project(session)
        with tampering() as connection:
            connection.execute(delete(LedgerEntry))
            assert _broken_in(connection) == ["every entry is missing"]

    def test_a_thousand_mutations_are_found(self, tampering):
        draw = Random(CHOSEN.mutations)
        for _ in range(CHOSEN.mutations):
            with tampering() as connection:
                _mutate(connection, draw)
                assert _broken_in(connection)

    @pytest.mark.parametrize("table", ["ledger_entry", "promotion", "approval"])
    @pytest.mark.parametrize("change", ["UPDATE {} SET created_at = created_at", "DELETE FROM {}"])
    def test_the_database_itself_refuses_to_change_history(self, db, table, change):
        _write(db)
        with db.transaction() as session:
            _decide(session)
        with pytest.raises(DBAPIError, match="rows are only added"), db.engine.begin() as connection:
            connection.exec_driver_sql(change.format(table))
        with db.engine.connect() as connection, connection.begin() as transaction:
            builders.forget_history(connection)
            assert connection.exec_driver_sql(change.format(table)).rowcount > 0
            transaction.rollback()

    def test_removed_newest_entries_show_only_against_a_head_kept_elsewhere(self, tampering):
        with tampering() as connection:
            _delete(connection, ENTRIES)
            _delete(connection, ENTRIES - 1)
            assert _broken_in(connection) == []

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        facts=st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers(-(2**53), 2**53)
                | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
                lambda inner: st.lists(inner, max_size=3),
            ),
            max_size=4,
        )
    )
    def test_whatever_facts_are_written_read_back_as_hashed(self, db, facts):
        with db.transaction() as session:
            ledger.append(session, actor="ann", action="act", subject="x", facts=facts)
        assert _broken(db) == []


@pytest.fixture
def tampering(db: Database) -> Callable[[], AbstractContextManager[Connection]]:
    """Opens a ledger of some entries to manipulation, and undoes it."""
    _write(db)

    @contextmanager
    def opened() -> Iterator[Connection]:
        with db.engine.connect() as connection, connection.begin() as transaction:
            builders.forget_history(connection)
            yield connection
            transaction.rollback()

    return opened


def _make_counter(engine: Engine) -> None:
    with engine.begin() as connection:
        COUNTER.create(connection)
        connection.execute(insert(COUNTER).values(n=0))


def _count_from_threads(open_session: Callable[[], Session]) -> None:
    def add_all(_: int) -> None:
        for _ in range(ADDITIONS):
            with open_session() as session, session.begin():
                seen = session.execute(select(COUNTER.c.n).with_for_update()).scalar_one()
                session.execute(update(COUNTER).values(n=seen + 1))

    with ThreadPoolExecutor(CHOSEN.racing_threads) as pool:
        list(pool.map(add_all, range(CHOSEN.racing_threads)))


def _counted(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(COUNTER.c.n)).scalar_one()


def _user(name: str, **columns: object) -> User:
    return User(name=name, role=Role.OPERATOR, **columns)


def _names(db: Database) -> list[str]:
    with db.reading() as session:
        return list(session.exec(select(User.name)).all())


def _downgrade(db: Database) -> None:
    config = migrations._config()
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")


def _write(db: Database) -> None:
    for number in range(1, ENTRIES + 1):
        with db.transaction() as session:
            facts = {"number": number}
            ledger.append(session, actor="ann", action="act", subject=str(number), facts=facts)


def _decide(session: Session) -> None:
    """A decision on a challenger, in a project of its own."""
    project = builders.add_project(session)
    builders.add_criteria(session, project)
    evaluation = builders.add_evaluation(session, project, builders.add_challenger(session, project))
    user, _ = builders.add_person(session, Role.APPROVER)
    seen = promotion.what_to_approve(session, evaluation)
    promotion.decide(
        session,
        project,
        evaluation_id=evaluation.id,
        model_version=1,
        adapter_sha256=seen["adapter"],
        training_set=seen["training_set"],
        decision=Decision.APPROVED,
        reason="better",
        user=user,
    )


def _mutate(connection: Connection, draw: Random) -> None:
    """Edit an entry, delete one with others after it, move one, or swap two."""
    number = draw.randint(1, ENTRIES - 1)
    other = draw.choice([each for each in range(1, ENTRIES + 1) if each != number])
    kind = draw.choice(["edit", "delete", "move", "swap"])
    if kind == "edit":
        column = draw.choice(["actor", "action", "subject", "previous", "sha256"])
        _edit(connection, number, **{column: f"{draw.getrandbits(64):x}"})
    elif kind == "delete":
        _delete(connection, number)
    elif kind == "move":
        _edit(connection, number, seq=ENTRIES + draw.randint(1, 9))
    else:
        for entry, moved in ((number, 99), (other, number), (99, other)):
            _edit(connection, entry, seq=moved)


def _edit(connection: Connection, number: int, **columns: object) -> None:
    changed = connection.execute(update(LedgerEntry).where(col(LedgerEntry.seq) == number).values(**columns))
    assert changed.rowcount == 1


def _delete(connection: Connection, number: int) -> None:
    assert connection.execute(delete(LedgerEntry).where(col(LedgerEntry.seq) == number)).rowcount == 1


def _broken(db: Database) -> list[str]:
    with db.reading() as session:
        return list(ledger.broken(session))


def _broken_in(connection: Connection) -> list[str]:
    with Session(connection) as session:
        return list(ledger.broken(session))


def _length(db: Database) -> int:
    with db.reading() as session:
        return len(session.exec(select(LedgerEntry.id)).all())
