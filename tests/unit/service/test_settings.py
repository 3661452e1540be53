"""Settings come from the environment, and what cannot be used is named before anything starts."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from service import settings
from service.errors import ConfigurationError
from service.settings import PREFIX, Settings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "env.example"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch) -> None:
    """Nothing of ours is set."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def test_the_example_lists_every_setting_once_and_no_other():
    listed = [line.partition("=")[0] for line in EXAMPLE.read_text().splitlines() if line.startswith(PREFIX)]
    assert sorted(listed) == sorted(PREFIX + name.upper() for name in Settings.model_fields)


def test_the_example_says_a_line_on_each_setting():
    lines = EXAMPLE.read_text().splitlines()
    for comment, line in pairwise(lines):
        assert not line.startswith(PREFIX) or comment.startswith("# "), line


def test_the_example_holds_the_defaults(monkeypatch):
    defaults = settings.load()
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith(PREFIX):
            monkeypatch.setenv(*line.split("=", 1))
    assert settings.load() == defaults


def test_a_setting_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("ERRATA_PORT", "9000")
    monkeypatch.setenv("ERRATA_LABEL_STUDIO", "false")
    chosen = settings.load()
    assert (chosen.port, chosen.label_studio) == (9000, False)


def test_an_empty_setting_is_the_default(monkeypatch):
    monkeypatch.setenv("ERRATA_DATA_DIR", "")
    monkeypatch.setenv("ERRATA_PORT", "")
    assert (settings.load().data_dir, settings.load().port) == (Path("data"), 8000)


@pytest.mark.parametrize("name", ["ERRATA_PROT", "ERRATA_", "ERRATA_LABEL_STUDIO_URL_", "errata_prot"])
def test_an_unknown_setting_is_refused_by_name(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=f"^{name.upper()}: no such setting"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ERRATA_PORT", "abc"),
        ("ERRATA_PORT", "0"),
        ("ERRATA_PORT", "65536"),
        ("ERRATA_PORT", "8000.5"),
        ("ERRATA_PORT", "9" * 5000),
        ("ERRATA_LABEL_STUDIO", "perhaps"),
        ("ERRATA_LEASE_SECONDS", "0"),
        ("ERRATA_LEASE_SECONDS", "nan"),
        ("ERRATA_LEASE_SECONDS", "inf"),
        ("ERRATA_MAX_BODY_BYTES", "-1"),
        ("ERRATA_ENGINE", "cloud"),
        ("ERRATA_MAX_ATTEMPTS", "many"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_setting(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as refused:
        settings.load()
    assert "\n" not in str(refused.value)


def test_a_setting_is_read_from_a_file_of_its_name_unless_the_environment_has_it(monkeypatch, tmp_path):
    (tmp_path / "errata_token").write_text("eut_from-a-file\n")
    (tmp_path / "errata_port").write_text("9001")
    monkeypatch.setenv("ERRATA_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("ERRATA_PORT", "9002")
    chosen = settings.load()
    assert (chosen.token.get_secret_value(), chosen.port) == ("eut_from-a-file", 9002)


def test_a_directory_of_secrets_that_is_none_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ERRATA_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"^ERRATA_SECRETS_DIR: "):
        settings.load()


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("ERRATA_LABEL_STUDIO_TOKEN", "hidden")
    chosen = settings.load()
    assert "hidden" not in repr(chosen)
    assert chosen.label_studio_token.get_secret_value() == "hidden"


@pytest.mark.parametrize("setting", ["ERRATA_PORT=abc", "ERRATA_PROT=8000"])
def test_the_command_line_refuses_a_wrong_setting_with_one_line_and_its_own_exit_code(tmp_path, setting):
    environment = dict(os.environ) | {"ERRATA_DATA_DIR": str(tmp_path)} | dict([setting.split("=")])
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "doctor"],
        check=False, capture_output=True, env=environment, text=True,
    )  # fmt: skip
    assert done.returncode == os.EX_CONFIG
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert setting.partition("=")[0] in done.stderr


def test_a_secret_stands_in_a_file_and_the_environment_comes_first(monkeypatch, tmp_path):
    (tmp_path / "ERRATA_DATABASE_URL").write_text("postgresql+psycopg://errata:sesame@db/errata\n")
    (tmp_path / "ERRATA_PORT").write_text("9000")
    (tmp_path / "tls.key").write_text("another's")
    monkeypatch.setenv("ERRATA_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("ERRATA_PORT", "9001")
    chosen = settings.load()
    assert (chosen.database, chosen.port) == ("postgresql+psycopg://errata:sesame@db/errata", 9001)


def test_secrets_that_are_nowhere_are_refused_and_not_taken_for_none(monkeypatch, tmp_path):
    monkeypatch.setenv("ERRATA_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match=r"ERRATA_SECRETS_DIR: .*nowhere is no directory"):
        settings.load()
