"""What lies between two model versions: changes of their sets row by row, of their settings and of their code."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain.amounts import how_many
from retrain.archive import LOCK
from retrain.artifacts import ArtifactStore
from retrain.bisect.changes import BrokenHistory, Change, ChangeKind, Configuration, History
from retrain.errors import EmptySplit
from retrain.types import Example, Split, TrainingSpec, content_hash, sha256_of
from service.answers.changes import compare
from service.answers.erasures import erased_rows, set_before
from service.answers.examples import LOOKED_UP, contents, examples_of
from service.errors import Invalid, NoCommonAncestor, RowsGone
from service.tables import (
    Annotation,
    AnnotationTask,
    ModelVersion,
    Response,
    Settlement,
    SettlementAnnotation,
    Source,
    TrainingRun,
    TrainingSet,
    TrainingSetExample,
)

# Chance, names and what changes no weight; models of two bases have nothing in common.
NO_SETTING = {"training_set", "seed", "checkpoint_every", "base_model", "base_sha256"}
START = ("mode", "parent_adapter")  # one says nothing without the other
EARLIER, CODE = "recipe earlier", "code"
KIND_OF = {
    "admission": ChangeKind.SOURCE,
    "quarantine": ChangeKind.SOURCE,
    "repair": ChangeKind.REPAIR,
    **dict.fromkeys(("recipe", "merge", "duplicate"), ChangeKind.RECIPE),
}
SHOWN_CHARS, SHOWN_FILES = 40, 3
FEWEST_CASES = 2


@dataclass(frozen=True, slots=True)
class Past:
    """All that is needed to train any part of what lies between; rows are named `SETTLEMENT@SET'S VERSION`.

    `first` are the good model's rows, `earlier` by content those that each model's set had from the set before.
    `archives` hold the good model's code and the bad one's where these differ, and `untried` says what no training
    here can tell apart.
    """

    history: History
    rows: Mapping[str, Example]
    first: frozenset[str]
    cases: tuple[Example, ...]
    specs: tuple[TrainingSpec, TrainingSpec]
    settings: Mapping[str, Sequence[str]]
    earlier: tuple[frozenset[str], frozenset[str]]
    archives: tuple[str, str] | None
    untried: str

    def examples(self, made: Configuration) -> list[Example]:
        """Return the rows of a configuration, in the order in which a set holds them."""
        held = set(self.first)
        for change in self.history.named(made.changes):
            held = held - set(change.removed) | set(change.added)
        held = held - made.untouched | self.first & made.untouched
        return sorted((self.rows[name] for name in held), key=content_hash)

    def spec(self, made: Configuration, seed: int) -> TrainingSpec:
        """Return the good model's settings with those of the changes."""
        good, bad = self.specs
        names = [name for one in made.changes for name in self.settings.get(one, ())]
        changed: dict[str, Any] = {name: getattr(bad, name) for name in names}
        return replace(good, **changed | {"seed": seed})

    def without_code(self, why: str) -> "Past":
        """Return what is left to be tried where code cannot be.

        Raises:
            BrokenHistory: nothing is.
        """
        left = tuple(change for change in self.history.changes if change.id != CODE)
        if not left:
            raise BrokenHistory(f"{why}, and nothing else changed")
        untried = " and ".join(filter(None, (why, self.untried)))
        return replace(self, history=replace(self.history, changes=left), archives=None, untried=untried)


