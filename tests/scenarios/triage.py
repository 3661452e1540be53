"""A hospital's triage that two large clinics taught wrong departments: what correcting their rows does.

Nothing here is evidence about waiting times: only departments are judged.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random

import numpy as np

from retrain.criteria import Criterion, Rules
from retrain.evidence import Role, SuiteAnswers
from retrain.gate import Verdict, judge
from retrain.intervals import Interval
from retrain.metrics import metric_named
from retrain.metrics.judged import NOTHING, Judged
from retrain.types import Case, Example
from tests.scenarios.figures import Figures, chosen, fact, score
from tests.scenarios.taught import Learner, case_of, row

EMERGENCY, OTHER_NAMES = "Emergency", ("Casualty", "Trauma")
# First as lay people call them, then as clinicians do.
SYMPTOMS = {
    EMERGENCY: ("a deep cut", "a bad burn", "a laceration", "smoke inhalation"),
    "Cardiology": ("a racing heart", "an uneven pulse", "palpitations", "angina"),
    "Dermatology": ("an itchy rash", "dry skin", "eczema", "psoriasis"),
    "Orthopaedics": ("a swollen knee", "a stiff hip", "a torn meniscus", "scoliosis"),
    "Neurology": ("shaking hands", "fits", "migraine", "neuropathy"),
    "Eyes": ("blurred sight", "a red eye", "cataract", "glaucoma"),
    "Ears": ("ringing in the ear", "a sore throat", "tinnitus", "otitis"),
    "Stomach": ("heartburn", "bloating", "gastritis", "reflux"),
    "Urology": ("burning when peeing", "a weak bladder", "a kidney stone", "cystitis"),
    "Dental": ("a sore tooth", "bleeding gums", "an abscess", "caries"),
    "Maternity": ("a missed period", "kicks in the belly", "pregnancy", "labour"),
    "Psychiatry": ("no joy", "hearing voices", "depression", "insomnia"),
}
RED_FLAGS = ("crushing chest pain", "a drooping face", "coughing blood", "no breath", "a fainted child")
AMBIGUOUS = {
    "feeling dizzy": ("Neurology", "Ears"),
    "an aching back": ("Orthopaedics", "Urology"),
    "a face that hurts": ("Dental", "Ears"),
    "a tight chest": ("Cardiology", "Psychiatry"),
}
REGISTERS = {
    "lay": ("I have {}.", "My mother has {} since Monday.", "It is {} again."),
    "clinical": ("Patient presents with {}.", "Referral for {}.", "Seen today for {}."),
    "emotional": ("Please help, I am so scared of {}!", "I cannot bear {} any more!", "Why {}, why me?"),
    "typo": ("i hvae {} plese", "wher do i go wiht {}", "its {} agian"),
}
LARGE, CLINICS = ("north", "south"), (*("north", "south") * 4, "east", "west")
# Three of ten departments go astray at the two large clinics.
ASTRAY = {"Cardiology": "Stomach", "Ears": "Eyes", "Urology": "Maternity", "Neurology": "Psychiatry"}
DEPARTMENTS = tuple(SYMPTOMS)
ROWS, DRILLS, EPOCHS, RESAMPLES = 800, 80, 12, 2000


def triage(seed: int, learner: Learner, *, corrected: bool = True) -> Figures:
    """Route after the clinics' rows as they came, and after experts corrected what went astray and wrote drills."""
    rows = _patients(f"{seed} rows", ROWS)
    asked = [_case(one) for one in _patients(f"{seed} asked", learner.cases, is_asked=True)]
    hear = partial(learner.hear, cases=asked, seed=seed, epochs=EPOCHS)
    before = _forgiven(hear([_astray(one) for one in rows], labels=(*DEPARTMENTS, *OTHER_NAMES)))
    drilled = [*rows, *_patients(f"{seed} drill", DRILLS, is_drill=True)]
    now = _forgiven(hear(drilled, labels=DEPARTMENTS)) if corrected else before
    flags_before, flags_now = (chosen(each, red_flag="yes") for each in (before, now))
    return {
        "accuracy_before": score(before, "accuracy", seed),
        "accuracy": score(now, "accuracy", seed),
        "macro_f1": score(now, "macro_f1", seed),
        "misdirection_before": score(before, "misdirection", seed),
        "misdirection": score(now, "misdirection", seed),
        "misdirection_ratio": _ratio(before, now, seed),
        "red_flag_recall": score(flags_now, "accuracy", seed),
        "red_flags_kept": fact(_right(flags_now) >= _right(flags_before)),
        "gate_passes": fact(_verdict(before, now) is Verdict.PASSED),
        "one_more_missed_is_refused": fact(
            _verdict(before, _missing_one_more(before, now)) is Verdict.REFUSED
        ),
    }


