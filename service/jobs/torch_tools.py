"""What training and evaluation need of torch, the tokenizers and `datasets`, as the stages ask for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from retrain import lora, parquet, reload
from retrain.base_models import BaseModel, locate
from retrain.generate import LanguageModel
from retrain.types import Message
from service.settings import Settings

REPLAY_TOKENS = 48


@dataclass(frozen=True, slots=True)
class TorchTools:
    """The `Trainer` of the training stage and the `Examiner` of the evaluation stage."""

    settings: Settings

    train = staticmethod(lora.train)
    reload_equals = staticmethod(reload.reload_equals)
    read = staticmethod(parquet.read)
    write = staticmethod(parquet.write)

    def __post_init__(self) -> None:
        """Use as many threads as the settings say; else OMP_NUM_THREADS or every core."""
        if self.settings.training_threads:
            torch.set_num_threads(self.settings.training_threads)

    def locate(self, reference: str) -> BaseModel:
        return locate(reference, self.settings.cache_dir / "models")

    def open(self, base_model: str, system_prompt: str) -> LanguageModel:
        return LanguageModel.load(self.locate(base_model).directory, system_prompt=system_prompt)

    def answer_as_base(self, base: BaseModel, conversations: Sequence[Sequence[Message]]) -> list[str]:
        model = LanguageModel.load(base.directory, system_prompt="")
        return model.answer(conversations, max_new_tokens=REPLAY_TOKENS)
