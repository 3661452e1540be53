"""The launcher's decisions, without network and without installing anything."""

import ast
import errno
import importlib.util
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import bootstrap
import pytest

SCRIPT = Path(bootstrap.__file__)


class Became(Exception):
    """The launcher would be another program from here on."""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of what the set-up reads, in a folder of its own."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(bootstrap.ROOT / "pyproject.toml", tmp_path)
    shutil.copy(bootstrap.CONSTRAINTS, tmp_path / "deploy")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "CONSTRAINTS", tmp_path / "deploy" / "constraints.txt")
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(bootstrap, "LOG", tmp_path / ".venv" / "bootstrap.log")
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """The command that would have replaced the launcher."""
    commands = []

    def become(path, command):
        commands.append(command[1:])
        raise Became

    monkeypatch.setattr(bootstrap, "make_ready", commands.append)
    monkeypatch.setattr(bootstrap, "find_browser", lambda: "/usr/bin/chromium")
    monkeypatch.setattr(os, "chdir", lambda path: None)
    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setenv("CHROME_PATH", "")
    return commands


@pytest.fixture
def no_programs(monkeypatch):
    monkeypatch.delenv("CHROME_PATH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(bootstrap, "find_playwrights_browser", lambda: None)


def make_environment(root, *, version=sys.version_info, made_for=None):
    venv = root / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    command = f"/usr/bin/python3 -m venv {made_for or venv}"
    facts = f"home = /usr/bin\nversion = {version[0]}.{version[1]}.9\ncommand = {command}\n"
    (venv / "pyvenv.cfg").write_text(facts)
    return venv


class TestVerbs:
    @pytest.mark.parametrize(
        ("verb", "profile", "command"),
        [
            ("demo", "run", ["-P", "-m", "service.demo", "--x"]),
            ("up", "run", ["-P", "-m", "service.cli", "up", "--x"]),
            ("errata", "run", ["-P", "-m", "service.cli", "--x"]),
            ("test", "dev", [*bootstrap.COMMANDS["test"], "--x"]),
            ("bench", "dev", ["-m", "tests.benchmarks", "--x"]),
        ],
    )
    def test_a_verb_sets_up_its_profile_and_passes_its_arguments_on(self, started, verb, profile, command):
        with pytest.raises(Became):
            bootstrap.main([verb, "--x"])
        assert started == [profile, command]

    def test_the_demo_needs_no_test_tools(self):
        assert "dev" not in bootstrap.EXTRAS["run"]

    def test_the_tests_are_told_which_browser_to_use(self, started):
        with pytest.raises(Became):
            bootstrap.main(["test"])
        assert os.environ["CHROME_PATH"] == "/usr/bin/chromium"

    def test_check_ends_with_the_tests(self, started, monkeypatch):
        ran = []
        monkeypatch.setattr(bootstrap, "timed", lambda command: ran.append(command) or 0)
        with pytest.raises(Became):
            bootstrap.main(["check"])
        assert (ran, started[-1]) == (list(bootstrap.CHECKS), list(bootstrap.COMMANDS["test"]))

    def test_check_stops_at_the_first_failure(self, started, monkeypatch):
        ran = []
        monkeypatch.setattr(bootstrap, "timed", lambda command: ran.append(command) or 4)
        assert bootstrap.main(["check"]) == 4
        assert (len(ran), started) == (1, ["dev"])

    def test_fix_formats_even_what_it_could_not_repair(self, started, monkeypatch):
        codes = iter([1, 0])
        monkeypatch.setattr(bootstrap, "timed", lambda command: next(codes))
        assert bootstrap.main(["fix"]) == 1
        assert next(codes, None) is None

    def test_help_is_what_no_verb_means(self, capsys):
        assert bootstrap.main([]) == 0
        assert "./run demo" in capsys.readouterr().out

    def test_an_unknown_verb_is_a_usage_error_in_one_line(self, capsys):
        assert bootstrap.main(["dmo"]) == 2
        assert capsys.readouterr().err.splitlines() == [
            "run: no verb dmo: one of demo, up, errata, bench, test, check, fix, help"
        ]


class TestStamp:
    @pytest.fixture(autouse=True)
    def ready(self, project):
        make_environment(project)
        bootstrap.stamp_of("run").write_text(bootstrap.fingerprint("run"))

    def test_a_stamped_environment_is_ready(self):
        assert bootstrap.is_ready("run")

    def test_a_profile_is_stamped_by_itself(self):
        assert not bootstrap.is_ready("dev")

    @pytest.mark.parametrize("file", ["pyproject.toml", "deploy/constraints.txt"])
    def test_a_changed_input_is_set_up_again(self, project, file):
        with (project / file).open("a") as changed:
            changed.write("# changed\n")
        assert not bootstrap.is_ready("run")

    def test_another_python_is_set_up_again(self, monkeypatch):
        monkeypatch.setattr(sys, "version_info", (3, 99, 0))
        assert not bootstrap.is_ready("run")

    def test_a_moved_folder_is_set_up_again(self, project, tmp_path_factory, monkeypatch):
        elsewhere = tmp_path_factory.mktemp("moved") / ".venv"
        shutil.move(project / ".venv", elsewhere)
        monkeypatch.setattr(bootstrap, "VENV", elsewhere)
        monkeypatch.setattr(bootstrap, "PYTHON", elsewhere / "bin" / "python")
        assert not bootstrap.is_ready("run")

    def test_an_environment_whose_python_is_gone_is_set_up_again(self, project):
        (project / ".venv" / "bin" / "python").unlink()
        assert not bootstrap.is_ready("run")


class TestEnvironment:
    def test_one_made_here_by_this_python_is_kept(self, project):
        assert bootstrap.is_usable(make_environment(project))

    def test_one_of_another_python_is_not_kept(self, project):
        assert not bootstrap.is_usable(make_environment(project, version=(3, 8)))

    def test_one_made_elsewhere_is_not_kept(self, project):
        assert not bootstrap.is_usable(make_environment(project, made_for="/elsewhere/.venv"))

    def test_one_interrupted_at_birth_is_not_kept(self, project):
        venv = make_environment(project)
        (venv / "pyvenv.cfg").unlink()
        assert not bootstrap.is_usable(venv)

    def test_what_an_interrupted_pip_left_is_dropped(self, tmp_path):
        for name in ("whole-1.dist-info", "torn-1.dist-info", "~orch", "torch"):
            (tmp_path / name).mkdir()
        (tmp_path / "whole-1.dist-info" / "INSTALLER").touch()
        bootstrap.clear_unfinished(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["torch", "whole-1.dist-info"]


class TestTorch:
    @pytest.fixture(autouse=True)
    def no_settings(self, monkeypatch):
        monkeypatch.delenv("TORCH_BACKEND", raising=False)
        monkeypatch.delenv("TORCH_INDEX_URL", raising=False)

    def test_a_local_wheel_comes_first_and_the_default_index_last(self):
        torch = bootstrap.pinned("torch")
        attempts = bootstrap.torch_attempts(prefers_cuda=False)
        assert (attempts[0], attempts[-1]) == (["--no-index", "--no-deps", torch], [torch])

    def test_only_the_attempt_between_them_names_the_cpu_index(self):
        with_index = ["--index-url" in attempt for attempt in bootstrap.torch_attempts(prefers_cuda=False)]
        assert with_index == [False, True, False]

    def test_with_a_gpu_the_cpu_index_is_left_out(self):
        assert len(bootstrap.torch_attempts(prefers_cuda=True)) == 2

    @pytest.mark.parametrize(("backend", "answer"), [("cuda", True), ("cpu", False)])
    def test_the_user_has_the_last_word_on_cuda(self, monkeypatch, backend, answer):
        monkeypatch.setenv("TORCH_BACKEND", backend)
        assert bootstrap.prefers_cuda() is answer

    def test_without_nvidias_tool_there_is_no_gpu(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert bootstrap.prefers_cuda() is False

    def test_the_pin_is_the_one_that_the_package_asks_for(self):
        assert f'"{bootstrap.pinned("torch")}"' in (bootstrap.ROOT / "pyproject.toml").read_text()


class TestFailuresAreOneLineThatHelps:
    @pytest.mark.parametrize("version", [(3, 8, 18), (3, 10, 4), (3, 14, 0)])
    def test_a_python_that_does_not_fit(self, monkeypatch, capsys, version):
        monkeypatch.setattr(sys, "version_info", version)
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(SCRIPT))
        said = capsys.readouterr().err.splitlines()
        assert (left.value.code, len(said)) == (78, 1)
        assert f"this is {version[0]}.{version[1]}: install one" in said[0]

    def test_an_old_python_can_read_the_script_far_enough_to_say_so(self):
        ast.parse(SCRIPT.read_text(), feature_version=(3, 8))

    @pytest.mark.parametrize("module", ["venv", "ensurepip"])
    def test_no_venv_module(self, monkeypatch, module):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else object())
        with pytest.raises(bootstrap.CannotSetUp, match=f"no {module} module: apt-get install") as refused:
            bootstrap.require_venv_module()
        assert refused.value.code == 78

    @pytest.mark.parametrize(
        ("output", "code", "advice"),
        [
            ("ERROR: [Errno 28] No space left on device", 78, "the disk is full: free"),
            ("[Errno -3] Temporary failure in name resolution", 75, "no network: check"),
            ("NewConnectionError(...)\nERROR: No matching distribution found for x", 75, "no network: check"),
            ("Caused by ProxyError('Cannot connect to proxy.')", 78, "correct HTTPS_PROXY"),
            ("CERTIFICATE_VERIFY_FAILED", 78, "PIP_CERT"),
            ("ERROR: No matching distribution found for x==1", 78, "for x==1: try another PYTHON"),
            (str(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/srv/.venv")), 78, "/srv/.venv"),
            ("noise\nERROR: no idea\nmore noise", 1, "no idea; details in"),
            ("", 1, "no output; details in"),
        ],
    )
    def test_what_pip_said_becomes_advice(self, output, code, advice):
        problem = bootstrap.diagnose(output)
        assert (problem.code, advice in str(problem), len(str(problem).splitlines())) == (code, True, 1)

    def test_a_disk_without_room_is_noticed_before_anything_is_downloaded(self, project, monkeypatch):
        monkeypatch.setattr(bootstrap, "BYTES_NEEDED", 2**63)
        with pytest.raises(bootstrap.CannotSetUp, match="the disk is full"):
            bootstrap.make_venv(bootstrap.Step("", 0))

    def test_a_failure_leaves_with_its_code(self, monkeypatch, capsys):
        def refuse(profile):
            raise bootstrap.CannotSetUp("no network", bootstrap.TRY_AGAIN)

        monkeypatch.setattr(bootstrap, "make_ready", refuse)
        assert bootstrap.main(["up"]) == 75
        assert capsys.readouterr().err == "run: no network\n"

    def test_no_browser_and_no_way_to_get_one(self, project, no_programs, monkeypatch):
        monkeypatch.setattr(bootstrap.Step, "succeeds", lambda step, *command: False)
        with pytest.raises(bootstrap.CannotSetUp, match="install Chromium or Chrome"):
            bootstrap.install_browser()

    def test_a_browser_that_is_none(self, monkeypatch):
        monkeypatch.setenv("CHROME_PATH", "/nowhere/chromium")
        with pytest.raises(bootstrap.CannotSetUp, match="CHROME_PATH=/nowhere/chromium is no program"):
            bootstrap.find_browser()


class TestTwoStarts:
    def test_the_second_waits_while_a_command_of_the_first_lives_on(self, project):
        with bootstrap.sole_setup() as lock:
            survivor = subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
            )
        waiting = (
            f"import fcntl; fcntl.flock(open({str(project / '.venv.lock')!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        second = subprocess.run([sys.executable, "-c", waiting], capture_output=True, check=False)
        survivor.communicate(b"\n")
        third = subprocess.run([sys.executable, "-c", waiting], capture_output=True, check=False)
        assert (b"BlockingIOError" in second.stderr, third.returncode) == (True, 0)

    def test_the_second_finds_the_work_done_and_repeats_nothing(self, project, monkeypatch):
        answers = iter([False, True])
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)
        monkeypatch.setattr(bootstrap, "is_ready", lambda profile: next(answers))
        monkeypatch.setattr(bootstrap, "set_up", lambda profile, lock: pytest.fail("set up twice"))
        bootstrap.make_ready("run")
