"""What pairs of answers and verdicts alone cost a model, as functions of log-likelihoods of whole answers."""

import torch
from torch.nn.functional import logsigmoid

BETA = 0.1


def dpo_loss(said: torch.Tensor, before: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """Return -log sigmoid(beta * ((said₀ - before₀) - (said₁ - before₁))) of each pair, shaped (n_pairs,).

    Column 0 of `said` and `before`, shaped (n_pairs, 2), holds the better answers' log-likelihoods under the model and
    under the one that the run began with, column 1 the worse ones'.

    Source: Rafailov et al. (2023), "Direct Preference Optimization", equation 7.
    """
    gain = said - before
    return -logsigmoid(beta * (gain[:, 0] - gain[:, 1]))


def kto_loss(
    said: torch.Tensor,
    before: torch.Tensor,
    is_wanted: torch.Tensor,
    drift: torch.Tensor,
    beta: float = BETA,
) -> torch.Tensor:
    """Return 1 - sigmoid(±beta * (said - before - drift)) of each answer, minus where it is not wanted; (n_answers,).

    `drift` is how far the model has moved in all, by `kto_drift`; weights of the two verdicts are the caller's.

    Source: Ethayarajh et al. (2024), "KTO: Model Alignment as Prospect Theoretic Optimization", equations 7 and 8.
    """
    gain = beta * (said - before - drift)
    return 1 - torch.where(is_wanted, gain, -gain).sigmoid()


def kto_drift(gains: torch.Tensor) -> torch.Tensor:
    """Estimate the divergence from the model at the run's start by what answers to other prompts gained; at least 0.

    Source: Ethayarajh et al. (2024), section 4.1.
    """
    return gains.mean().clamp(min=0).detach()
