"""The store: names are hashes, and nothing half-written or altered is ever handed out."""

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retrain.artifacts import ArtifactStore, name_of
from retrain.errors import BrokenArtifact, MissingArtifact
from retrain.types import canonical_json
from tests.limits import on_a_full_disk
from tests.s3 import KEYS, running_s3

ABSENT = f"sha256:{'0' * 64}"
KILLED_HALF_WAY = """
import os, signal, sys
from retrain.artifacts import ArtifactStore

class Source:
    def __init__(self):
        self.chunks = [b"first half"]

    def read(self, size):
        if self.chunks:
            return self.chunks.pop()
        os.kill(os.getpid(), signal.SIGKILL)

ArtifactStore(sys.argv[1]).put(Source())
"""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "artifacts"


@pytest.fixture
def store(root):
    return ArtifactStore(f"file://{root}")


@pytest.fixture(scope="module")
def s3():
    """The URL of a store in a bucket, which the environment says how to reach, as for any program that reads S3."""
    with running_s3() as endpoint, pytest.MonkeyPatch.context() as environment:
        for name, value in {"endpoint_url": endpoint, **KEYS}.items():
            environment.setenv(f"AWS_{name.upper()}", value)
        yield "s3://sets/artifacts"


@pytest.fixture(params=["file", "path", "memory", "s3"])
def any_store(request, root):
    """A store of each kind."""
    if request.param == "s3":
        return ArtifactStore(request.getfixturevalue("s3"))
    return ArtifactStore(
        {"file": "file://{}", "path": "{}", "memory": "memory://{}"}[request.param].format(root)
    )


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    (folder / "nested").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(bytes(3_000_000))
    (folder / "nested" / "config.json").write_text("{}")
    return folder


def the_object(root, name):
    digest = name.removeprefix("sha256:")
    return root / "objects" / digest[:2] / digest[2:]


def test_bytes_come_back_under_their_hash(any_store):
    name = any_store.put_bytes(b"adapter")
    assert name == f"sha256:{hashlib.sha256(b'adapter').hexdigest()}"
    assert any_store.exists(name)
    assert any_store.get_bytes(name) == b"adapter"


def test_a_directory_comes_back_whole(any_store, adapter, tmp_path):
    name = any_store.put_directory(adapter)
    any_store.fetch_directory(name, tmp_path / "copy")
    assert (tmp_path / "copy/nested/config.json").read_text() == "{}"
    assert (tmp_path / "copy/weights.safetensors").read_bytes() == bytes(3_000_000)
    assert any_store.put_directory(tmp_path / "copy") == name
    any_store.verify_directory(name)


