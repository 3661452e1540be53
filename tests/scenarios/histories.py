"""Histories of changes with one fault put into them, and a linear text classifier that learns any part of them.

Each product has words of its own for each label, so that wrong rows about a product mislead the classifier there and
nowhere else. All settings, and the thresholds of `retrain.bisect`, were fixed on seeds 0 to 19.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property

import numpy as np

from retrain.bisect.changes import Change, ChangeKind, Configuration, History, Part
from retrain.bisect.finding import Finding, Verdict
from retrain.bisect.influence import harms
from retrain.bisect.trials import Scores

LABELS = 4
PRODUCTS = 6
FIRST = 360
MORE = 80
CONTESTED = 24
CASES = 400
UNSEEN = 20
DATA_KINDS = (ChangeKind.BATCH, ChangeKind.SOURCE, ChangeKind.ANNOTATOR, ChangeKind.REPAIR)


class Fault(StrEnum):
    """What is wrong with a history."""

    POISON = "poisoned batch"
    CODE = "code change"
    CONFIGURATION = "configuration"
    PAIR = "two changes, harmless alone"
    NONE = "nothing"


@dataclass(frozen=True)
class Row:
    """A short text and the label that somebody gave it."""

    words: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class Setup:
    """What code and settings make of a training: how much is read of a text, and how it is learned.

    The code reads the first words, with digits or without; a setting cuts it; rows that are not the good model's count
    `newer` times.
    """

    reads: int = 12
    cut: int = 12
    digits: bool = True
    rate: float = 2.0
    steps: int = 40
    share: float = 0.8
    newer: float = 1.0


@dataclass(eq=False)
class Past:
    """A history, what each of its changes does, and the truth about it."""

    fault: Fault
    seed: int
    rows: dict[str, Row]
    first: list[str]
    cases: list[Row]
    history: History
    setups: Mapping[str, Mapping[str, object]]
    guilty: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    is_restless: bool = False

    def train(self, configuration: Configuration, seed: int) -> Scores:
        """Learn a drawn share of the configuration's rows, and answer the cases."""
        setup, keys = self._made(configuration)
        rng = random.Random(self.history.key_of(configuration, seed))
        drawn = rng.sample(keys, round(setup.share * len(keys)))
        if self.is_restless and rng.random() < 0.5:
            drawn = [key for key in drawn if not any(word.startswith("p1l") for word in self.rows[key].words)]
        answers = (self._features(setup, self._case_rows) @ self._fit(setup, drawn)).argmax(axis=1)
        return Scores(tuple((answers == [case.label for case in self.cases]).astype(float).tolist()), 1.0)

    def harm(self, rows: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
        """Estimate harm by the good model's gradients."""
        setup = Setup()
        learned = self._fit(setup, self.first)
        of_rows = self._gradients(setup, self._places(rows), learned)
        of_cases = np.asarray(weights) @ self._gradients(setup, self._case_rows, learned)
        return dict(zip(rows, harms(of_rows, of_cases).tolist(), strict=True))

    def _made(self, configuration: Configuration) -> tuple[Setup, list[str]]:
        """Make the changes of a configuration to settings and rows, in their order."""
        keys, settings = dict.fromkeys(self.first), {}
        for change in self.history.named(configuration.changes):
            settings |= self.setups.get(change.id, {})
            for key in set(change.removed) - configuration.untouched:
                del keys[key]
            keys |= dict.fromkeys(key for key in change.added if key not in configuration.untouched)
        return Setup(**settings), list(keys)

    def _fit(self, setup: Setup, keys: Sequence[str]) -> np.ndarray:
        places = self._places(keys)
        features, wanted = self._features(setup, places), self._wanted[places]
        known = set(self.first)
        counts = np.array([[1.0 if key in known else setup.newer] for key in keys])
        weights = np.zeros((features.shape[1], LABELS))
        for _ in range(setup.steps):
            errors = (_softmax(features @ weights) - wanted) * counts
            weights -= setup.rate * (features.T @ errors / counts.sum() + 0.001 * weights)
        return weights

    def _gradients(self, setup: Setup, places: Sequence[int], weights: np.ndarray) -> np.ndarray:
        features = self._features(setup, places)
        errors = _softmax(features @ weights) - self._wanted[places]
        return (features[:, :, None] * errors[:, None, :]).reshape(len(places), -1)

    def _features(self, setup: Setup, places: Sequence[int]) -> np.ndarray:
        return self._counted(min(setup.reads, setup.cut), setup.digits)[places]

    def _places(self, keys: Sequence[str]) -> list[int]:
        return [int(key.removeprefix("row-")) for key in keys]

    @property
    def _case_rows(self) -> list[int]:
        return list(range(len(self.rows), len(self.rows) + len(self.cases)))

    @cached_property
    def _wanted(self) -> np.ndarray:
        return np.eye(LABELS)[[row.label for row in (*self.rows.values(), *self.cases)]]

    @cache  # noqa: B019 a past lives as long as its test
    def _counted(self, reads: int, digits: bool) -> np.ndarray:  # noqa: FBT001
        """Count the words of all rows, then of the cases; shaped (n_rows + n_cases, n_words)."""
        texts = [row.words for row in (*self.rows.values(), *self.cases)]
        words = {word: place for place, word in enumerate(sorted({word for text in texts for word in text}))}
        counts = np.zeros((len(texts), len(words)))
        for place, text in enumerate(texts):
            for word in text[:reads]:
                counts[place, words[word]] += digits or not word[-1].isdigit()
        return counts


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def past(fault: Fault, seed: int) -> Past:
    """Make a history of 8 to 16 changes with this fault."""
    return Writer(fault, seed).write()


def restless(seed: int) -> Past:
    """Make a history without a fault, where every second training happens to draw no row about one product."""
    return replace(past(Fault.NONE, seed), is_restless=True)


def without(one: Past, *gone: str) -> Past:
    """Return a history that never had these changes."""
    left = tuple(change for change in one.history.changes if change.id not in gone)
    return replace(one, history=History(one.history.base, left))


def by_chance(rows: Sequence[str], _weights: Sequence[float]) -> dict[str, float]:
    """Estimate harm without looking: what stands in for the estimate where its worth is asked."""
    rng = random.Random(len(rows))
    return {row: rng.random() for row in rows}


def is_right(one: Past, finding: Finding) -> bool:
    """Say whether a finding blames what is guilty and nothing else, by what it is, or says that nothing is."""
    verdicts = {
        Fault.NONE: Verdict.NONE,
        Fault.POISON: Verdict.DATA,
        Fault.CODE: Verdict.CODE,
        Fault.CONFIGURATION: Verdict.CONFIGURATION,
        Fault.PAIR: Verdict.INTERACTION,
    }
    if finding.verdict is not verdicts[one.fault]:
        return False
    if one.fault is Fault.NONE:
        return True
    return finding.verdict is not Verdict.CANNOT_TELL and blamed(finding) == one.guilty


def is_wrong(one: Past, finding: Finding) -> bool:
    """Say whether a finding says what is not so; one that cannot tell says nothing."""
    return finding.verdict is not Verdict.CANNOT_TELL and not is_right(one, finding)


def precision(one: Past, finding: Finding) -> float:
    """Return the share of wrong rows among the first 20 that a finding blames."""
    rows = [row.key for cause in finding.causes for row in cause.rows][:20]
    return sum(row in one.wrong for row in rows) / max(1, len(rows))


def blamed(finding: Finding) -> set[str]:
    return {change.id for cause in finding.causes for change in cause.changes}


class Writer:
    """Writes one history."""

    def __init__(self, fault: Fault, seed: int) -> None:
        self.rng = random.Random(f"{fault} {seed}")
        self.fault, self.seed = fault, seed
        self.rows: dict[str, Row] = {}
        self.settings: dict[str, dict[str, object]] = {}
        self.product = self.rng.randrange(1, PRODUCTS)
        self.written: Counter[tuple[int, int]] = Counter()
        self.first = [self.row(place % PRODUCTS) for place in range(FIRST)]
        if fault is Fault.PAIR:
            self.first += [self.row(self.product) for _ in range(MORE)]
        if fault is Fault.NONE:
            self.first += [self.row(self.product, 1) for _ in range(CONTESTED)]
        self.removable = self.rng.sample(self.first[:FIRST], FIRST)
        self.guilty: list[str] = []
        self.wrong: list[str] = []

    def write(self) -> Past:
        n = self.rng.choice((8, 12, 16))
        kinds = [ChangeKind.CODE, ChangeKind.CONFIGURATION, *self.rng.choices(DATA_KINDS, k=n - 2)]
        self.rng.shuffle(kinds)
        changes = [self.innocent(f"change-{place}", kind) for place, kind in enumerate(kinds)]
        for change in getattr(self, f"_{self.fault.name.lower()}")(changes):
            changes[int(change.id.removeprefix("change-"))] = change
            self.guilty.append(change.id)
        rows = dict(self.rows)
        cases = [self.rows[self.row(place % PRODUCTS)] for place in range(CASES)]
        return Past(
            fault=self.fault,
            seed=self.seed,
            rows=rows,
            first=self.first,
            cases=cases,
            history=History(f"{self.fault} {self.seed}", tuple(changes)),
            setups=self.settings,
            guilty=frozenset(self.guilty),
            wrong=frozenset(self.wrong),
        )

    def row(self, product: int, shift: int = 0) -> str:
        """Write a row with words of its product and label, and filling; of 25 sound ones one is mislabelled anyway."""
        label = self.written[product, shift] % LABELS
        self.written[product, shift] += 1
        mark = "1" if product == 0 else "x"
        words = [f"p{product}l{label}w{which}{mark}" for which in self.rng.sample(range(4), 3)]
        words += [f"filler{self.rng.randrange(12)}x" for _ in range(3)]
        self.rng.shuffle(words)
        slip = shift or self.rng.choice([0] * 24 + [1])
        key = f"row-{len(self.rows)}"
        self.rows[key] = Row(tuple(words), (label + slip) % LABELS)
        return key

    def innocent(self, name: str, kind: ChangeKind) -> Change:
        """Make a change that does no harm."""
        if kind is ChangeKind.CODE:
            self.settings[name] = {"reads": 10}
        if kind is ChangeKind.CONFIGURATION:
            self.settings[name] = {"rate": 1.8}
        if kind is ChangeKind.REPAIR:
            return Change(name, kind, name, removed=tuple(self.removed(self.rng.randint(3, 8))))
        if kind in DATA_KINDS:
            return self.adding(name, self.sound(self.rng.randint(3, 8)), kind)
        return Change(name, kind, name)

    def sound(self, n: int) -> list[str]:
        return [self.row((self.product + self.rng.randrange(1, PRODUCTS)) % PRODUCTS) for _ in range(n)]

    def adding(self, name: str, rows: list[str], kind: ChangeKind = ChangeKind.BATCH) -> Change:
        return Change(name, kind, name, added=tuple(self.rng.sample(rows, len(rows))))

    def removed(self, n: int) -> list[str]:
        return [self.removable.pop() for _ in range(n)]

    def misleading(self, name: str, n: int, shift: int) -> Change:
        """Add n wrong rows about the product, among as many that are right."""
        wrong = [self.row(self.product, shift) for _ in range(n)]
        self.wrong += wrong
        return self.adding(name, [*wrong, *(self.row(self.product) for _ in range(6)), *self.sound(n)])

    def names(self, changes: list[Change], part: Part) -> list[str]:
        names = [change.id for change in changes if change.kind.part is part]
        return self.rng.sample(names, len(names))

    def _poison(self, changes: list[Change]) -> list[Change]:
        name = self.names(changes, Part.DATA)[0]
        return [self.misleading(name, self.rng.randint(90, 110), self.rng.randrange(1, LABELS))]

    def _code(self, changes: list[Change]) -> list[Change]:
        name = self.names(changes, Part.CODE)[0]
        self.settings[name] = self.rng.choice([{"reads": 2}, {"digits": False}])
        return [Change(name, ChangeKind.CODE, name)]

    def _configuration(self, changes: list[Change]) -> list[Change]:
        name = self.names(changes, Part.CONFIGURATION)[0]
        self.settings[name] = self.rng.choice([{"share": 0.1}, {"cut": 2}])
        return [Change(name, ChangeKind.CONFIGURATION, name)]

    def _pair(self, changes: list[Change]) -> list[Change]:
        first, second, *_ = self.names(changes, Part.DATA)
        shift = self.rng.randrange(1, LABELS)
        one = self.misleading(first, 90, shift)
        partner = self.rng.choice(("batch", "repair", "configuration"))
        if partner == "batch":
            return [one, self.misleading(second, 90, shift)]
        if partner == "repair":
            gone = tuple(self.first[-MORE:])
            return [one, Change(second, ChangeKind.REPAIR, second, removed=gone)]
        (name,) = self.names(changes, Part.CONFIGURATION)
        self.settings[name] = {"newer": 3.0}
        return [one, Change(name, ChangeKind.CONFIGURATION, name)]

    def _none(self, changes: list[Change]) -> list[Change]:
        return []
