"""The newest point that a training run can go on from."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch.nn import Parameter


@dataclass(slots=True)
class State:
    """What a checkpoint keeps beside the weights and the optimizer's moments."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    probes: dict[int, float] = field(default_factory=dict)
    out_of_memory: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The newest point a run can go on from; one that another run left is not read."""

    path: Path
    run: str

    def save(self, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer, state: State) -> None:
        """Replace the checkpoint in one step, so that there is always a whole one."""
        partial = self.path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(
                {
                    "run": self.run,
                    "state": asdict(state),
                    "weights": {name: parameter.detach() for name, parameter in weights.items()},
                    "optimizer": optimizer.state_dict(),
                },
                file,
            )
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def restore(self, weights: Mapping[str, Parameter], optimizer: torch.optim.Optimizer) -> State:
        """Load the checkpoint into the weights and the optimizer, if this run left one."""
        if not self.path.exists():
            return State()
        saved = torch.load(self.path, weights_only=True, map_location="cpu")
        if saved["run"] != self.run:
            return State()
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(saved["weights"][name])
        optimizer.load_state_dict(saved["optimizer"])
        return State(**saved["state"])
