"""Recipes of sentence-similarity with small texts: raw ones, pairs with a score, texts that look for each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from conftest import make_config, make_tokenizer, sentences
from tiny_models import with_random_vectors

from compressor.models import loading
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.sentence_encoder import class_of


def write_texts(folder: Path) -> None:
    texts = [text for text, _ in sentences(260, 1)]
    (folder / "texts.txt").write_text("\n".join(texts))
    reviews = [
        f"{first}. {second}." for (first, _), (second, _) in zip(sentences(60, 2), sentences(60, 3), strict=True)
    ]
    (folder / "reviews.txt").write_text("\n".join(reviews))
    pairs = [f"{a}\t{b}\t{int(x == y)}" for (a, x), (b, y) in zip(sentences(60, 4), sentences(60, 5), strict=True)]
    (folder / "sts.tsv").write_text("\n".join(["a\tb\ts", *pairs]) + "\n")


def write_encoder(folder: Path, how: SentenceEmbedding, **config: Any) -> Path:
    """A tiny sentence encoder with random weights."""
    torch.manual_seed(3)
    made = make_config(**{"num_hidden_layers": 1, "initializer_range": 0.2, **config})
    setattr(made, KEY, how.settings())
    loading.save(folder, with_random_vectors(class_of(made)(made).eval()), make_tokenizer())
    return folder


def write_recipe(folder: Path, encoder: Path, stages: list[dict[str, Any]], **keys: Any) -> Path:
    write_texts(folder)
    data = {"corpus": "texts.txt", "retrieval": "reviews.txt", "validation": "sts.tsv"}
    data |= {"text": "a", "text_pair": "b", "score": "s"}
    given = {
        **{"schema_version": 1, "name": "tiny", "task": "sentence-similarity", "model": str(encoder), "data": data},
        **{"measure": {"runs": 60, "sequence_length": 16}, "stages": stages, **keys},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    return path
