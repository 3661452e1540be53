"""Fixtures of tests against real tools."""

import pytest

from tests.label_studio import RunningLabelStudio, running_label_studio


@pytest.fixture(scope="session")
def label_studio(tmp_path_factory) -> RunningLabelStudio:
    """A real Label Studio with the accounts ann, ben and cleo; it lasts for the whole run."""
    with running_label_studio(tmp_path_factory.mktemp("label-studio")) as running:
        yield running
