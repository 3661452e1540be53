"""Everything besides the rows that decides what a training set holds, as a small file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from retrain.errors import RetrainError

_VERSION = 2


class BrokenRecipe(RetrainError):
    """A recipe's JSON has unknown fields or impossible values; correct what the message names."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything besides the rows that decides what a training set holds.

    With `test_from_random`, groups of randomly drawn responses become the test split, so that it looks like
    what users really ask. All other groups are drawn by hash, label by label, with the given shares; groups of flags
    alone are drawn into regression. `source_cap` is the largest share of the training rows that one source
    may have, if there are several, `subject_cap` that one person's conversations and flags may. With
    `group_by_subject` all rows of one person stand in one split. `checks` are those of the audit, beside
    those that can stop a training; none named means all.
    `replay_earlier` and `replay_general` are what a training on the set mixes in, as in `TrainingSpec`.
    """

    near_threshold: float = 0.8
    validation_share: float = 0.1
    test_share: float = 0.0
    regression_share: float = 0.05
    test_from_random: bool = True
    group_by_subject: bool = False
    source_cap: float = 1.0
    subject_cap: float = 1.0
    replay_earlier: float = 1.0
    replay_general: int = 40
    checks: tuple[str, ...] = ()
    seed: int = 0
    version: int = _VERSION

    def __post_init__(self) -> None:
        """Refuse shares and thresholds that mean nothing."""
        for name in ("near_threshold", "source_cap", "subject_cap"):
            if not 0 < getattr(self, name) <= 1:
                raise BrokenRecipe(f"{name} must be above 0 and at most 1, not {getattr(self, name)}")
        names = ("validation_share", "test_share", "regression_share")
        shares = tuple(getattr(self, name) for name in names)
        if not (min(shares) >= 0 and sum(shares) < 1):
            raise BrokenRecipe(f"{', '.join(names)} must leave some for training, not {shares}")
        for name, most in (("replay_earlier", 1), ("replay_general", 10_000)):
            if not 0 <= getattr(self, name) <= most:
                raise BrokenRecipe(f"{name} must be from 0 to {most}, not {getattr(self, name)}")
        if not 1 <= self.version <= _VERSION:
            raise BrokenRecipe(f"version must be from 1 to {_VERSION}, not {self.version}")

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Recipe":
        """Read a recipe.

        Raises:
            BrokenRecipe: a field is unknown, of another type or impossible.
        """
        defaults, read = asdict(cls()), {}
        for name, value in document.items():
            if name not in defaults:
                raise BrokenRecipe(f"a recipe has no field {name!r}; there are {', '.join(defaults)}")
            wanted = type(defaults[name])
            is_texts = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
            if not (is_texts if wanted is tuple else type(value) in _READ_AS[wanted]):
                raise BrokenRecipe(f"{name} must be {_NAMES[wanted]}, not {value!r}")
            try:
                read[name] = wanted(value)
            except OverflowError as error:
                raise BrokenRecipe(f"{name} is too large a number") from error
        return cls(**read)


_READ_AS = {float: (float, int), int: (int,), bool: (bool,)}
_NAMES = {float: "a number", int: "a whole number", bool: "true or false", tuple: "a list of texts"}
