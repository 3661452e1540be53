"""What came of each model version's answers, as their host reported it later."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from retrain.intervals import Interval, mean
from service.tables import ModelVersion, Outcome, Project

VERSIONS, NEWEST = 8, 300
FEWEST = 5  # of fewer an interval says nothing, and one of them would be somebody's own


@dataclass(frozen=True, slots=True)
class Figure:
    """The mean of one outcome over a version's newest answers."""

    model_version: int
    name: str
    unit: str
    mean: Interval


def outcomes_of(session: Session, project: Project) -> list[Figure]:
    """Return the newest versions' figures by outcome, the newest version first; fewer than `FEWEST` values have none.

    A version's newest `NEWEST` outcomes count. What answers of no version of ours came to is not told.
    """
    newest = (
        select(ModelVersion)
        .where(ModelVersion.project_id == project.id)
        .order_by(col(ModelVersion.number).desc())
        .limit(VERSIONS)
    )
    figures = [figure for version in session.exec(newest) for figure in of_version(session, version)]
    return sorted(figures, key=lambda figure: (figure.name, figure.unit))


def of_version(session: Session, version: ModelVersion) -> list[Figure]:
    """Return one version's figures; fewer than `FEWEST` values have none."""
    rows = session.execute(
        select_columns(col(Outcome.name), col(Outcome.unit), col(Outcome.value))
        .where(col(Outcome.model_version_id) == version.id)
        .order_by(col(Outcome.id).desc())
        .limit(NEWEST)
    )
    values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for name, unit, value in rows:
        values[name, unit].append(value)
    return [
        Figure(version.number, name, unit, _mean(tuple(found)))
        for (name, unit), found in values.items()
        if len(found) >= FEWEST
    ]


def of_both(
    session: Session, before: ModelVersion, now: ModelVersion
) -> dict[str, tuple[Interval, Interval]]:
    """Return both versions' means by outcome, of those that are known of both in one unit."""
    known = {(each.name, each.unit): each.mean for each in of_version(session, before)}
    return {
        each.name: (known[each.name, each.unit], each.mean)
        for each in of_version(session, now)
        if (each.name, each.unit) in known
    }


@lru_cache(maxsize=128)
def _mean(values: Sequence[float]) -> Interval:
    return mean(values, seed=0)
