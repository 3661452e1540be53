"""Prints what a walk came to: the steps, the candidates, and the champion before and after, side by side."""

from typing import Any

from rich.console import Console
from rich.table import Table

from service.demo.walk import Story

FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "red_flag_recall": "red-flag recall"}


def print_report(story: Story) -> None:
    """Print all tables to standard output."""
    out = Console(highlight=False, markup=False, emoji=False)
    out.print(_steps(story))
    for candidate in story.candidates:
        out.print(f"version {candidate['model_version']}: {candidate['sentence']}", soft_wrap=True)
    out.print(_before_and_after(story))
    out.print(
        f"tasks: {story.counts}; training sets: {', '.join(story.training_sets)}",
        soft_wrap=True,
    )
    if story.flag_state:
        out.print(f"whoever flagged is told: {story.flag_state}")


def _steps(story: Story) -> Table:
    table = Table("step", "seconds", title="The walk", title_justify="left")
    for step in story.steps:
        table.add_row(step["name"], f"{step['seconds']:.1f}")
    table.add_row("all", f"{sum(step['seconds'] for step in story.steps):.1f}")
    return table


def _before_and_after(story: Story) -> Table:
    newest = story.newest
    table = Table(
        "on the test split",
        "base model",
        f"version {newest}",
        "n",
        title="Before and after",
        title_justify="left",
    )
    before, after = story.summary(0), story.summary(newest)
    for name, title in FIGURES.items():
        table.add_row(title, _interval(before[name]), _interval(after[name]), _count(after[name]))
    slices = sorted({s["slice"] for s in story.scores if s["suite"] == "test" and s["slice"]})
    for slice_ in slices:
        old, new = story.of(0, "accuracy", slice_), story.of(newest, "accuracy", slice_)
        table.add_row(f"  {slice_.replace('=', ': ')}", _interval(old), _interval(new), _count(new))
    return table


def _interval(score: dict[str, Any] | None) -> str:
    return f"{score['value']:.2f} ({score['low']:.2f}-{score['high']:.2f})" if score else "no case"


def _count(score: dict[str, Any] | None) -> str:
    return str(score["n"]) if score else "0"