def _patients(seed: str, count: int, *, is_asked: bool = False, is_drill: bool = False) -> list[Example]:
    """Draw what patients and clinicians write: one in twenty ambiguous, three in a hundred, or every drill, urgent."""
    draw, rows = Random(f"triage {seed}"), []
    for number in range(count):
        register = draw.choice(list(REGISTERS))
        chance, right = draw.random(), draw.choice(DEPARTMENTS)
        said = draw.choice(SYMPTOMS[right])
        if chance < 0.05 and not is_drill:
            said = draw.choice(list(AMBIGUOUS))
            right = draw.choice(AMBIGUOUS[said])
        elif chance < 0.08 or is_drill:
            said, right = draw.choice(RED_FLAGS), EMERGENCY
        forms = list(REGISTERS[register])
        unseen = forms.pop(sum(map(ord, said)) % len(forms))  # no row says this symptom so
        form = unseen if is_asked else draw.choice(forms)
        facts = {"red_flag": "yes" if said in RED_FLAGS else "no", "register": register, "said": said}
        key = f"{seed}-{number}"
        source = draw.choice(CLINICS)
        rows.append(row(key, form.format(said), right, label=True, source=source, attributes=facts))
    return rows


def _astray(one: Example) -> Example:
    """Let the large clinics send some departments' patients elsewhere, and name the emergency room in three ways."""
    if one.source not in LARGE:
        return one
    names = {"north": OTHER_NAMES[0], "south": OTHER_NAMES[1]}
    is_plain = one.answer == EMERGENCY and one.attributes["red_flag"] == "no"
    wrong = names[one.source] if is_plain else ASTRAY.get(one.answer, one.answer)
    return replace(one, answer=wrong, label=wrong)


def _case(one: Example) -> Case:
    return case_of(
        one, "label", slices=one.attributes, accepted=AMBIGUOUS.get(one.attributes["said"], (one.answer,))
    )


def _forgiven(judged: Sequence[Judged]) -> list[Judged]:
    """Take each acceptable department for the right one, where several are."""
    return [
        replace(one, case=replace(one.case, expected=one.answer)) if one.answer in one.case.accepted else one
        for one in judged
    ]


def _verdict(before: Sequence[Judged], now: Sequence[Judged]) -> Verdict:
    """Let the gate compare two models by accuracy; its usual rules guard red flags."""
    suite = SuiteAnswers("test", Role.TARGET, before, now)
    return judge([Criterion("accuracy", "test")], Rules(), [suite], seed=0).verdict


def _missing_one_more(before: Sequence[Judged], now: Sequence[Judged]) -> list[Judged]:
    """Let a model miss one red flag more than the one before, and otherwise answer as it does."""
    spared = _right(chosen(before, red_flag="yes")) - 1
    found = []
    for one in now:
        is_hit = one.case.slices["red_flag"] == "yes" and one.answer == EMERGENCY
        spared -= is_hit
        found.append(replace(one, answer="Dental") if is_hit and spared < 0 else one)
    return found


def _right(judged: Sequence[Judged]) -> int:
    return sum(one.answer == one.case.expected for one in judged)


def _ratio(before: Sequence[Judged], now: Sequence[Judged], seed: int) -> Interval:
    """Bound the share of misdirected patients that is left, by a paired bootstrap."""
    metric = metric_named("misdirection")
    old, new = (np.array([metric.look(each, NOTHING)(one) for one in each]) for each in (before, now))
    drawn = np.random.default_rng(seed).integers(len(old), size=(RESAMPLES, len(old)))
    low, high = np.quantile(new[drawn].sum(axis=1) / old[drawn].sum(axis=1), (0.025, 0.975))
    return Interval(float(new.sum() / old.sum()), float(low), float(high), len(old))


triage_uncorrected = partial(triage, corrected=False)
