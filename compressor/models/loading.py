"""Loads and saves models and tokenizers with transformers: safetensors only, no remote code, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compressor.models.sentence_embedding import SentenceEmbedding

from compressor.files import read_json
from compressor.models import sentence_embedding
from compressor.models.checkpoint import WEIGHTS, Checkpoint, input_names
from compressor.models.families import longest, register
from compressor.models.heads import MASKED_LM, PRETRAINING, SENTENCE_EMBEDDING, Head

_TOKENIZER_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


PADDING_SIDE = "right"
"""The side that every tokenizer pads on."""


def load_model(
    path: Path, head: Head | None = None, *, sentence_order: bool | None = None, **config: Any
) -> PreTrainedModel:
    """Loads a model in float32: safetensors only, no remote code, no network.

    Args:
        path: A checkpoint's folder.
        head: The head it is to have, made anew where the checkpoint has none; by default the one it has.
        sentence_order: Whether a language model is to have a head for the order of two segments as well; by default if
            the checkpoint has it.
        config: Overrides of its config, such as `num_labels`; a head of another shape is made anew.

    Raises:
        RecipeError: Weights are missing, of the encoder or of a head that the checkpoint is to have; a library would
            make them up at random and only log it.
    """
    from compressor.models.sentence_encoder import auto_class

    register()
    there = Checkpoint(path)
    made_anew = there.known_family.head_tensors if head is not None else ()
    head = head or there.head
    if head is MASKED_LM and (there.has_order_head if sentence_order is None else sentence_order):
        head = PRETRAINING
    config = {**head.settings, **config}
    model, info = auto_class(head.auto).from_pretrained(
        path,
        dtype="float32",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **config,
    )
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(made_anew))
    mismatched = sorted(str(entry[0]) for entry in info["mismatched_keys"] if not str(entry[0]).startswith(made_anew))
    if lacking := missing + mismatched:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        what = f"{path / WEIGHTS} lacks weights that its config.json calls for: {shown}"
        raise RecipeError(
            [Problem("model", what, "the file and the config are not of one model; save it again", kind="missing")]
        )
    return model


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Loads the checkpoint's tokenizer: no remote code, no network.

    It pads on the right, whatever its files say: positions are counted from the first token, padding or not, so a row
    that is padded on the left gets other answers than alone.
    """
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        path, local_files_only=True, trust_remote_code=False, padding_side=PADDING_SIDE
    )


def save(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes a checkpoint as transformers does, so that `AutoModel…` and `AutoTokenizer` read it.

    The tokenizer is saved with the names of the model's inputs, so that `model(**tokenizer(text))` works and an
    ONNX graph can be fed. Its length limit goes into tokenizer.json too, for apps that read only that file.
    """
    names = set(input_names(model.config.model_type))
    tokenizer.model_input_names = [name for name in _TOKENIZER_INPUTS if name in names]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # what is saved
    for how_it_was_loaded in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    model.save_pretrained(path)
    length = int(min(tokenizer.model_max_length, longest(model.config)))
    if type(model).__name__.endswith(SENTENCE_EMBEDDING.auto):
        _save_for_sentences(path, model, length)
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(length, direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(path)


def _save_for_sentences(path: Path, model: PreTrainedModel, length: int) -> None:
    """Writes what lets sentence-transformers open a checkpoint, whose class others then know as its encoder's.

    Args:
        path: The checkpoint's folder.
        model: The sentence encoder.
        length: Tokens that texts are cut to.
    """
    from compressor.models.sentence_encoder import DENSE

    config = read_json(path / "config.json")
    config["architectures"] = [type(model.base_model).__name__]
    (path / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    dense = getattr(model, DENSE).state_dict() if model.embedding.dense is not None else {}
    write_for_sentences(path, model.embedding, int(model.config.hidden_size), length, dense)


def write_for_sentences(
    path: Path, embedding: SentenceEmbedding, hidden_size: int, length: int, dense: Mapping[str, torch.Tensor]
) -> None:
    """Writes the files of sentence-transformers beside a transformer.

    Args:
        path: The transformer's folder.
        embedding: How it makes vectors.
        hidden_size: Width of the transformer.
        length: Tokens that texts are cut to.
        dense: `weight` and `bias` of the dense layer; empty where there is none.
    """
    from safetensors.torch import save_file

    sentence_embedding.write(path, embedding, hidden_size, length)
    if (file := sentence_embedding.dense_file(path)) is not None:
        save_file({f"linear.{name}": tensor.contiguous() for name, tensor in dense.items()}, file)
