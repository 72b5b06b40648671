"""Tracing: a model with positional inputs and outputs, and example inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compressor.models import checkpoint, loading, outputs
from compressor.models.families import FAMILIES, longest
from compressor.models.sentence_embedding import SentenceEmbedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Traceable(torch.nn.Module):
    """Takes `input_ids, attention_mask[, token_type_ids]` in this order and returns the logits, or several outputs.

    A trace binds its inputs by position, and tokenizers order theirs otherwise than models do: with two of them swapped
    it still runs, and is wrong. Hence one order, named here; and the same for outputs.

    Args:
        model: The model.
        masked: What is added to attention scores of padding; None for the smallest number of the model's type.

    Attributes:
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        longest: Tokens of the longest sequence that it takes.
    """

    def __init__(self, model: PreTrainedModel, masked: float | None = None) -> None:
        super().__init__()
        self.model = model
        self._masked = masked
        self.input_names = checkpoint.input_names(model.config.model_type)
        self.output_names = outputs.output_names(model)
        family = FAMILIES[model.config.model_type]
        self.longest = longest(model.config)
        self._one_type = "token_type" in family.outside and "token_type_ids" not in self.input_names
        self._masks = family.masks
        family.prepare(model, torch.finfo(model.dtype).min if masked is None else masked)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The only output as it is, several as a tuple, for inputs of `(batch, sequence)`; see `models.outputs`."""
        named = dict(zip(self.input_names, inputs, strict=True))
        if self._one_type:  # the model would look the zeros up; `zeros_like` becomes an operator that few formats have
            named["token_type_ids"] = named["input_ids"] * 0
        hook = self.model.base_model.register_forward_pre_hook(self._with_masks, with_kwargs=True)
        try:
            given = tuple(outputs.outputs_by_name(self.model, self.model(**named)).values())
        finally:
            hook.remove()
        return given[0] if len(given) == 1 else given

    def _with_masks(
        self, _: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The encoder's inputs, with the mask as it takes it; a head that averages tokens takes it as it is."""
        dtype = self.model.dtype
        least = torch.finfo(dtype).min if self._masked is None else self._masked
        return inputs, {**named, **self._masks(self.model.config, named["attention_mask"], dtype, least)}


def load(source: Path, attention: str, masked: float | None = None, *, floats_alone: bool = False) -> Traceable:
    """Loads a checkpoint for tracing.

    Args:
        source: Checkpoint folder.
        attention: transformers' `attn_implementation`; of no effect where classes have attention of their own.
        masked: See `Traceable`.
        floats_alone: Whether the format has no outputs of 8 bits: vectors are given as floats alone.
    """
    own = checkpoint.Checkpoint(source).known_family.own_attention
    model = loading.load_model(source, attn_implementation="eager" if own else attention)
    if floats_alone and isinstance(how := getattr(model, "embedding", None), SentenceEmbedding):
        model.embedding = replace(how, precisions=())
    return Traceable(model, masked).eval()


def example_inputs(module: Traceable) -> tuple[torch.Tensor, ...]:
    """Two rows of eight tokens, one of them padded, so that no size is 1 and the mask matters. `(2, 8)` each."""
    generator = torch.Generator().manual_seed(0)
    length = min(8, module.longest)
    ids = torch.randint(0, int(module.model.config.vocab_size), (2, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    return (ids, mask, torch.zeros_like(ids))[: len(module.input_names)]
