"""The catalogue has every fault once, and what it names is there."""

from dataclasses import fields

import pytest

from tests.benchmarks.__main__ import BENCHES
from tests.faults.catalogue import FAULTS
from tests.repetitions import BENCH, CI, Repetitions
from tests.shown import node_id, of

NAMED = [
    pytest.param(reference, id=f"F{one.number}-{place}")
    for one in FAULTS
    for place, reference in enumerate((*one.shown_by, *one.control))
]


def test_each_fault_has_one_entry():
    assert [one.number for one in FAULTS] == list(range(1, 42))


@pytest.mark.parametrize("reference", NAMED)
def test_what_shows_it_is_there(reference):
    assert node_id(reference)


def test_what_is_not_there_is_found_out():
    for names in (of("faults/test_catalogue.py", "test_nothing"), of("faults/nowhere.py", "test_nothing")):
        with pytest.raises(LookupError, match="0 tests"):
            node_id(*names)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: f"F{one.number}")
def test_each_entry_is_whole(fault):
    assert fault.what and fault.mechanism and fault.injected and fault.shown_by
    assert bool(fault.control) != bool(fault.no_control), "a control, or where it is"
    assert not fault.bench or fault.bench in BENCHES
    if fault.repeats:
        assert fault.repeats in {field.name for field in fields(Repetitions)}
        assert getattr(BENCH, fault.repeats) >= getattr(CI, fault.repeats)
