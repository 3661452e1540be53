"""Shows training runs and a search's trials in Weights & Biases, online or in files for later."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain.errors import TrackerRefused


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of one run or trial; `curve` has steps and values, `group` is what it belongs to."""

    id: str
    project: str
    name: str
    group: str
    settings: Mapping[str, object]
    summary: Mapping[str, object]
    curve: Sequence[tuple[float, float]] = ()
    measured: str = "loss"


def is_wanted() -> bool:
    """Say whether the environment asks for it, by a key or by `WANDB_MODE=offline`."""
    return bool(os.environ.get("WANDB_API_KEY")) or os.environ.get("WANDB_MODE") == "offline"


def show(runs: Sequence[Shown], folder: Path) -> None:
    """Report each that was not reported before. Offline runs lie in `folder`, for `wandb sync`.

    Raises:
        TrackerRefused: Weights & Biases is not installed, said no, or nothing.
    """
    try:
        import wandb  # noqa: PLC0415  an extra, and seconds to load
    except ImportError as error:
        raise TrackerRefused("Weights & Biases is not installed; pip install 'errata[wandb]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    quiet = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
    )
    try:
        for one in runs:
            if any(folder.glob(f"wandb/offline-run-*-{one.id}")):
                continue
            with wandb.init(
                project=one.project,
                id=one.id,
                name=one.name,
                group=one.group,
                config=dict(one.settings),
                dir=str(folder),
                resume="allow",
                settings=quiet,
            ) as run:
                if run.resumed:
                    continue
                run.define_metric(one.measured, step_metric="step")
                for step, value in one.curve:
                    run.log({"step": step, one.measured: value})
                run.summary.update(dict(one.summary))
    except (wandb.Error, OSError) as error:
        raise TrackerRefused(f"Weights & Biases: {error}") from error
    finally:
        wandb.teardown()
