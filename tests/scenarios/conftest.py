"""Fixtures of scenarios that train."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def unreloaded() -> Iterator[None]:
    """No new process looks at an adapter: that takes seconds each time, and is tested where adapters are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.jobs.torch_tools.TorchTools.reload_equals", staticmethod(lambda *_: True))
        yield
