"""What lies between two model versions: changes of their sets row by row, of their settings and of their code."""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from retrain import archive
from retrain.amounts import how_many
from retrain.archive import LOCK
from retrain.artifacts import ArtifactStore
from retrain.bisect.changes import BrokenHistory, Change, ChangeKind, Configuration, History
from retrain.errors import EmptySplit
from retrain.types import Example, Split, TrainingSpec, content_hash, sha256_of
from service import projects
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
Whose = tuple[str, tuple[str, ...]]  # a source, and annotators by the ends of their ids
Group = tuple[ChangeKind, str, str, Sequence[str]]  # what it is about, and what others may share with it


@dataclass(frozen=True, slots=True)
class Past:
    """All that is needed to train any part of what lies between; rows are named `SETTLEMENT@SET'S VERSION`.

    `first` are the good model's rows, `earlier` by content those that each model's set had from the set before.
    `archives` hold the good model's code and the bad one's where either is not what runs here, and `untried` says what
    no training here can tell apart. Of the test split, `known` cases judge nothing: a row of theirs was learned.
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
    known: int

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
        # What the code at hand trains is remembered apart from what the archived trained.
        base = sha256_of([self.history.base, _running()])
        untried = " and ".join(filter(None, (why, self.untried)))
        return replace(self, history=History(base, left), archives=None, untried=untried)


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
    read, changes = _read(session, _chain(session, *sets))
    cases, known = _cases(session, sets[1], read.rows.values())
    earlier = [frozenset(contents(session, set_before(session, one), Split.TRAIN)) for one in sets]
    settings = dict(_settings(specs))
    changes += [Change(name, ChangeKind.CONFIGURATION, _told(specs, of)) for name, of in settings.items()]
    if earlier[0] != earlier[1] and min(spec.replay_earlier for spec in specs) < 1:
        changes.append(Change(EARLIER, ChangeKind.RECIPE, "which rows count as earlier ones"))
    code = _differing(artifacts, runs)
    changes += code.changes
    if code.untried and not changes:
        raise BrokenHistory(f"{code.untried}, and nothing else changed")
    base = {
        "good": runs[0].spec,
        "sets": [one.fingerprint for one in sets],
        "metric": metric,
        "labels": projects.labels_to_choose(session, good.project_id),
        "cases": [content_hash(one) for one in cases],
        "code": code.archives or _running(),
    }
    return Past(
        history=History(sha256_of(base), tuple(changes)),
        rows=read.rows,
        first=read.first,
        cases=cases,
        specs=specs,
        settings=settings,
        earlier=(earlier[0], earlier[1]),
        archives=code.archives,
        untried=code.untried,
        known=known,
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
        groups: defaultdict[Group, tuple[list[str], list[str]]]
        groups = defaultdict(lambda: ([], []))
        for place, keys, reasons in ((0, came, causes), (1, went, left)):
            for content, key in keys.items():
                groups[_group(reasons[key], whose[key])][place].append(self.names[content])
        for (kind, title, about, shared), (added, removed) in sorted(groups.items()):
            name = f"v{b.version} {kind} {title}"
            needs = frozenset(self.added_by[row] for row in removed if row in self.added_by)
            yield Change(
                name,
                kind,
                f"of set v{b.version}, {title}",
                tuple(sorted(added)),
                tuple(sorted(removed)),
                needs - {name},
                about,
                frozenset(shared),
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


def _read(session: Session, sets: Sequence[TrainingSet]) -> tuple[_Sets, list[Change]]:
    """Return the sets and what changed from each to the next; where a row between is gone, from first to last.

    Raises:
        RowsGone: a row of the good model's set or of the bad one's is.
    """
    read = _Sets(session, sets)
    try:
        return read, read.changes()
    except RowsGone:
        if len(sets) == 2:
            raise
        read = _Sets(session, [sets[0], sets[-1]])
        return read, read.changes()


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


def _cases(
    session: Session, training_set: TrainingSet, learned: Iterable[Example]
) -> tuple[tuple[Example, ...], int]:
    """Return the test rows that no model between learned a row of, and how many others there are.

    Splits stay, but where groups merged a row that was learned from before may judge today.

    Raises:
        EmptySplit: too few are left.
    """
    groups, prompts = set[str](), set[str]()
    for row in learned:
        groups.add(row.group)
        prompts.add(row.prompt)
    rows = _test_rows(session, training_set)
    cases = tuple(one for one in rows if one.group not in groups and one.prompt not in prompts)
    if len(cases) < FEWEST_CASES:
        needed = f"a test split of {FEWEST_CASES} rows or more that no model learned is needed"
        raise EmptySplit(f"set v{training_set.version}: {needed}")
    return cases, len(rows) - len(cases)


def _test_rows(session: Session, training_set: TrainingSet) -> list[Example]:
    rows = select(TrainingSetExample).where(
        TrainingSetExample.training_set_id == training_set.id, TrainingSetExample.split == Split.TEST
    )
    found = examples_of(session, training_set, session.exec(rows).all())
    return sorted((one for one in found if one.is_wanted), key=content_hash)


def _whose(session: Session, keys: set[str]) -> dict[str, Whose]:
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
    return {key: (sources[key], tuple(sorted(answered[key]))) for key in keys}


def _group(cause: Mapping[str, str], whose: Whose) -> Group:
    """Return the change that a row belongs to: experts' answers by source and by who gave them."""
    source, people = whose
    kind = KIND_OF.get(cause["kind"])
    if kind is ChangeKind.RECIPE:
        return kind, "how the recipe chose and merged rows", "", ()
    if kind is ChangeKind.REPAIR:
        return kind, f"repair {cause['id'][-6:]}", f"repair {cause['id']}", ()
    if kind:
        about = f"quarantine {cause['id']}" if cause["kind"] == "quarantine" else f"source {source}"
        return kind, f"source {source}, {cause['kind']}", about, ()
    by = f", by {' and '.join(people)}" if people else ""
    kind = ChangeKind.ANNOTATOR if len(people) == 1 else ChangeKind.BATCH
    shared = (f"source {source}", *(f"annotator {one}" for one in people))
    return kind, f"source {source}{by}", f"source {source}", shared


