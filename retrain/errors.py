"""Everything retraining can refuse or fail at."""


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


class TrainingBroke(RetrainError):
    """Training would publish something wrong (loss not finite, wrong parameters changed); look at the spec."""


class Cancelled(RetrainError):
    """A person asked for this work to end; what was checkpointed is kept."""


class UnknownMetric(RetrainError):
    """No metric has this name; see `retrain.metrics.METRICS`."""


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
    """MLflow cannot be reached or says no; nothing is lost: repair it and try again."""
