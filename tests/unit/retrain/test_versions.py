"""The data repository: versions that Git and DVC bring back to the byte, come what may, and rows that can be erased."""

import os
import shutil
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pygit2
import pytest
from filelock import FileLock, Timeout
from pygit2.enums import Option

from retrain import remotes
from retrain.errors import ForeignChanges, RemoteRefused, UnknownVersion, VersionTaken
from retrain.remotes import Remote
from retrain.types import Contents
from retrain.versions import DataRepository
from tests.clones import checked_out, dvc, git, git_objects, holding
from tests.limits import on_a_full_disk
from tests.storage import running_storage

MARKER = b"erase-me-7f3a"
AT = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = {"rows/part-00000.parquet": MARKER * 50, "rows/part-00001.parquet": b"kept " * 99}
LATER_ROWS = {**ROWS, "rows/part-00001.parquet": b"changed " * 99}
FACTS = {"README.md": b"# Card\n", "metrics.json": b'{"rows": 149}'}


@pytest.fixture
def repository(tmp_path):
    return DataRepository(tmp_path / "data", Remote(str(tmp_path / "remote")))


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A repository that has seen two versions and a run on each; only to look at."""
    home = tmp_path_factory.mktemp("pushed")
    repository = DataRepository(home / "data", Remote(str(home / "remote")))
    publish(repository)
    publish(repository, 2, LATER_ROWS)
    add_run(repository, 1, "a", accuracy=0.5)
    add_run(repository, 2, "b", accuracy=0.75)
    repository.push()
    return repository


@pytest.fixture
def copied(pushed, tmp_path):
    """A copy of that repository and of its remote, to change."""
    shutil.copytree(pushed.directory, tmp_path / "data")
    shutil.copytree(pushed.remote.url, tmp_path / "remote")
    return DataRepository(tmp_path / "data", Remote(str(tmp_path / "remote")))


@pytest.fixture
def unhurried(monkeypatch):
    """Leave it to the operating system when to write: a killed process is no power cut."""
    pygit2.option(Option.ENABLE_FSYNC_GITDIR, 0)
    monkeypatch.setattr(pygit2, "option", lambda *_: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def contents(repository, files, facts=FACTS):
    drafts = repository.directory.parent / "drafts"
    for path, content in files.items():
        (drafts / path).parent.mkdir(parents=True, exist_ok=True)
        (drafts / path).write_bytes(content)
    return Contents({path: drafts / path for path in files}, facts, AT)


def publish(repository, version=1, rows=ROWS, name="support-qa"):
    return repository.publish(name, version, contents(repository, rows))


def add_run(repository, version, run, accuracy=0.5):
    facts = {"spec.json": b"{}", "metrics.json": f'{{"accuracy": {accuracy}}}'.encode()}
    adapter = {"adapter/weights.safetensors": f"weights {run}".encode()}
    return repository.add_run("support-qa", version, run, contents(repository, adapter, facts))


def pulled(repository, tag, clone):
    """Clone a tag, pull what DVC holds of it, and return that."""
    pull = dvc(checked_out(repository, tag, clone), "pull")
    assert pull.returncode == 0, pull.stderr
    return {path: (clone / path).read_bytes() for path in repository.shards(tag)}


def in_set(rows):
    return {f"sets/support-qa/{path}": content for path, content in rows.items()}


def in_a_child(action: Callable[[], object], dies_at: int = 0) -> int:
    """Do something in a child process that dies on the n-th of our lines that it comes to; return its exit code."""
    if not (child := os.fork()):
        seen = set()

        def trace(frame, event, _):
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == dies_at:
                os._exit(9)
            return trace

        def trace_ours(frame, event, _):
            is_ours = frame.f_globals.get("__name__") in {"retrain.versions", "retrain.remotes"}
            return trace(frame, event, _) if is_ours else None

        try:
            sys.settrace(trace_ours)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_clone_pulls_a_version_to_the_byte_from_a_directory(pushed, tmp_path):
    assert pulled(pushed, "support-qa/v1", tmp_path / "clone") == in_set(ROWS)
    assert (tmp_path / "clone/sets/support-qa/README.md").read_bytes() == FACTS["README.md"]


def test_a_clone_pulls_a_version_to_the_byte_over_http(tmp_path):
    with running_storage() as storage:
        repository = DataRepository(tmp_path / "data", Remote(storage.url, {"method": "PUT"}))
        publish(repository)
        assert repository.push() == len(ROWS)
        assert pulled(repository, "support-qa/v1", tmp_path / "clone") == in_set(ROWS)


def test_a_runs_tag_holds_the_version_it_trained_on_and_its_adapter(pushed, tmp_path):
    adapter = {"runs/support-qa/adapter/weights.safetensors": b"weights b"}
    assert pulled(pushed, "support-qa/run-b", tmp_path / "clone") == in_set(LATER_ROWS) | adapter
    assert (tmp_path / "clone/runs/support-qa/spec.json").read_bytes() == b"{}"


def test_dvc_finds_nothing_amiss_in_a_clone(pushed, tmp_path):
    pulled(pushed, "support-qa/run-b", tmp_path / "clone")
    assert "up to date" in dvc(tmp_path / "clone", "status").stdout
    assert "in sync" in dvc(tmp_path / "clone", "status", "--cloud").stdout
    assert git(tmp_path / "clone", "status", "--porcelain") == b""


def test_dvc_compares_the_metrics_of_two_runs(pushed, tmp_path):
    clone = checked_out(pushed, "support-qa/v1", tmp_path / "clone")
    compared = dvc(clone, "metrics", "diff", "--json", "support-qa/run-a", "support-qa/run-b").stdout
    assert '"accuracy": {"old": 0.5, "new": 0.75, "diff": 0.25}' in compared


def test_versions_are_kept_apart(pushed):
    first, second = pushed.shards("support-qa/v1"), pushed.shards("support-qa/v2")
    changed = {path for path in first if first[path] != second[path]}
    assert changed == {"sets/support-qa/rows/part-00001.parquet"}
    assert git(pushed.directory, "rev-parse", "support-qa/v2^") == git(
        pushed.directory, "rev-parse", "support-qa/v1"
    )


def test_no_rows_are_git_objects(pushed):
    assert MARKER not in git_objects(pushed)


def test_publishing_twice_gives_one_commit(repository):
    first = publish(repository)
    before = git_objects(repository)
    assert publish(repository) == first
    assert git_objects(repository) == before


def test_equal_sets_give_equal_commits_in_two_repositories(tmp_path):
    first, second = DataRepository(tmp_path / "first"), DataRepository(tmp_path / "second")
    assert publish(first) == publish(second)


def test_a_version_published_with_other_content_is_refused(repository):
    publish(repository)
    with pytest.raises(VersionTaken, match="support-qa/v1"):
        publish(repository, 1, LATER_ROWS)


def test_a_version_stays_published_when_the_remote_moves(repository, tmp_path):
    first = publish(repository)
    moved = DataRepository(repository.directory, Remote(str(tmp_path / "elsewhere")))
    assert publish(moved) == first
    assert moved.push() == len(ROWS)


def test_a_run_on_an_unpublished_version_is_refused(repository):
    publish(repository)
    with pytest.raises(UnknownVersion, match="support-qa/v2"):
        add_run(repository, 2, "a")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", "-x", "a b", "a.lock", "a.", "é"])
def test_a_name_that_is_no_tag_is_refused(repository, name):
    with pytest.raises(ValueError, match="cannot be part of a tag"):
        publish(repository, name=name)


@pytest.mark.parametrize("url", ["https://token@example.org/x", "ssh://me:secret@example.org/x"])
def test_a_remote_with_credentials_in_its_url_is_refused(url):
    with pytest.raises(ValueError, match=r"example\.org holds credentials"):
        Remote(url)


def test_options_of_a_remote_are_never_committed(tmp_path):
    remote = Remote(str(tmp_path / "remote"), {"password": "sesame"})
    repository = DataRepository(tmp_path / "data", remote)
    publish(repository)
    assert not holding(b"sesame", repository.directory)
    assert b"sesame" not in git_objects(repository)
    assert "sesame" not in repr(repository)


def test_a_publisher_killed_anywhere_is_made_good_by_the_next(tmp_path, unhurried):
    whole = DataRepository(tmp_path / "whole" / "data")
    expected = publish(whole)
    for step in count(1, 3):
        repository = DataRepository(tmp_path / "killed" / "data")
        draft = contents(repository, ROWS)
        code = in_a_child(lambda at=repository, of=draft: at.publish("support-qa", 1, of), dies_at=step)
        visible = repository._digests(repository.tags())
        assert all(repository._cache().path(digest).exists() for digest in visible)
        assert publish(repository) == expected
        assert sorted(cached(repository)) == sorted(cached(whole))
        shutil.rmtree(tmp_path / "killed")
        if code == 0:
            break
    assert step > 60


def cached(repository):
    cache = repository.directory / ".dvc/cache"
    return [path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()]


def test_a_tag_that_git_left_locked_is_written(repository):
    publish(repository)
    (repository.directory / ".git/refs/tags/support-qa/v2.lock").touch()
    publish(repository, 2, LATER_ROWS)
    assert repository.shards("support-qa/v2")


def test_a_full_disk_leaves_nothing_and_the_next_attempt_succeeds(repository):
    draft = contents(repository, {"rows/part-00000.parquet": MARKER * 9999})
    error = on_a_full_disk(lambda: repository.publish("support-qa", 1, draft), max_bytes=99_999)
    assert "File too large" in error
    assert repository.tags() == []
    assert not holding(MARKER, repository.directory)
    assert repository.publish("support-qa", 1, draft)


def test_publishers_wait_for_each_other(repository):
    draft = contents(repository, ROWS)
    names = [f"set-{number}" for number in range(4)]
    with ThreadPoolExecutor() as pool:
        publishing = [pool.submit(repository.publish, name, 1, draft) for name in names]
    assert all(each.result() for each in publishing)
    assert sorted(repository.tags()) == [f"{name}/v1" for name in names]


def test_changes_by_hand_are_refused_and_kept(copied):
    (copied.directory / "notes.txt").write_text("mine")
    with pytest.raises(ForeignChanges, match=r"notes\.txt"):
        publish(copied, 3)
    assert (copied.directory / "notes.txt").read_text() == "mine"
    assert "support-qa/v3" not in copied.tags()


def test_a_branch_checked_out_by_hand_is_refused_and_kept(copied):
    git(copied.directory, "checkout", "--quiet", "-b", "mine")
    git(copied.directory, "commit", "--quiet", "--allow-empty", "-m", "mine")
    mine = git(copied.directory, "rev-parse", "mine")
    with pytest.raises(ForeignChanges, match="something else than main"):
        publish(copied, 3)
    assert git(copied.directory, "rev-parse", "HEAD") == mine


def test_a_directory_of_somebody_else_is_refused_and_kept(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/notes.txt").write_text("mine")
    git(".", "init", "--quiet", str(tmp_path))
    with pytest.raises(ForeignChanges, match="not the data repository"):
        publish(DataRepository(tmp_path / "data"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["notes.txt"]


def test_a_repository_of_somebody_else_is_refused_and_kept(tmp_path):
    git(".", "init", "--quiet", str(tmp_path / "data"))
    with pytest.raises(ForeignChanges, match="not the data repository"):
        publish(DataRepository(tmp_path / "data"))
    assert not (tmp_path / "data/.dvc").exists()


def test_a_second_push_sends_nothing(copied):
    assert copied.push() == 0


def test_a_set_stays_published_when_the_remote_refuses_and_is_sent_later(tmp_path):
    with running_storage() as storage:
        repository = DataRepository(tmp_path / "data", Remote(storage.url, {"method": "PUT"}))
        commit = publish(repository)
        storage.is_refusing = True
        with pytest.raises(RemoteRefused, match=f"{storage.url}.*403"):
            repository.push()
        assert publish(repository) == commit
        storage.is_refusing = False
        assert repository.push() == len(ROWS)


def test_a_remote_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(remotes, "_PATIENCE", {"http": {"connect_timeout": 0.1, "read_timeout": 0.1}})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        remote = Remote(f"http://127.0.0.1:{silent.getsockname()[1]}/store", {"method": "PUT"})
        repository = DataRepository(tmp_path / "data", remote)
        publish(repository)
        with pytest.raises(RemoteRefused, match=r"store: \w*Timeout"):
            repository.push()


def test_a_fault_of_our_own_is_no_refusal_of_the_remote(repository, monkeypatch):
    publish(repository)
    monkeypatch.setattr(remotes, "_send", lambda files, source: None)
    with pytest.raises(TypeError):
        repository.push()


def test_a_remote_that_is_no_directory_is_named(repository, tmp_path):
    (tmp_path / "remote").write_text("a file")
    publish(repository)
    with pytest.raises(RemoteRefused, match=r"remote: NotADirectoryError"):
        repository.push()


def test_a_kind_of_remote_that_is_not_installed_is_named(tmp_path):
    repository = DataRepository(tmp_path / "data", Remote("gs://bucket"))
    publish(repository)
    with pytest.raises(RemoteRefused, match=r"gs://bucket.*requires 'dvc-gs'.*: pip install 'dvc\[gs\]'$"):
        repository.push()


@pytest.mark.parametrize(
    "options", [{"read_timeout": "soon"}, {"auth": "basic"}, {"auth": "sesame"}, {"colour": "blue"}]
)
def test_options_that_a_remote_cannot_use_are_a_refusal(tmp_path, options):
    repository = DataRepository(tmp_path / "data", Remote("http://127.0.0.1:9/store", options))
    publish(repository)
    with pytest.raises(RemoteRefused, match="127"):
        repository.push()


def test_forgotten_text_is_nowhere(copied, tmp_path):
    (copied.directory / "sets/support-qa/rows").mkdir(parents=True)
    (copied.directory / "sets/support-qa/rows/part-00000.parquet").write_bytes(
        ROWS["rows/part-00000.parquet"]
    )
    assert len(holding(MARKER, copied.directory, copied.remote.url)) == 3
    copied.forget(lambda: [copied.shards("support-qa/v1")["sets/support-qa/rows/part-00000.parquet"]])
    assert not holding(MARKER, copied.directory, copied.remote.url)
    assert MARKER not in git_objects(copied)


def test_forgotten_text_is_not_on_an_http_remote(tmp_path):
    with running_storage() as storage:
        repository = DataRepository(tmp_path / "data", Remote(storage.url, {"method": "PUT"}))
        publish(repository)
        repository.push()
        gone = repository.shards("support-qa/v1")["sets/support-qa/rows/part-00000.parquet"]
        repository.forget(lambda: [gone])
        repository.forget(lambda: [gone])
        assert list(storage.objects.values()) == [ROWS["rows/part-00001.parquet"]]
        assert repository.push() == 0


def test_a_remote_that_keeps_what_should_be_forgotten_is_named(tmp_path):
    with running_storage() as storage:
        repository = DataRepository(tmp_path / "data", Remote(storage.url, {"method": "PUT"}))
        publish(repository)
        repository.push()
        storage.is_refusing = True
        with pytest.raises(RemoteRefused, match="403"):
            repository.forget(repository.shards("support-qa/v1").values)
        assert not holding(MARKER, repository.directory)


def test_the_history_of_a_forgotten_shard_stays(repository, tmp_path):
    commit = publish(repository)
    repository.push()
    before = repository.shards("support-qa/v1")
    repository.forget(lambda: [before["sets/support-qa/rows/part-00000.parquet"]])
    assert repository.shards("support-qa/v1") == before
    assert publish(repository) == commit
    pull = dvc(checked_out(repository, "support-qa/v1", tmp_path / "clone"), "pull")
    assert "part-00000.parquet" in pull.stderr
    assert not holding(MARKER, tmp_path / "clone", repository.directory)
    assert (tmp_path / "clone/sets/support-qa/rows/part-00001.parquet").read_bytes() == b"kept " * 99


def test_collecting_keeps_all_that_a_kept_tag_needs(copied):
    assert copied.collect(lambda: ["support-qa/run-b"]) == 2
    kept = copied.shards("support-qa/run-b")
    assert sorted(cached(copied)) == sorted(f"files/md5/{each[:2]}/{each[2:]}" for each in kept.values())


def test_a_kept_tag_can_be_pulled_from_what_was_collected(repository, tmp_path):
    publish(repository)
    publish(repository, 2, LATER_ROWS)
    repository.push()
    assert repository.collect(lambda: ["support-qa/v1"]) == 1
    assert pulled(repository, "support-qa/v1", tmp_path / "clone") == in_set(ROWS)


def test_what_the_remote_lacks_is_not_collected(repository, tmp_path):
    (tmp_path / "remote").write_text("a file")
    publish(repository)
    publish(repository, 2, LATER_ROWS)
    whole = cached(repository)
    with pytest.raises(RemoteRefused):
        repository.collect(lambda: ["support-qa/v2"])
    (tmp_path / "remote").unlink()
    assert repository.collect(lambda: ["support-qa/v2"]) == 0
    assert cached(repository) == whole and repository.unpushed(["support-qa/v1"])
    assert repository.push() == 3 and not repository.unpushed(repository.tags())
    assert repository.collect(lambda: ["support-qa/v2"]) == 1


def test_while_an_http_remote_refuses_nothing_is_collected(tmp_path):
    with running_storage() as storage:
        repository = DataRepository(tmp_path / "data", Remote(storage.url, {"method": "PUT"}))
        publish(repository)
        publish(repository, 2, LATER_ROWS)
        repository.push()
        storage.is_refusing = True
        assert repository.collect(lambda: ["support-qa/v2"]) == 0


def test_what_the_remote_has_half_of_is_not_collected(copied):
    digest = copied.shards("support-qa/v1")["sets/support-qa/rows/part-00001.parquet"]
    half = Path(copied.remote.url, "files/md5", digest[:2], digest[2:])
    half.chmod(0o644)
    half.write_bytes(b"kept")
    assert copied.collect(lambda: ["support-qa/v2"]) == 2  # the adapters
    assert copied.unpushed(["support-qa/v1"]) == {digest}


def test_a_repository_without_a_remote_collects_all_that_is_not_needed(tmp_path):
    repository = DataRepository(tmp_path / "data")
    publish(repository)
    publish(repository, 2, LATER_ROWS)
    assert repository.collect(lambda: ["support-qa/v2"]) == 1


def test_nothing_is_published_between_what_is_needed_and_the_removal_of_the_rest(copied):
    def needed():
        with pytest.raises(Timeout):
            FileLock(copied.directory.with_name(".data.git.lock"), timeout=0).acquire()
        return copied.tags()

    assert copied.collect(needed) == 0


def test_collecting_for_an_unknown_tag_removes_nothing(copied):
    before = cached(copied)
    with pytest.raises(UnknownVersion, match="support-qa/v9"):
        copied.collect(lambda: ["support-qa/v1", "support-qa/v9"])
    assert cached(copied) == before


def test_an_untouched_repository_has_nothing_to_push_or_forget(repository):
    assert repository.push() == 0
    repository.forget(lambda: ["0" * 32])
