"""The audit as a reviewer: what was put into the data is found, and sound data is left in peace."""

from functools import reduce
from operator import add

from retrain.audit.checks import CHECKS
from tests.repetitions import CHOSEN
from tests.scenarios import text_faults
from tests.scenarios.scores import GROUPED, SHOWN, Found, false_alarms, faults_found

RECALL, PRECISION, FALSE_ALARMS = 0.9, 0.8, 0.05  # fixed on seeds 0 to 9
UNSEEN = range(10, 10 + CHOSEN.audit_seeds)


def test_every_fault_is_found_and_little_else():
    found = [faults_found(seed) for seed in UNSEEN]
    totals = {fault: reduce(add, (each[fault] for each in found), Found()) for fault in found[0]}
    missed = {fault: one.recall for fault, one in totals.items() if one.recall < RECALL}
    mistaken = {fault: one.precision for fault, one in totals.items() if one.precision < PRECISION}
    assert (missed, mistaken) == ({}, {})


def test_every_check_is_measured():
    measured = {*text_faults.FAULTS, *(check for check, *_ in (*GROUPED.values(), *SHOWN.values()))}
    assert measured == set(CHECKS)


def test_at_most_one_sound_set_in_twenty_raises_an_alarm():
    """A set is one seed's data of one kind; any warning or block of any check is an alarm, what informs is none."""
    sets = [(seed, kind, alarms) for seed in UNSEEN for kind, alarms in false_alarms(seed).items()]
    alarmed = [each for each in sets if each[-1]]
    assert len(alarmed) <= FALSE_ALARMS * len(sets), alarmed