def test_stored_and_fetched_files_are_readable_by_all(store, root, adapter, tmp_path):
    name = store.put_directory(adapter)
    store.fetch_directory(name, tmp_path / "copy")
    for path in (the_object(root, name), tmp_path / "copy/weights.safetensors"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_object_is_never_written_again(store, root):
    name = store.put_bytes(b"adapter")
    before = the_object(root, name).stat()
    assert store.put_bytes(b"adapter") == name
    assert the_object(root, name).stat().st_ino == before.st_ino


def test_an_object_that_is_stored_again_counts_as_stored_then(store, root):
    name = store.put_bytes(b"adapter")
    os.utime(the_object(root, name), (0, 0))
    store.put_bytes(b"adapter")
    assert store.remove_others([], before=datetime.now(UTC) - timedelta(days=1)) == 1


def test_others_are_removed_unless_they_were_stored_since(any_store):
    yesterday, tomorrow = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    any_store.remove_others([], before=tomorrow)  # the bucket has those of other tests
    kept, other = any_store.put_bytes(b"kept"), any_store.put_bytes(b"other")
    assert any_store.remove_others([kept], before=yesterday) == 1
    assert any_store.exists(other)
    assert any_store.remove_others([kept, "no name"], before=tomorrow) == 0
    assert any_store.exists(kept) and not any_store.exists(other)


def test_what_was_removed_is_missing_and_can_be_stored_again(any_store, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"content")
    name = any_store.put_file(file)
    assert name_of(file) == name
    any_store.remove(name)
    any_store.remove(name)
    with pytest.raises(MissingArtifact):
        any_store.get_bytes(name)
    assert any_store.put_file(file) == name


def test_altered_content_is_never_handed_out(store, root, adapter, tmp_path):
    name = store.put_directory(adapter)
    weights = f"sha256:{hashlib.sha256(bytes(3_000_000)).hexdigest()}"
    the_object(root, weights).write_bytes(b"\1" + bytes(2_999_999))
    for read in (store.verify, store.get_bytes):
        with pytest.raises(BrokenArtifact, match=weights):
            read(weights)
    with pytest.raises(BrokenArtifact, match=weights):
        store.verify_directory(name)
    with pytest.raises(BrokenArtifact, match=weights):
        store.fetch_directory(name, tmp_path / "copy")
    assert not list(tmp_path.glob("*copy*"))
    assert not list(tmp_path.glob(".fetch*"))


def test_a_writer_that_fails_half_way_leaves_nothing(store, root):
    class Fails(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError("disk on fire")
            return super().read(4)

    with pytest.raises(OSError, match="disk on fire"):
        store.put(Fails(b"half written"))
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_a_full_disk_leaves_nothing_and_the_next_attempt_succeeds(store, root):
    content = bytes(100_000)
    assert "File too large" in on_a_full_disk(lambda: store.put_bytes(content), max_bytes=50_000)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert store.get_bytes(store.put_bytes(content)) == content


def test_a_damaged_object_is_replaced_when_it_is_stored_again(any_store):
    name = any_store.put_bytes(b"content")
    any_store._files.pipe_file(any_store._object(name), b"c0ntent")
    with pytest.raises(BrokenArtifact):
        any_store.get_bytes(name)
    assert any_store.put_bytes(b"content") == name
    assert any_store.get_bytes(name) == b"content"


def test_a_writer_killed_half_way_leaves_no_object(store, root):
    here = str(Path(__file__).parents[3])
    run = subprocess.run(
        [sys.executable, "-c", KILLED_HALF_WAY, str(root)],
        env={**os.environ, "PYTHONPATH": here},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert not (root / "objects").exists()
    assert store.get_bytes(store.put_bytes(b"first half")) == b"first half"


def test_a_fetch_never_replaces_what_is_there(store, adapter, tmp_path):
    name = store.put_directory(adapter)
    with pytest.raises(FileExistsError):
        store.fetch_directory(name, tmp_path)


@pytest.mark.parametrize("name", [ABSENT, "sha256:../../etc/passwd", "", "sha256:AB", f"{ABSENT}\n"])
def test_a_name_without_object_is_missing(store, name):
    with pytest.raises(MissingArtifact):
        store.get_bytes(name)


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "", ".", "a//b", "a\0b"]
)
def test_a_manifest_that_leaves_its_directory_is_refused(store, tmp_path, path):
    inner = store.put_bytes(b"evil")
    name = store.put_bytes(canonical_json({"good": _entry(inner), path: _entry(inner)}))
    with pytest.raises(BrokenArtifact, match="leaves the directory"):
        store.fetch_directory(name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("document", [b"[]", b"{", b"\xff", b'{"a": 1}', b'{"a": {"size": 1}}', b"null"])
def test_what_is_no_manifest_is_refused(store, tmp_path, document):
    with pytest.raises(BrokenArtifact, match="no directory's manifest"):
        store.fetch_directory(store.put_bytes(document), tmp_path / "copy")


def test_a_file_of_another_size_than_its_manifest_says_is_refused(store, tmp_path):
    inner = store.put_bytes(b"evil")
    name = store.put_bytes(canonical_json({"a": {"sha256": inner, "size": 5}}))
    with pytest.raises(BrokenArtifact, match="4 bytes"):
        store.fetch_directory(name, tmp_path / "copy")


def test_a_directory_with_a_link_is_not_stored(store, adapter):
    (adapter / "link").symlink_to("/etc/passwd")
    with pytest.raises(BrokenArtifact, match="no plain file"):
        store.put_directory(adapter)


def _entry(name):
    return {"sha256": name, "size": 4}
