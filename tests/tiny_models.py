"""The kinds of models that surgery takes, tiny and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from conftest import MAX_POSITIONS, make_config, make_tokenizer

from compressor.models import checking, heads, loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.convert import from_parts, to_parts
from compressor.models.sentence_encoder import class_of

KINDS = [
    "BertForSequenceClassification",
    "BertForMaskedLM",
    "DistilBertForSequenceClassification",
    "DistilBertForMaskedLM",
    "RobertaForSequenceClassification",
    "RobertaForMaskedLM",
    "ElectraForSequenceClassification",
    "ElectraForMaskedLM",
]
LABELS = {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}


def other_config(prefix: str, bert: Any, **values: Any) -> Any:
    """The config of a RoBERTa or an ELECTRA of the sizes of a BERT.

    Args:
        prefix: Beginning of its class's name.
        bert: The BERT's config.
        values: Settings beyond.
    """
    roberta = {"pad_token_id": 1, "max_position_embeddings": bert.max_position_embeddings + 2, "type_vocab_size": 1}
    own = {"embedding_size": bert.hidden_size // 2} if prefix == "Electra" else roberta
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    names += ("max_position_embeddings", "initializer_range", "tie_word_embeddings")
    sizes = {name: getattr(bert, name) for name in names}
    return getattr(transformers, f"{prefix}Config")(**{**sizes, **own, **values})


def make_model(kind: str, **overrides: Any) -> Any:
    """In eval mode."""
    torch.manual_seed(2)
    config = make_config(**{**LABELS, **overrides})
    if kind.startswith("Distil"):
        config = transformers.DistilBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            dim=config.hidden_size,
            hidden_dim=config.intermediate_size,
            tie_word_embeddings=config.tie_word_embeddings,
            initializer_range=0.1,
            **LABELS,
        )
    elif not kind.startswith("Bert"):
        config = other_config(kind.partition("For")[0], config, **LABELS)
    return with_random_vectors(getattr(transformers, kind)(config).eval())


def class_named(name: str, config: Any) -> Any:
    """A class of transformers, or ours for its family where transformers has none."""
    return getattr(transformers, name) if hasattr(transformers, name) else class_of(config)


def with_random_vectors(model: Any) -> Any:
    """The model, in place: biases and LayerNorms become random too, or a test could not tell them apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def saved_and_read(model: Any, head: heads.Head, folder: Path) -> tuple[Any, Any]:
    """The model as it is loaded again, and made anew of its parts; its checkpoint is found to be what it is."""
    model.config.problem_type = head.problem_types[0] if head.problem_types else None
    loading.save(folder, model, make_tokenizer())
    assert checking.problems(folder, "model") == []
    checkpoint = Checkpoint(folder)
    assert [known for known in heads.HEADS if checkpoint.has_head(known)] == [head]
    assert checkpoint.max_position_embeddings == MAX_POSITIONS
    assert checkpoint.num_parameters == model.num_parameters()
    loaded = loading.load_model(folder).eval()
    again = from_parts(to_parts(loaded)).eval()
    assert type(loaded) is type(again) is type(model)
    return loaded, again


def make_albert(kind: str) -> Any:
    """An ALBERT whose layers share in pairs, such as an `AlbertForMaskedLM`."""
    from compressor.models.surgery.share_layers import Sharing, share

    return share(make_model(kind.replace("Albert", "Bert")), Sharing("all", 2, 4), [0, 2]).eval()


def family_of(kind: str) -> str:
    """The `model_type` of a kind."""
    return kind.partition("For")[0].lower()


def make_batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def logits_of(model: Any) -> torch.Tensor:
    """Of the tokens that are not padding."""
    batch = make_batch()
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    return logits if logits.ndim == 2 else logits[batch["attention_mask"].bool()]


def hidden_states_of(model: Any) -> list[torch.Tensor]:
    """Of the tokens that are not padding."""
    batch = make_batch()
    with torch.no_grad():
        states = model.eval()(**batch, output_hidden_states=True).hidden_states
    return [state[batch["attention_mask"].bool()] for state in states]


def is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def assert_loads_as_is(model: Any, kind: str, folder: Path) -> None:
    """Saved by transformers, it is what transformers expects of its class, and so it is as a bare encoder."""
    from safetensors import safe_open

    model.save_pretrained(folder)
    assert model.config.architectures == [kind]
    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert stored <= {name for name, _ in model.named_parameters()}, "no buffers, and shared tensors once"

    auto = transformers.AutoModelForMaskedLM if "MaskedLM" in kind else transformers.AutoModelForSequenceClassification
    loaded, info = auto.from_pretrained(folder, output_loading_info=True)
    assert type(loaded).__name__ == kind
    assert not any(info[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert (loaded.config.id2label, loaded.config.label2id) == (LABELS["id2label"], LABELS["label2id"])

    encoder = getattr(transformers, f"{kind.partition('For')[0]}Model")
    _, info = encoder.from_pretrained(folder, output_loading_info=True)
    without = kind == "BertForMaskedLM" or kind.startswith("Roberta")
    pooler = {"pooler.dense.weight", "pooler.dense.bias"} if without else set()
    assert set(info["missing_keys"]) == pooler
    heads = ("cls.", "classifier.", "pre_classifier.", "vocab_", "lm_head.", "generator_")
    assert all(name.startswith(heads) for name in info["unexpected_keys"]), info["unexpected_keys"]
