"""Encoders with a pooled output: a class for each family, made of its encoder's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from compressor.models.heads import EMBEDDING, EMBEDDINGS, SENTENCE_EMBEDDING, TOKENS
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.small_vectors import BITS, LARGEST_INTEGER, Precision

DENSE = "sentence_dense"
"""The module of the dense layer."""
_LEAST_LENGTH = 1e-6
"""A vector is divided by at least this: a number that half precision has, too. In plain operators, which all formats
have."""
_LOWEST = -6e4
"""The channels of padding where the largest is looked for: below all others that half precision has."""


@dataclass
class SentenceEmbeddingOutput(ModelOutput):  # type: ignore[misc] # of Any, to mypy
    """The outputs of a sentence encoder.

    Attributes:
        sentence_embedding: The vector of each text. `(batch, dimensions)`
        token_embeddings: The last hidden states. `(batch, sequence, hidden)`
        sentence_embedding_int8: The vector as integers, where the settings name `int8`. int8 `(batch, dimensions)`
        sentence_embedding_binary: Its signs, where they name `binary`. uint8 `(batch, dimensions / 8)`
        hidden_states: Of the embeddings and of each layer, where they are asked for.
        attentions: Of each layer, where they are asked for.
    """

    sentence_embedding: torch.Tensor | None = None
    token_embeddings: torch.Tensor | None = None
    sentence_embedding_int8: torch.Tensor | None = None
    sentence_embedding_binary: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def pooled(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector of the tokens of each text. `(batch, hidden)`.

    Args:
        states: Hidden states `(batch, sequence, hidden)`.
        mask: 1 for tokens, 0 for padding. `(batch, sequence)`
        pooling: See `SentenceEmbedding`.

    Nothing on the way is larger than the states: the sum of a text's tokens may be beyond half precision, their mean
    is not.

    Source: Reimers & Gurevych 2019, "Sentence-BERT", section 3.
    """
    if pooling == "cls":
        return states[:, 0]
    weight = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return (states * weight + (1 - weight) * _LOWEST).amax(dim=1)
    return (states * (weight / weight.sum(dim=1, keepdim=True).clamp(min=1))).sum(dim=1)


def normalized(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors divided by their lengths; of zeros, zeros. `(batch, dimensions)`.

    They are divided by their largest number before: in half precision, squares of numbers above 256 are infinite, and
    those of numbers below 2^-12 are 0.
    """
    largest = vectors.abs().amax(dim=-1, keepdim=True)
    scaled = vectors / largest.clamp(min=_LEAST_LENGTH)
    return scaled / (scaled * scaled).sum(dim=-1, keepdim=True).sqrt().clamp(min=_LEAST_LENGTH)


def _integers(vector: torch.Tensor, how: SentenceEmbedding) -> torch.Tensor:
    """See `small_vectors.integers`. int8 `(batch, dimensions)`."""
    assert how.int8_scale is not None, "written with the precision"
    unit = vector.float() if how.normalize else normalized(vector.float())
    # By a tensor, so that formats divide, as NumPy does, and do not multiply by the inverse.
    scaled = unit / torch.tensor(how.int8_scale, device=unit.device)
    return scaled.round().clamp(-LARGEST_INTEGER, LARGEST_INTEGER).to(torch.int8)


def _bits(vector: torch.Tensor, how: SentenceEmbedding) -> torch.Tensor:
    """Which numbers are above 0, as `numpy.packbits` packs them. uint8 `(batch, dimensions / 8)`.

    In sums of floats, which every format has. Not as a product of matrices, which quantization would round.
    """
    bits = (vector > 0).float().reshape(-1, vector.shape[-1] // BITS, BITS)
    values = torch.tensor([2.0**place for place in reversed(range(BITS))], device=vector.device)
    return (bits * values).sum(dim=-1).to(torch.uint8)


_SMALLER: dict[Precision, Callable[[torch.Tensor, SentenceEmbedding], torch.Tensor]] = {
    "int8": _integers,
    "binary": _bits,
}


class AutoModelForSentenceEmbedding:
    """Finds the class of a config, as transformers' own Auto classes do."""

    @staticmethod
    def from_config(config: PreTrainedConfig) -> PreTrainedModel:
        """A model with new weights."""
        return class_of(config)(config)

    @staticmethod
    def from_pretrained(path: Path, **how: Any) -> Any:
        """Loads a checkpoint; see transformers."""
        shared = {name: how[name] for name in ("local_files_only", "trust_remote_code") if name in how}
        own = [name for name in how if name in (KEY, "problem_type")]
        config = transformers.AutoConfig.from_pretrained(path, **shared, **{name: how.pop(name) for name in own})
        return class_of(config).from_pretrained(path, config=config, **how)


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of a config's family."""
    return _class(transformers.MODEL_MAPPING[type(config)])


@cache
def _class(encoder: type[PreTrainedModel]) -> type[PreTrainedModel]:
    base = next(kind for kind in encoder.__mro__ if kind.__name__.endswith("PreTrainedModel"))  # of its family
    without_pooler = (
        {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(encoder).parameters else {}
    )

    class SentenceEncoder(base):  # type: ignore[misc, valid-type] # the family's own
        def __init__(self, config: PreTrainedConfig) -> None:
            super().__init__(config)
            self.embedding = SentenceEmbedding(**getattr(config, KEY, {}))
            setattr(self, self.base_model_prefix, encoder(config, **without_pooler))
            if self.embedding.dense is not None:
                setattr(self, DENSE, torch.nn.Linear(config.hidden_size, self.embedding.dense))
            self.post_init()

        def forward(self, attention_mask: torch.Tensor | None = None, **inputs: Any) -> SentenceEmbeddingOutput:
            if attention_mask is None:
                attention_mask = torch.ones_like(inputs["input_ids"])
            given = self.base_model(attention_mask=attention_mask, **{**inputs, "return_dict": True})
            states, how = given.last_hidden_state, self.embedding
            vector = pooled(states, attention_mask, how.pooling)
            if how.dense is not None:
                vector = getattr(self, DENSE)(vector)
                vector = vector.tanh() if how.activation == "tanh" else vector
            if how.normalize:
                vector = normalized(vector)
            small = {EMBEDDINGS[kind]: _SMALLER[kind](vector, how) for kind in how.precisions}
            rest = {name: given.get(name) for name in ("hidden_states", "attentions")}
            outputs: dict[str, Any] = {EMBEDDING: vector, TOKENS: states, **small, **rest}
            return SentenceEmbeddingOutput(**outputs)

    name = encoder.__name__.removesuffix("Model") + SENTENCE_EMBEDDING.auto
    SentenceEncoder.__name__ = SentenceEncoder.__qualname__ = name
    return SentenceEncoder


def auto_class(ending: str) -> Any:
    """The Auto class of a head, by the end of its name: transformers', or ours."""
    own = {SENTENCE_EMBEDDING.auto: AutoModelForSentenceEmbedding}
    return own[ending] if ending in own else getattr(transformers, f"AutoModel{ending}")