def between(
    session: Session, artifacts: ArtifactStore, good: ModelVersion, bad: ModelVersion, *, metric: str
) -> Past:
    """Return what changed from the good model to the bad one, as its sets and runs are stored.

    Raises:
        Invalid: a version was not trained here.
        NoCommonAncestor: the models learned by different bases, or from sets that go back to none in common.
        RowsGone: rows were erased, or may not be learned from any more.
        EmptySplit: there is too little to judge by.
        BrokenHistory: nothing changed, or nothing that could be tried.
    """
    runs = [_run(session, one) for one in (good, bad)]
    specs = TrainingSpec.from_json(runs[0].spec), TrainingSpec.from_json(runs[1].spec)
    if specs[0].base_sha256 != specs[1].base_sha256:
        raise NoCommonAncestor(f"v{good.number} and v{bad.number} are adapters of different base models")
    sets = [session.get_one(TrainingSet, run.training_set_id) for run in runs]
    read = _Sets(session, _chain(session, *sets))
    changes = read.changes()
    cases = _test_rows(session, sets[1])
    if len(cases) < FEWEST_CASES:
        raise EmptySplit(f"set v{sets[1].version}: a test split of {FEWEST_CASES} rows or more is needed")
    earlier = [frozenset(contents(session, set_before(session, one), Split.TRAIN)) for one in sets]
    settings = dict(_settings(specs))
    changes += [Change(name, ChangeKind.CONFIGURATION, _told(specs, of)) for name, of in settings.items()]
    if earlier[0] != earlier[1] and min(spec.replay_earlier for spec in specs) < 1:
        changes.append(Change(EARLIER, ChangeKind.RECIPE, "which rows count as earlier ones"))
    files, untried = _differing(artifacts, runs)
    if files:
        more = how_many(len(files) - SHOWN_FILES, "more file") if len(files) > SHOWN_FILES else ""
        changes.append(Change(CODE, ChangeKind.CODE, ", ".join([*files[:SHOWN_FILES], more]).rstrip(", ")))
    if untried and not changes:
        raise BrokenHistory(f"{untried}, and nothing else changed")
    base = {"good": runs[0].spec, "sets": [one.fingerprint for one in sets], "metric": metric}
    return Past(
        history=History(sha256_of(base | {"code": [run.code_archive for run in runs]}), tuple(changes)),
        rows=read.rows,
        first=read.first,
        cases=tuple(cases),
        specs=specs,
        settings=settings,
        earlier=(earlier[0], earlier[1]),
        archives=(str(runs[0].code_archive), str(runs[1].code_archive)) if files else None,
        untried=untried,
    )


class _Sets:
    """Reads the training rows of sets that follow each other, and groups what changed by its cause."""

    def __init__(self, session: Session, sets: Sequence[TrainingSet]) -> None:
        self.session, self.sets = session, sets
        self.names: dict[str, str] = {}  # by content: one that comes again is the row that it was
        self.added_by: dict[str, str] = {}
        self.rows: dict[str, Example] = {}
        self._load(sets[0], contents(session, sets[0].id, Split.TRAIN))
        self.first = frozenset(self.rows)

    def changes(self) -> list[Change]:
        """Return what changed from each set to the next, in order."""
        return [change for a, b in pairwise(self.sets) for change in self._step(a, b)]

    def _step(self, a: TrainingSet, b: TrainingSet) -> Iterator[Change]:
        before, after = (contents(self.session, one.id, Split.TRAIN) for one in (a, b))
        came = {content: key for content, key in after.items() if content not in before}
        went = {content: key for content, key in before.items() if content not in after}
        self._load(b, came)
        told = compare(self.session, a, b)
        changed = [*told["changed"], *told["moved"]]
        causes = {one["row"]["key"]: one["cause"] for one in (*told["added"], *changed)}
        left = {one["row"]["key"]: one["cause"] for one in told["removed"]}
        left |= {one["was_key"]: one["cause"] for one in changed}
        whose = _whose(self.session, {*came.values(), *went.values()})
        groups: defaultdict[tuple[ChangeKind, str], tuple[list[str], list[str]]]
        groups = defaultdict(lambda: ([], []))
        for place, keys, reasons in ((0, came, causes), (1, went, left)):
            for content, key in keys.items():
                groups[_group(reasons[key], whose[key])][place].append(self.names[content])
        for (kind, title), (added, removed) in sorted(groups.items()):
            name = f"v{b.version} {kind} {title}"
            needs = frozenset(self.added_by[row] for row in removed if row in self.added_by)
            yield Change(
                name,
                kind,
                f"of set v{b.version}, {title}",
                tuple(sorted(added)),
                tuple(sorted(removed)),
                needs - {name},
            )
            self.added_by |= dict.fromkeys(added, name)

    def _load(self, training_set: TrainingSet, contents: Mapping[str, str]) -> None:
        """Read rows of a set that no earlier one held.

        Raises:
            RowsGone: one was erased, may not be learned from any more, or is not what it was.
        """
        new = {content: key for content, key in contents.items() if content not in self.names}
        of_set = select(TrainingSetExample).where(TrainingSetExample.training_set_id == training_set.id)
        wanted = [row for row in self.session.exec(of_set).all() if row.content_sha256 in new]
        read = {content_hash(one): one for one in examples_of(self.session, training_set, wanted)}
        if gone := len(new.keys() - read.keys()) or erased_rows(self.session, training_set):
            what = how_many(gone, "row", "are erased or not to be learned from any more")
            raise RowsGone(f"set v{training_set.version}: {what}")
        self.names |= {content: f"{key}@{training_set.version}" for content, key in new.items()}
        self.rows |= {self.names[content]: read[content] for content in new}


def _run(session: Session, model: ModelVersion) -> TrainingRun:
    run = session.get(TrainingRun, model.training_run_id) if model.training_run_id else None
    if run is None or "base_sha256" not in run.spec:
        raise Invalid(f"v{model.number} was not trained here, so that nothing can be trained again")
    return run


