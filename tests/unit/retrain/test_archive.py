"""Archives of the code that trained: deterministic, and each runs its own code."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from retrain import archive

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "project" / "retrain"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__pycache__" / "answer.pyc").write_bytes(b"old")
    (package / "__init__.py").touch()
    (package / "words.json").write_text('"answer"')
    (package / "answer.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "print(Path(__file__).with_name('words.json').read_text(), 41)\n"
        "sys.exit(len(sys.argv) - 1)\n"
    )
    return tmp_path / "project"


def test_two_archives_that_differ_in_one_line_each_give_their_own_result(project, tmp_path):
    first = archive.make(project)
    source = project / "retrain" / "answer.py"
    source.write_text(source.read_text().replace("41", "42"))
    second = archive.make(project)
    runs = [archive.run(each, ["retrain.answer"], workdir=tmp_path) for each in (first, second)]
    assert [run.stdout for run in runs] == ['"answer" 41\n', '"answer" 42\n']


def test_this_code_cannot_shadow_the_archived_one(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "retrain.py").write_text("raise SystemExit('shadowed')")
    run = archive.run(archive.make(project), ["retrain.answer", "one", "two"], workdir=tmp_path)
    assert (run.stdout, run.stderr, run.returncode) == ('"answer" 41\n', "", 2)


def test_a_run_leaves_nothing_behind(project, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    archive.run(archive.make(project), ["retrain.answer"], workdir=work)
    assert list(work.iterdir()) == []


def test_equal_sources_give_equal_bytes(project):
    before = archive.make(project)
    for path in project.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (0, 0))
    assert archive.make(project) == before


def test_an_archive_holds_sources_and_lock_but_no_caches(project):
    with zipfile.ZipFile(io.BytesIO(archive.make(project))) as found:
        assert found.namelist() == [
            "packages.lock",
            "retrain/__init__.py",
            "retrain/answer.py",
            "retrain/words.json",
        ]
        assert found.read("packages.lock").decode() == archive.lock()
        assert {entry.date_time for entry in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_lock_pins_each_package_once_in_order():
    names = [line.split("==")[0] for line in archive.lock().splitlines()]
    assert names == sorted(set(names))
    assert "pytest" in names


def test_this_package_archives_and_imports(tmp_path):
    run = archive.run(archive.make(ROOT), ["retrain.near_duplicates"], workdir=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
