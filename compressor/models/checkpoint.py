"""A checkpoint on disk: a Hugging Face folder, read without torch where its config and header are enough."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compressor.errors import Problem, RecipeError
from compressor.files import file_digest, read_json
from compressor.models import layout, quantized, sentence_embedding, tokenizer_files, weights
from compressor.models.families import FAMILIES
from compressor.models.families.base import Family
from compressor.models.heads import CLASSES, HEADS, PRETRAINING, Head
from compressor.models.quantized import QuantizedFile
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.models.weights import StoredTensor

WEIGHTS = weights.SAFETENSORS
"""The file of weights that stages leave, whatever the weights of the recipe's checkpoint came in."""


def _patterns(*names: str) -> tuple[str, ...]:
    """Patterns of files in a folder, and in the folder of a transformer in it, see `root`."""
    return (*names, *(f"0_*/{name}" for name in names))


MODEL_FILES = (
    *sentence_embedding.FILES,
    *_patterns("config.json", *tokenizer_files.FILES),
    *_patterns(weights.SAFETENSORS, weights.INDICES[0], "model-*-of-*.safetensors"),
)
"""Patterns of the files that a checkpoint is downloaded by; other files beside them are ignored."""

PICKLED_WEIGHTS = _patterns(weights.PICKLED, weights.INDICES[1], "pytorch_model-*-of-*.bin")
"""Patterns of the files that old checkpoints have their weights in; wanted only where there is no safetensors."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with config, safetensors weights and tokenizer.

    Attributes:
        path: The folder.
    """

    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed config.json."""
        return read_json(self.path / "config.json")

    @cached_property
    def family(self) -> str:
        """The `model_type`; of an old config that has none, the one that its classes or its tensors are named after."""
        if "model_type" in self.config:
            return str(self.config["model_type"])
        architectures = self.architectures
        for family in FAMILIES.values():
            if architectures and architectures[0] in {f"{family.prefix}{end}" for end in ("Model", *CLASSES)}:
                return family.model_type
        start = next(iter(self.stored), "").partition(".")[0]
        return start if start in FAMILIES else str(None)

    @property
    def known_family(self) -> Family:
        """The entry of its family in the table."""
        return FAMILIES[self.family]

    @property
    def architectures(self) -> list[str]:
        """Names of the classes that it was saved from."""
        names = self.config.get("architectures")
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def num_hidden_layers(self) -> int:
        """Encoder layers."""
        return int(self._setting("num_hidden_layers", 0))

    @property
    def max_position_embeddings(self) -> int:
        """Rows of the position table that tokens use: the longest sequence, in tokens."""
        return int(self._setting("max_position_embeddings", 512)) - self.first_position

    @property
    def first_position(self) -> int:
        """The row of the position table that the first token of a text uses."""
        family = FAMILIES.get(self.family)
        return 0 if family is None else family.first_position(self.config)

    @property
    def vocab_size(self) -> int:
        """Rows of the token embeddings."""
        return int(self._setting("vocab_size", 0))

    @property
    def token_types(self) -> int:
        """Kinds of tokens that it tells apart: the first and the second of two texts; 0 where it has no such input."""
        return int(self._setting("type_vocab_size", 0))

    @property
    def labels(self) -> list[str]:
        """Names of the head's labels by index; `LABEL_i` where the config has none."""
        names = self.config.get("id2label")
        if names is None:
            return [f"LABEL_{index}" for index in range(self.num_labels or 2)]
        return [str(names[key]) for key in sorted(names, key=int)]

    @property
    def num_labels(self) -> int | None:
        """The number of labels that the config gives beside their names."""
        count = self.config.get("num_labels", self.config.get("_num_labels"))
        return count if type(count) is int and count > 0 else None

    def has_head(self, head: Head) -> bool:
        """Whether the checkpoint carries a trained head of a kind, whole and as its config says."""
        return self.claims(head) and self.fault(head) is None

    def claims(self, head: Head) -> bool:
        """Whether its class has a head of this kind."""
        of_sentences = head.vectors and sentence_embedding.root(self.path) is not None
        if not of_sentences and not any(name.endswith(head.endings) for name in self.architectures):
            return False
        weight = self.shapes.get(f"{self.known_family.modules(head.auto).get(head.part)}.weight")
        # One class does both: a single output is a number.
        return head.numbers is None or weight is None or (weight[:1] == (1,)) == head.numbers

    def fault(self, head: Head) -> str | None:
        """Why a head that its class has cannot be used; None if it can."""
        return layout.head_fault(self, head)

    @property
    def has_order_head(self) -> bool:
        """Whether the checkpoint carries a head for the order of two segments, beside its language model's."""
        return self.claims(PRETRAINING) and PRETRAINING.part in self.known_family.outside and self.has_head(PRETRAINING)

    @property
    def head(self) -> Head:
        """The kind of head that the checkpoint has.

        Raises:
            RecipeError: It has none.
        """
        for head in HEADS:
            if self.has_head(head):
                return head
        faults = [fault for head in HEADS if self.claims(head) and (fault := self.fault(head))]
        known = ", ".join(dict.fromkeys(head.auto for head in HEADS))
        what = f"{self.path} has none of the heads {known}" + (f": {faults[0]}" if faults else "")
        raise RecipeError([Problem("model", what, "fine-tune it first", kind="missing")])

    @property
    def embedding(self) -> SentenceEmbedding:
        """How its tokens become a vector.

        Raises:
            Unsupported: It says something that is not known here.
        """
        return sentence_embedding.of(self.path, self.config)

    def _setting(self, name: str, default: Any) -> Any:
        """A setting of the config, by its common name."""
        family = FAMILIES.get(self.family)
        return self.config.get(name, default) if family is None else family.setting(self.config, name, default)

    @property
    def hidden_size(self) -> int:
        """Width of the encoder."""
        return int(self._setting("hidden_size", 0))

    @property
    def embedding_size(self) -> int:
        """Width of the token embeddings."""
        return int(self._setting("embedding_size", self.hidden_size))

    @property
    def num_attention_heads(self) -> int:
        """Attention heads of a layer, at most."""
        return int(self._setting("num_attention_heads", 1))

    @property
    def head_size(self) -> int:
        """Channels of an attention head."""
        return int(self.config.get("head_size", self.hidden_size // self.num_attention_heads))

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each layer."""
        blocks = self.config.get("heads")
        if not blocks:
            return (self.num_attention_heads,) * self.num_hidden_layers
        return tuple(int(blocks[index]) for index in self.config["attention_of_layer"])

    @property
    def neurons(self) -> tuple[int, ...]:
        """Feed-forward neurons of each layer."""
        blocks = self.config.get("neurons")
        if not blocks:
            width = int(self._setting("intermediate_size", 0))
            return (width,) * self.num_hidden_layers
        return tuple(int(blocks[index]) for index in self.config["feed_forward_of_layer"])

    @property
    def block_widths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Widths of the blocks that are stored: channels of all heads of each attention block, and neurons."""
        family, config = self.known_family, self.config
        if family.lists_blocks:
            return tuple(int(heads) * self.head_size for heads in config["heads"]), tuple(config["neurons"])
        count = int(family.setting(config, family.blocks_setting))
        return (self.hidden_size,) * count, (int(self._setting("intermediate_size", 0)),) * count

    @cached_property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the files that the weights are in."""
        return weights.weight_files(self.path)

    @cached_property
    def stored(self) -> dict[str, StoredTensor]:
        """The tensors by the names that the files of weights give them, from the files' headers.

        Raises:
            WeightsError: They cannot be read.
        """
        return weights.read(self.path)

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """The tensors by the names that a class with a head gives them."""
        family = FAMILIES.get(self.family)
        return {layout.canonical(name, family): tensor for name, tensor in self.stored.items()}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def num_parameters(self) -> int:
        """Parameters stored; shared ones are stored, and counted, once."""
        floats = (tensor for tensor in self.tensors.values() if tensor.kind in weights.FLOATS)
        return sum(math.prod(shape) for shape in {(t.file, t.storage): t.shape for t in floats}.values())

    @property
    def quantized(self) -> Path | None:
        """The quantized graph that is deployed, when a stage has left any: the first of them."""
        return next((self.path / entry.file for entry in self.quantizations), None)

    @property
    def quantizations(self) -> tuple[QuantizedFile, ...]:
        """What a stage has left of quantized files, and how; empty where everything is in float."""
        return quantized.read(self.path)

    def digest(self) -> dict[str, str]:
        """SHA-256 of the config, the weights, the tokenizer's files and those of sentence-transformers."""
        names = ("config.json", *self.weight_files, *tokenizer_files.FILES)
        found = {name: self.path / name for name in names if (self.path / name).is_file()}
        return {name: file_digest(path) for name, path in (found | sentence_embedding.files(self.path)).items()}

    def tokenizer_digest(self) -> dict[str, str]:
        """SHA-256 of the tokenizer's files."""
        return {name: file_digest(self.path / name) for name in tokenizer_files.FILES if (self.path / name).is_file()}

    def max_sequence_length(self, wanted: int | None = None) -> int:
        """Tokens a text is cut to: what is wanted, or what the tokenizer says, within the position table.

        Args:
            wanted: An explicit limit; None for the tokenizer's own.
        """
        if wanted is None:
            path = self.path / tokenizer_files.CONFIG
            config = read_json(path) if path.is_file() else {}
            wanted = int(min(config.get("model_max_length") or math.inf, self.max_position_embeddings))
        return min(wanted, self.max_position_embeddings)


def root(folder: Path) -> Path:
    """The folder of the transformer in a folder of sentence-transformers, which may keep it in `0_Transformer`.

    Any other folder is given back as it is.
    """
    modules = folder / sentence_embedding.MODULES
    if not modules.is_file():
        return folder
    try:
        entries = json.loads(modules.read_text(encoding="utf-8"))
        place = folder / str(entries[0]["path"])
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return folder
    inside = place.resolve().is_relative_to(folder.resolve())
    return place if inside and (place / "config.json").is_file() else folder


def input_names(family: str) -> tuple[str, ...]:
    """Names of a model's inputs, in the order that traced formats take them."""
    return FAMILIES[family].inputs