def _settings(specs: tuple[TrainingSpec, TrainingSpec]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each setting that differs, with the spec's fields that are set together."""
    differing = [f.name for f in fields(TrainingSpec) if len({getattr(spec, f.name) for spec in specs}) > 1]
    if start := [name for name in differing if name in START]:
        yield "configuration start", start
    for name in differing:
        if name not in NO_SETTING and name not in START:
            yield f"configuration {name}", [name]


def _told(specs: tuple[TrainingSpec, TrainingSpec], names: Sequence[str]) -> str:
    told = []
    for name in names:
        texts = [str(getattr(spec, name)) for spec in specs]
        shown = [text[:SHOWN_CHARS] for text in texts]
        same = shown[0] == shown[1] and texts[0] != texts[1]
        told.append(f"{name} {' → '.join(shown)}{' (they differ later on)' if same else ''}")
    return ", ".join(told)


@dataclass(frozen=True, slots=True)
class Code:
    """How two runs' code differs: as a change, as archives where the code that runs here is not theirs, in words."""

    changes: tuple[Change, ...] = ()
    archives: tuple[str, str] | None = None
    untried: str = ""


def _differing(artifacts: ArtifactStore, runs: Sequence[TrainingRun]) -> Code:
    """Return how the runs' code differs, and what differs beside it and cannot be tried here."""
    names = [run.code_archive or "" for run in runs]
    kept = [bool(name) and artifacts.exists(name) for name in names]
    if names[0] == names[1] and not kept[0]:
        return Code()
    if not all(kept):
        return Code(untried="the code of one of the models was not kept")
    good, bad = (files_of(artifacts.get_bytes(name)) for name in names)
    untried = "the installed packages differ" if good.pop(LOCK, b"") != bad.pop(LOCK, b"") else ""
    files = sorted(name for name in good.keys() | bad.keys() if good.get(name) != bad.get(name))
    if not files:
        # An upgrade since then must not be mistaken for what lies between the two.
        return Code(archives=None if good == archive.sources() else (names[0], names[1]), untried=untried)
    more = how_many(len(files) - SHOWN_FILES, "more file") if len(files) > SHOWN_FILES else ""
    title = ", ".join([*files[:SHOWN_FILES], more]).rstrip(", ")
    return Code((Change(CODE, ChangeKind.CODE, title),), (names[0], names[1]), untried)


def _running() -> str:
    """Return what names the code that runs here, whatever packages it runs with."""
    return sha256_of({name: sha256(content).hexdigest() for name, content in archive.sources().items()})


def files_of(content: bytes) -> dict[str, bytes]:
    """Return the files of an archive of code, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}
