"""What a bench found, as a table for people and a line for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

Figure = float | int


class MissingData(Exception):
    """The bench needs something that is not here; the message says what."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure and the most that it may be, or the least."""

    aim: Figure
    got: Figure
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is as aimed."""
        return self.got >= self.aim if self.at_least else self.got <= self.aim


@dataclass(frozen=True, slots=True)
class Report:
    """The table's rows, the figures behind them, and the aims."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    figures: Mapping[str, Figure]
    aims: Mapping[str, Aim]
    ratios: Mapping[str, Figure] = field(default_factory=dict)

    def show(self, bench: str) -> None:
        """Print the table, then the line."""
        table = Table(*self.columns)
        for row in self.rows:
            table.add_row(*map(str, row))
        Console().print(table)
        aims = {name: {"aim": one.aim, "got": one.got, "met": one.met} for name, one in self.aims.items()}
        line = {"bench": bench, "figures": self.figures, "ratios": self.ratios, "aims": aims}
        line |= {"met": all(one.met for one in self.aims.values())}
        sys.stdout.write(f"{json.dumps(line)}\n")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
