"""The audit as a reviewer: what was put into the data is found, and sound data is left in peace."""

from functools import reduce
from operator import add

from retrain.audit.checks import CHECKS
from tests.repetitions import CHOSEN
from tests.scenarios.scores import Found, false_alarms, faults_found

RECALL, PRECISION, FALSE_ALARMS = 0.9, 0.8, 0.05  # fixed on seeds 0 to 9
UNSEEN = range(10, 10 + CHOSEN.audit_seeds)


def test_every_fault_is_found_and_little_else():
    found = [faults_found(seed) for seed in UNSEEN]
    totals = {fault: reduce(add, (each[fault] for each in found), Found()) for fault in found[0]}
    missed = {fault: one.recall for fault, one in totals.items() if one.recall < RECALL}
    mistaken = {fault: one.precision for fault, one in totals.items() if one.precision < PRECISION}
    assert (missed, mistaken) == ({}, {})


def test_sound_data_raises_next_to_no_alarm():
    alarms = [alarm for seed in UNSEEN for alarm in false_alarms(seed)]
    assert len(alarms) <= FALSE_ALARMS * len(UNSEEN) * 2 * len(CHECKS), alarms
