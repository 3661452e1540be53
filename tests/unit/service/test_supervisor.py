"""Which database of a Redis server the bundled Argilla gets."""

import os

import pytest
from redis.connection import parse_url

from service.cli import operation
from service.supervisor import another_database


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("redis://h", 1),
        ("redis://:p@h:6379/0", 1),
        ("redis://h/1", 2),
        ("redis://h/1?db=0", 1),
        ("unix:///tmp/v.sock", 1),
        ("unix:///tmp/v.sock?db=1", 2),
        ("rediss://h/1?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem", 2),
    ],
)
def test_it_is_another_one_and_nothing_else_changes(ours, theirs):
    assert parse_url(another_database(ours)) == {**parse_url(ours), "db": theirs}


@pytest.mark.parametrize("said", [None, "7"])
def test_a_workers_threads_wait_briefly_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, said: str | None
):
    told: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _path, _argv, environment: told.append(environment))
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if said:
        monkeypatch.setenv("GOMP_SPINCOUNT", said)
    operation.worker("light")
    assert [one["GOMP_SPINCOUNT"] for one in told] == [said or "2000"]
