"""Tracing: a model with positional inputs and outputs, and example inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compressor.models import checkpoint, loading, outputs
from compressor.models.families import FAMILIES, longest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Traceable(torch.nn.Module):
    """Takes `input_ids, attention_mask[, token_type_ids]` in this order and returns the logits, or several outputs.

    A trace binds its inputs by position, and tokenizers order theirs otherwise than models do: with two of them swapped
    it still runs, and is wrong. Hence one order, named here; and the same for outputs.

    Args:
        model: The model.

    Attributes:
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        longest: Tokens of the longest sequence that it takes.
        masked: What is added to attention scores of padding; None for the smallest number of the model's type.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.masked: float | None = None
        self.input_names = checkpoint.input_names(model.config.model_type)
        self.output_names = outputs.output_names(model)
        family = FAMILIES[model.config.model_type]
        self.longest = longest(model.config)
        self._one_type = "token_type" in family.outside and "token_type_ids" not in self.input_names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The only output as it is, several as a tuple, for inputs of `(batch, sequence)`; see `models.outputs`."""
        named = dict(zip(self.input_names, inputs, strict=True))
        if self._one_type:  # the model would look the zeros up; `zeros_like` becomes an operator that few formats have
            named["token_type_ids"] = named["input_ids"] * 0
        # The model would make this mask itself, by a detour of a dozen operators that traces keep.
        masked = named["attention_mask"][:, None, None, :] == 0
        least = torch.finfo(self.model.dtype).min if self.masked is None else self.masked
        named["attention_mask"] = masked.to(self.model.dtype) * least
        given = tuple(outputs.outputs_by_name(self.model, self.model(**named)).values())
        return given[0] if len(given) == 1 else given


def load(source: Path, attention: str) -> Traceable:
    """Loads a checkpoint for tracing.

    Args:
        source: Checkpoint folder.
        attention: transformers' `attn_implementation`.
    """
    model = loading.load_model(source, attn_implementation=attention)
    return Traceable(model).eval()


def example_inputs(module: Traceable) -> tuple[torch.Tensor, ...]:
    """Two rows of eight tokens, one of them padded, so that no size is 1 and the mask matters. `(2, 8)` each."""
    generator = torch.Generator().manual_seed(0)
    length = min(8, module.longest)
    ids = torch.randint(0, int(module.model.config.vocab_size), (2, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return (ids, mask, torch.zeros_like(ids))[: len(module.input_names)]
