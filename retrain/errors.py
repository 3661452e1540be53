"""Everything retraining can refuse or fail at."""

from collections.abc import Mapping

ROWS_NAMED = 10


class RetrainError(Exception):
    """Root of this package's errors."""


class EmptySplit(RetrainError):
    """There is nothing to train on or to judge by; settle more answers first."""


class BrokenArtifact(RetrainError):
    """An artifact's bytes do not hash to its name; restore a backup, or store the same again (build the set)."""


class MissingArtifact(RetrainError):
    """No artifact has this name in the store; restore it from a backup."""


class UnknownBaseModel(RetrainError):
    """The base model cannot be found or loaded; check the project's base model."""


class WrongBaseModel(RetrainError):
    """An adapter belongs to another base model; train it again on this one."""


class ForeignAdapter(RetrainError):
    """An adapter's files are not as a training of ours writes them; somebody changed them: train it again."""


class InvalidTriggers(RetrainError):
    """What is to start a training cannot be read; correct the field that is named."""


class InvalidRates(RetrainError):
    """What hours cost and outcomes are worth cannot be read; correct the field that is named."""


class TrainingBroke(RetrainError):
    """Training would publish something wrong (loss not finite, wrong parameters changed); look at the spec."""


class WrongMethod(RetrainError):
    """The rows lack what the training method learns from; take the method that the message names."""


class WrongTargets(RetrainError):
    """The base model has no such layers for an adapter; take those that the message names."""


class NoQuantization(RetrainError):
    """This machine cannot compute with a base of so few bits; do as the message says."""


class ContextTooLong(RetrainError):
    """Rows have more tokens than a run, or the base model, reads; do as the message says."""


class RowsTooLong(ContextTooLong):
    """Rows have more tokens than a run reads; raise `max_tokens`, or leave them out of the set."""

    def __init__(self, tokens: Mapping[str, int], most: int) -> None:
        """Name the rows, with the tokens of each, and how many may be read."""
        longest = sorted(tokens, key=lambda name: (-tokens[name], name))
        named = ", ".join(f"{name} ({tokens[name]})" for name in longest[:ROWS_NAMED])
        more = f", and {len(longest) - ROWS_NAMED} more" if len(longest) > ROWS_NAMED else ""
        super().__init__(
            f"max_tokens is {most}, and of {len(longest)} rows the tokens are more: {named}{more}; "
            f"raise it to {max(tokens.values())}, if the base reads as many, or leave them out of the set"
        )
        self.tokens, self.most = tokens, most

    def __reduce__(self) -> tuple[type, tuple[Mapping[str, int], int]]:
        """Let it travel from a process of its own."""
        return type(self), (self.tokens, self.most)


class DiskTooSmall(RetrainError):
    """A run's checkpoints and adapter would not fit on the disk; free what the message names."""


class OutOfMemory(RetrainError):
    """Half a batch does not fit into memory; train with a smaller `batch_size` or fewer `max_tokens`."""


class Unhealthy(RetrainError):
    """A run was stopped because it led nowhere; the message says why, and which learning rate to try next."""


class Cancelled(RetrainError):
    """A person asked for this work to end; what was checkpointed is kept."""


class UnknownMetric(RetrainError):
    """No metric has this name; see `retrain.metrics.METRICS`."""


class MetricFailed(RetrainError):
    """A metric broke on a case, or its score is no number; correct the case, or leave the metric out."""

    def __init__(self, metric: str, case: str, problem: str) -> None:
        """Name the metric, the key of the case and what went wrong."""
        super().__init__(f"metric {metric} failed on case {case!r}: {problem}")
        self.metric, self.case = metric, case


class MissingAnswer(RetrainError):
    """A case is judged that no model was asked; ask it, and the case that it varies, and judge again."""


class WrongSuite(RetrainError):
    """A suite cannot be read, or has no case; correct what the message names."""


class RemoteRefused(RetrainError):
    """The DVC remote cannot be reached or says no; nothing is lost: repair it and try again."""


class LostContent(RetrainError):
    """Neither the DVC remote nor the cache here has what a tag names; restore one of them from a backup."""


class ForeignChanges(RetrainError):
    """Someone works in the data repository itself; let them work in a clone, check out `main`, and try again."""


class VersionTaken(RetrainError):
    """The tag exists and holds something else; a version never changes, so publish the next one."""


class UnknownVersion(RetrainError):
    """The data repository has no such tag; publish the set first."""


class TrackerRefused(RetrainError):
    """MLflow or Weights & Biases cannot be reached or says no; nothing is lost: repair it and try again."""
