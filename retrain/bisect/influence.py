"""Estimates what learning a row does to the loss on given cases, from gradients, without any training."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DAMPING = 0.1


def harms(rows: Floats, cases: Floats, *, damping: float = _DAMPING) -> Floats:
    """Return by how much each row, learned, raises the cases' loss; only the order and the sign mean something.

    `rows` are the loss gradients of rows by one model, shaped (n_rows, n_parameters), `cases` the weighted sum of those
    of the cases, (n_parameters,). With damping → ∞ it is plain similarity of gradients (Pruthi et al. 2020, "TracIn").
    For parameters in layers, sum what each layer gives.

    Source: Kwon et al. (2024), "DataInf: Efficiently Estimating Data Influence in LoRA-tuned LLMs and Diffusion
    Models", equation 5, with the damping that it recommends.
    """
    if not rows.size:
        return np.zeros(len(rows))
    lengths = (rows**2).sum(axis=1)
    damped = damping * float(lengths.mean()) / rows.shape[1] or 1.0
    along = rows @ cases
    # What is common to many rows is known already: it is taken out of the cases' gradient once, for all rows.
    common = (along / (damped + lengths)) @ rows / len(rows)
    harm: Floats = -(rows @ (cases - common)) / damped
    return harm
