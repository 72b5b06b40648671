"""Rows, batches and a schedule of a few steps for tests of the trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from conftest import GOOD, NEUTRAL, make_tokenizer, sentences
from datasets import Dataset

from compressor.data.spec import DataSpec
from compressor.models.outputs import NO_LABEL
from compressor.tasks import text_classification
from compressor.training import trainer
from compressor.training.batches import Answers, RowBatches


def rows(count: int) -> Dataset:
    texts, labels = zip(*sentences(count, seed=7), strict=True)
    data = Dataset.from_dict({"text": list(texts), "label": list(labels)})
    return text_classification.encode(data, make_tokenizer(), 24, {"negative": 0, "positive": 1}, DataSpec())


def schedule(**overrides: Any) -> trainer.Schedule:
    values = dict(epochs=2, max_steps=None, batch_size=8, gradient_accumulation_steps=1, learning_rate=1e-3,
                  warmup_ratio=0.1, weight_decay=0.01, dropout=None, precision="fp32")  # fmt: skip
    return trainer.Schedule(**{**values, **overrides})


def batches(count: int = 64, answers: Path | None = None) -> RowBatches:
    return RowBatches(rows(count), make_tokenizer(), ("input_ids", "attention_mask"), answers and Answers(answers))


def tagged_batches(count: int) -> RowBatches:
    """Rows with a label for each token, of which every other row has one alone."""
    data = rows(count)
    drawn = np.random.default_rng(0)
    labels = [drawn.integers(0, 2, length).tolist() for length in data["length"]]
    labels = [row if index % 2 else [row[0]] + [NO_LABEL] * (len(row) - 1) for index, row in enumerate(labels)]
    data = data.remove_columns("labels").add_column("labels", labels)
    return RowBatches(data, make_tokenizer(), ("input_ids", "attention_mask"), token_labels=True)


def ordered_texts(count: int, seed: int) -> list[str]:
    """Texts whose first sentence begins with `start`, and whose last one does with `end`."""
    random = np.random.default_rng(seed)
    words = [*GOOD, *(word for word in NEUTRAL if word not in ("start", "end"))]

    def sentence(first: str) -> str:
        return " ".join([first, *random.choice(words, int(random.integers(2, 5)))]) + "."

    return [" ".join(map(sentence, ("start", "story", "scene", "end"))) for _ in range(count)]