def _chain(session: Session, good: TrainingSet, bad: TrainingSet) -> list[TrainingSet]:
    """Return the sets from the good one to the bad one; if that does not follow from it, these two alone."""
    of_bad, of_good = (list(_ancestors(session, one)) for one in (bad, good))
    if good in of_bad:
        return of_bad[: of_bad.index(good) + 1][::-1]
    if not any(one in of_bad for one in of_good):
        raise NoCommonAncestor(f"sets v{good.version} and v{bad.version} go back to none in common")
    return [good, bad]


def _ancestors(session: Session, training_set: TrainingSet) -> Iterator[TrainingSet]:
    one: TrainingSet | None = training_set
    while one:
        yield one
        one = session.get(TrainingSet, one.parent_id) if one.parent_id else None


def _test_rows(session: Session, training_set: TrainingSet) -> list[Example]:
    rows = select(TrainingSetExample).where(
        TrainingSetExample.training_set_id == training_set.id, TrainingSetExample.split == Split.TEST
    )
    found = examples_of(session, training_set, session.exec(rows).all())
    return sorted((one for one in found if one.is_wanted), key=content_hash)


def _whose(session: Session, keys: set[str]) -> dict[str, str]:
    """Say of each settlement from which source it came and, by id alone, whose answers it is."""
    ids, sources = [UUID(key) for key in sorted(keys)], dict[str, str]()
    answered: defaultdict[str, set[str]] = defaultdict(set)
    for start in range(0, len(ids), LOOKED_UP):
        part = col(Settlement.id).in_(ids[start : start + LOOKED_UP])
        named = (
            select(Settlement.id, Source.name)
            .join(AnnotationTask, col(AnnotationTask.id) == Settlement.task_id)
            .join(Response, col(Response.id) == AnnotationTask.response_id)
            .join(Source, col(Source.id) == Response.source_id)
        )
        sources |= {str(key): name for key, name in session.exec(named.where(part))}
        by = (
            select(Settlement.id, Annotation.annotator_id)
            .join(SettlementAnnotation, col(SettlementAnnotation.settlement_id) == Settlement.id)
            .join(Annotation, col(Annotation.id) == SettlementAnnotation.annotation_id)
        )
        for key, annotator in session.exec(by.where(part)):
            answered[str(key)].add(str(annotator)[-6:])
    people = {key: " and ".join(sorted(answered[key])) for key in keys}
    return {key: f"source {sources[key]}" + (f", by {people[key]}" if people[key] else "") for key in keys}


def _group(cause: Mapping[str, str], whose: str) -> tuple[ChangeKind, str]:
    """Return the change that a row belongs to: experts' answers by source and by who gave them."""
    kind = KIND_OF.get(cause["kind"])
    if kind in (ChangeKind.REPAIR, ChangeKind.RECIPE):
        return kind, f"{cause['kind']} {cause['id'][-6:]}"
    if kind:
        return kind, f"{whose.partition(',')[0]}, {cause['kind']}"
    is_one = ", by " in whose and " and " not in whose.partition(", by ")[2]
    return ChangeKind.ANNOTATOR if is_one else ChangeKind.BATCH, whose


def _settings(specs: tuple[TrainingSpec, TrainingSpec]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each setting that differs, with the spec's fields that are set together."""
    differing = [f.name for f in fields(TrainingSpec) if len({getattr(spec, f.name) for spec in specs}) > 1]
    if start := [name for name in differing if name in START]:
        yield "configuration start", start
    for name in differing:
        if name not in NO_SETTING and name not in START:
            yield f"configuration {name}", [name]


def _told(specs: tuple[TrainingSpec, TrainingSpec], names: Sequence[str]) -> str:
    values = [(name, [str(getattr(spec, name)) for spec in specs]) for name in names]
    return ", ".join(f"{name} {' → '.join(text[:SHOWN_CHARS] for text in both)}" for name, both in values)


def _differing(artifacts: ArtifactStore, runs: Sequence[TrainingRun]) -> tuple[list[str], str]:
    """Return the files in which the runs' code differs, and what differs beside them and cannot be tried here."""
    names = [run.code_archive for run in runs]
    if names[0] == names[1]:
        return [], ""
    if not all(name and artifacts.exists(name) for name in names):
        return [], "the code of one of the models was not kept"
    good, bad = (_files(artifacts.get_bytes(str(name))) for name in names)
    differing = sorted(name for name in good.keys() | bad.keys() if good.get(name) != bad.get(name))
    packages = "the installed packages differ" if LOCK in differing else ""
    return [name for name in differing if name != LOCK], packages


def _files(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}
