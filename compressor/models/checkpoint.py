"""A checkpoint on disk: a Hugging Face folder, read without torch where its config and header are enough."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import Problem, RecipeError
from compressor.files import file_digest
from compressor.models.families import FAMILIES
from compressor.models.heads import HEADS, PRETRAINING, Head

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


WEIGHTS = "model.safetensors"


QUANTIZED_ONNX = Path("onnx") / "model_quantized.onnx"
"""Where a quantized checkpoint keeps the graph that runs; names that transformers.js and optimum look for."""


_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "added_tokens.json",
)


MODEL_FILES = ("config.json", WEIGHTS, *_TOKENIZER_FILES)
"""The files of a checkpoint; other files beside them are ignored."""


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
        config: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return config

    @property
    def family(self) -> str:
        """The `model_type`."""
        return str(self.config.get("model_type"))

    @property
    def num_hidden_layers(self) -> int:
        """Encoder layers."""
        return int(self._setting("num_hidden_layers", 0))

    @property
    def max_position_embeddings(self) -> int:
        """Rows of the position table: the longest sequence, in tokens."""
        return int(self.config.get("max_position_embeddings", 512))

    @property
    def labels(self) -> list[str]:
        """Names of the head's labels by index."""
        names = self.config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(2)}
        return [str(names[key]) for key in sorted(names, key=int)]

    def has_head(self, head: Head) -> bool:
        """Whether the checkpoint carries a trained head of a kind."""
        architectures = self.config.get("architectures") or []
        tensors = self._tensors(head.part)
        if not tensors or not any(str(name).endswith(head.endings) for name in architectures):
            return False
        # One class does both: a single output is a number.
        return head.numbers is None or (self.shapes[tensors[0]][0] == 1) == head.numbers

    def _tensors(self, part: str) -> list[str]:
        """Names of the weights of a part outside of the layers, in any family's layout."""
        modules = {family.outside.get(part) for family in FAMILIES.values()}
        return sorted(name for module in modules if (name := f"{module}.weight") in self.shapes)

    @property
    def has_order_head(self) -> bool:
        """Whether the checkpoint carries a head for the order of two segments, beside its language model's."""
        architectures = self.config.get("architectures") or []
        ends = any(str(name).endswith(PRETRAINING.auto) for name in architectures)
        return ends and bool(self._tensors(PRETRAINING.part))

    @property
    def head(self) -> Head:
        """The kind of head that the checkpoint has.

        Raises:
            RecipeError: It has none.
        """
        for head in HEADS:
            if self.has_head(head):
                return head
        known = ", ".join(dict.fromkeys(head.auto for head in HEADS))
        what = f"{self.path} has none of the heads {known}"
        raise RecipeError([Problem("model", what, "fine-tune it first", kind="missing")])

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
        return int(self.config.get("embedding_size", self.hidden_size))

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

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the stored tensors, from the header of the safetensors file."""
        with (self.path / WEIGHTS).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}

    @property
    def num_parameters(self) -> int:
        """Parameters stored; shared ones are stored, and counted, once."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if not name.endswith("position_ids"))

    @property
    def quantized(self) -> Path | None:
        """The quantized graph, when a stage has left one."""
        path = self.path / QUANTIZED_ONNX
        return path if path.is_file() else None

    def digest(self) -> dict[str, str]:
        """SHA-256 of the config, the weights and the tokenizer's files."""
        return {name: file_digest(self.path / name) for name in MODEL_FILES if (self.path / name).is_file()}

    def tokenizer_digest(self) -> dict[str, str]:
        """SHA-256 of the tokenizer's files."""
        return {name: file_digest(self.path / name) for name in _TOKENIZER_FILES if (self.path / name).is_file()}

    def max_sequence_length(self, wanted: int | None = None) -> int:
        """Tokens a text is cut to: what is wanted, or what the tokenizer says, within the position table.

        Args:
            wanted: An explicit limit; None for the tokenizer's own.
        """
        if wanted is None:
            path = self.path / "tokenizer_config.json"
            config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            wanted = int(min(config.get("model_max_length") or math.inf, self.max_position_embeddings))
        return min(wanted, self.max_position_embeddings)


def problems(path: Path, where: str) -> list[Problem]:
    """Problems of a folder that is not a supported checkpoint; empty if it is one."""
    if not (path / "config.json").is_file():
        return [
            Problem(
                where,
                f"{path} has no config.json",
                "give a folder saved by transformers' save_pretrained",
                kind="missing",
            )
        ]
    try:
        checkpoint = Checkpoint(path)
        family = checkpoint.family
    except (OSError, ValueError) as error:
        return [Problem(where, f"{path / 'config.json'} cannot be read: {error}", kind="unreadable")]
    if family not in FAMILIES:
        return [
            Problem(
                where,
                f"the checkpoint is of the family {family!r}",
                f"allowed: {', '.join(FAMILIES)}",
                kind="unsupported",
            )
        ]
    if checkpoint.config.get("inner_group_num", 1) != 1:
        what = f"the checkpoint's groups hold {checkpoint.config['inner_group_num']} different layers each"
        return [Problem(where, what, "of ALBERTs, those with inner_group_num: 1 are supported", kind="unsupported")]
    if not (path / WEIGHTS).is_file():
        others = [p.name for pattern in ("*.bin", "*.pt", "*.safetensors.index.json") for p in path.glob(pattern)]
        found = f", only {', '.join(sorted(others))}" if others else ""
        hint = "weights are read from one safetensors file; load the model once and call save_pretrained to get it"
        return [Problem(where, f"{path} has no {WEIGHTS}{found}", hint, kind="missing")]
    try:
        checkpoint.shapes  # noqa: B018 -- read to see that it can be
    except (OSError, ValueError, KeyError, struct.error, MemoryError, OverflowError) as error:
        return [
            Problem(
                where,
                f"{path / WEIGHTS} is damaged: {error}",
                "save or download the checkpoint again",
                kind="unreadable",
            )
        ]
    if not any((path / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        return [
            Problem(
                where,
                f"{path} has no tokenizer (tokenizer.json or vocab.txt)",
                "save it beside the model",
                kind="missing",
            )
        ]
    return []


def check(path: Path, where: str) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        RecipeError: It is not one.
    """
    if found := problems(path, where):
        raise RecipeError(found)
    return Checkpoint(path)


def input_names(family: str) -> tuple[str, ...]:
    """Names of a model's inputs, in the order that traced formats take them."""
    return FAMILIES[family].inputs


def splitting_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of how a tokenizer splits texts, whatever it adds to them and wherever it cuts them.

    The tokenizer of a student that was saved here differs from its teacher's in the latter, and reads a corpus as it.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("truncation", "padding", "post_processor"):
        parts.pop(name, None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
