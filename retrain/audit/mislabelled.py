"""Finds classified rows whose label is likely wrong, by what a plain classifier learned from the other rows.

Catches: labels that confident learning deems noise in predictions from rows of other folds, unless settlement was
sure of them; and labels that settlement doubted and the classifier would not give. Where the classifier is sure, its
label is proposed; and experts may be asked again about rows whose settlement is more likely wrong than right.
Misses: sets and rows whose words do not tell the label, errors that most rows of a kind share, labels of fewer than
four rows, and generated answers.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Repair, RepairKind
from retrain.audit.rows import by_key
from retrain.audit.words import fitted
from retrain.near_duplicates import text_of
from retrain.types import Example, Kind

CHECK = Check("mislabelled", version=3)

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
_FOLDS = 4
_STEPS = 40


def find(
    examples: Sequence[Example],
    context: Context = NOTHING,
    *,
    trust: float = 0.02,
    doubt: float = 0.5,
    lost: float = 0.7,
    sure: float = 0.6,
    ratio: float = 10.0,
    accuracy: float = 0.6,
    learned_from: int = 10_000,
    seed: int = 0,
) -> list[Finding]:
    """Return one finding for all rows whose label is likely wrong, and one for those that settlement doubts by itself.

    Beside those that cleanlab picks, a row is suspect when another label is `ratio` times as probable as its own.
    Settlement's doubt below `trust` acquits a suspect; from `doubt` on it suffices that the classifier prefers another
    label; beyond `lost` experts are asked again, whatever the row holds. A classifier that agrees with less than
    `accuracy` of the labels accuses nobody. A label is proposed where the classifier gives it at least the probability
    `sure`. Each fold learns from at most `learned_from` rows, and from one of each label.
    """
    doubted = _doubted(examples, context, lost)
    rows = _learnable(examples)
    labels = sorted({row.label for row in rows if row.label})
    if len(labels) < 2:
        return doubted
    places = np.searchsorted(labels, [row.label or "" for row in rows])
    if (vectors := _vectors(rows)) is None:
        return doubted
    probabilities = _out_of_fold(vectors, places, learned_from, seed)
    likeliest = probabilities.argmax(axis=1)
    if (likeliest == places).mean() < accuracy:
        return doubted
    is_noise = _is_noise(places, probabilities, ratio)
    doubts = np.array([context.doubts.get(row.key, trust) for row in rows])
    wrong = np.flatnonzero((likeliest != places) & (doubts >= np.where(is_noise, trust, doubt)))
    likely = {
        rows[place].key: labels[likeliest[place]] for place in wrong if probabilities[place].max() >= sure
    }
    return [*([_finding([rows[place] for place in wrong], likely)] if len(wrong) else []), *doubted]


def _doubted(examples: Sequence[Example], context: Context, lost: float) -> list[Finding]:
    """Return one finding for the settled answers that are likely wrong by what is known of who gave them."""
    keys = sorted(row.key for row in examples if context.doubts.get(row.key, 0.0) > lost)
    if not keys:
        return []
    evidence = f"{len(keys)} settled answers are likely wrong, by what is known of their annotators by now"
    return [
        CHECK.found(
            keys, evidence, "Ask other experts about these rows again.", Repair(RepairKind.ASK, tuple(keys))
        )
    ]


def _learnable(examples: Sequence[Example]) -> list[Example]:
    labelled = [row for row in examples if row.kind is Kind.CLASSIFICATION and row.label and row.is_wanted]
    counts = Counter(row.label for row in labelled)
    return by_key(row for row in labelled if counts[row.label] >= _FOLDS)


def _vectors(rows: Sequence[Example]) -> csr_matrix | None:
    """Return the weights of the prompts' words, shaped (n_rows, n_words); None if there are no common words."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=20_000, token_pattern=r"\w+")
    return fitted(vectorizer, [text_of(row.messages) for row in rows])


def _is_noise(places: Places, probabilities: Floats, ratio: float) -> NDArray[np.bool_]:
    """Tell which labels cleanlab picks, or have another that is `ratio` times as probable, shaped (n_rows,)."""
    picked = find_label_issues(places, probabilities, filter_by="both", n_jobs=1)
    given = probabilities[np.arange(len(places)), places]
    return np.asarray(picked | (probabilities.max(axis=1) >= ratio * given))


def _out_of_fold(vectors: csr_matrix, places: Places, learned_from: int, seed: int) -> Floats:
    """Return each row's probabilities as learned without its fold, shaped (n_rows, n_labels)."""
    probabilities = np.zeros((len(places), places.max() + 1))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for others, fold in folds.split(vectors, places):
        # A label that fell out of the sample could not be told from the others, and one label is nothing to learn.
        _, first_of_label = np.unique(places[others], return_index=True)
        chosen = others[
            np.union1d(np.arange(0, len(others), -(-len(others) // learned_from)), first_of_label)
        ]
        model = LogisticRegression(C=10.0, max_iter=_STEPS)
        with warnings.catch_warnings():  # these steps are enough to rank labels
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(vectors[chosen], places[chosen])
        probabilities[np.ix_(fold, model.classes_)] = model.predict_proba(vectors[fold])
    return probabilities


def _finding(wrong: Sequence[Example], likely: Mapping[str, str]) -> Finding:
    pairs = Counter((row.label, likely[row.key]) for row in wrong if row.key in likely)
    told = ", ".join(
        f"{count} {given!r} in place of {other!r}"
        for (given, other), count in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
    )
    return CHECK.found(
        (row.key for row in wrong),
        how_many(len(wrong), "label", "are likely wrong") + (f": {told}" if told else ""),
        "Let one more expert label these rows, or take the proposed labels.",
        *(
            Repair(
                RepairKind.RELABEL, tuple(key for key, other in likely.items() if other == label), put=label
            )
            for label in sorted(set(likely.values()))
        ),
        Repair(RepairKind.ASK, tuple(sorted(row.key for row in wrong))),
    )
