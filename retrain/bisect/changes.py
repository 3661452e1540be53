"""What lies between a good model and a bad one, as changes that can be made one by one."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from retrain.errors import RetrainError
from retrain.types import sha256_of


class BrokenHistory(RetrainError):
    """Changes have no sense together: none, one name twice, or one that needs a later; correct what is named."""


class Part(StrEnum):
    """What a change belongs to; each part can be good while the others are bad."""

    DATA = "data"
    CODE = "code"
    CONFIGURATION = "configuration"


class ChangeKind(StrEnum):
    """Where a change comes from; a recipe decides which rows a set holds, so it belongs to the data."""

    BATCH = "batch"
    SOURCE = "source"
    ANNOTATOR = "annotator"
    REPAIR = "repair"
    RECIPE = "recipe"
    CODE = "code"
    CONFIGURATION = "configuration"

    @property
    def part(self) -> Part:
        """The part that changes of this kind belong to."""
        return Part(self.value) if self.value in (Part.CODE, Part.CONFIGURATION) else Part.DATA


@dataclass(frozen=True, slots=True)
class Change:
    """One change: `added` and `removed` name rows; a changed row is one of each.

    `about` is what people can do something about, as `KIND NAME`: a source, a repair, a quarantine. `needs` are the
    changes without which it cannot be made: the revision of the code before, or the batch whose rows a repair drops.
    `shared` names what it may have in common with others, such as an annotator whose answers came in several batches.
    """

    id: str
    kind: ChangeKind
    title: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    about: str = ""
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one training is made of: the good model's data, code and settings with these changes made.

    `untouched` rows stay as the good model had them, whatever the changes say.
    """

    changes: frozenset[str]
    untouched: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class History:
    """All changes from the good model to the bad one, in their order.

    `base` names everything else that scores hang on: the good model, the suite, the metric.

    Raises:
        BrokenHistory: there is no change, a name stands twice, or a change needs one that is not before it.
    """

    base: str
    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        if not self.changes:
            raise BrokenHistory("nothing changed between the two models")
        seen: set[str] = set()
        for change in self.changes:
            if change.id in seen:
                raise BrokenHistory(f"two changes are called {change.id}")
            if missing := sorted(change.needs - seen):
                raise BrokenHistory(f"{change.id} needs {missing[0]}, which is no change before it")
            seen.add(change.id)

    def named(self, ids: Iterable[str]) -> list[Change]:
        """Return the changes of these names, in order."""
        wanted = set(ids)
        return [change for change in self.changes if change.id in wanted]

    def making(self, changes: Iterable[Change], *, only: Iterable[str] | None = None) -> Configuration:
        """Return the configuration with these changes and all that they need; of their rows, `only` those named."""
        made = {change.id for change in changes}
        for change in reversed(self.changes):
            if change.id in made:
                made |= change.needs
        touched = {row for one in self.named(made) for row in (*one.added, *one.removed)}
        return Configuration(frozenset(made), frozenset(touched - set(touched if only is None else only)))

    def without(self, changes: Iterable[Change]) -> list[Change]:
        """Return all changes but these and those that need them."""
        gone = {change.id for change in changes}
        for change in self.changes:
            if change.needs & gone:
                gone.add(change.id)
        return [change for change in self.changes if change.id not in gone]

    def key_of(self, configuration: Configuration, seed: int) -> str:
        """Return the name by which this training is remembered."""
        changes, untouched = sorted(configuration.changes), sorted(configuration.untouched)
        return sha256_of({"base": self.base, "changes": changes, "untouched": untouched, "seed": seed})
