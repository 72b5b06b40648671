"""Checkpoints and files of the kinds that people have, for drafts of recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from conftest import make_config, make_tokenizer, save_encoder, sentences
from task_rows import questions, tagged, write_conll, write_rated, write_squad
from tiny_models import make_albert, make_model, other_config

TAGS = ["O", "B-praise", "B-blame", "B-thing", "I-thing"]


def save(folder: Path, kind: str, *labels: str, half: bool = False) -> Path:
    """A model of a class, with a tokenizer.

    Args:
        folder: Where it goes.
        kind: The class.
        labels: Names of its head's outputs; by default those of `make_model`.
        half: Its weights in half precision.
    """
    if kind.startswith("Electra") and labels:
        config = other_config("Electra", make_config(), **named(*labels))
        model = getattr(transformers, kind)(config)
    else:
        model = make_model(kind, **(named(*labels) if labels else {}))
    (model.half() if half else model).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def named(*labels: str) -> dict[str, Any]:
    """Settings of a config that name labels."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: index for index, name in enumerate(labels)}}


def sentence_transformer(folder: Path) -> Path:
    """As sentence-transformers saves an encoder."""
    save_encoder(folder / "0_Transformer")
    modules = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def albert(folder: Path) -> Path:
    make_albert("AlbertForMaskedLM").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def pickled(folder: Path) -> Path:
    """With its weights in pytorch_model.bin."""
    model = make_model("BertForSequenceClassification", **named("negative", "positive"))
    save(folder, "BertForSequenceClassification", "negative", "positive")
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def csv_of_numbers(folder: Path) -> Path:
    rows = [
        f'"{text}",{int(mood == "positive")},site{index % 2}' for index, (text, mood) in enumerate(sentences(300, 1))
    ]
    return write(folder / "rows.csv", "review,sentiment,source", *rows)


def tsv(folder: Path) -> Path:
    return write(folder / "rows.tsv", "sentence\tlabel", *("\t".join(row) for row in sentences(300, 1)))


def jsonl(folder: Path) -> Path:
    names = {"positive": "YES", "negative": "No"}
    rows = [{"id": i, "utterance": text, "intent": names[mood]} for i, (text, mood) in enumerate(sentences(300, 1))]
    return write(folder / "rows.jsonl", *map(json.dumps, rows))


def pairs(folder: Path) -> Path:
    return write_rated(folder / "train.tsv", 300, 1)


def ranked(folder: Path) -> Path:
    rows = [
        {"query": text, "passage": f"{text} story", "relevance": int(mood == "positive")}
        for text, mood in sentences(300, 1)
    ]
    return write(folder / "rows.jsonl", *map(json.dumps, rows))


def several(folder: Path) -> Path:
    """A list of labels a row."""
    rows = [
        {"text": text, "topics": [mood, "story"] if "story" in text else [mood]} for text, mood in sentences(300, 1)
    ]
    return write(folder / "rows.jsonl", *map(json.dumps, rows))


def conll(folder: Path) -> Path:
    return write_conll(folder / "names.txt", tagged(200, 1))


def squad(folder: Path) -> Path:
    return write_squad(folder / "train.json", questions(200, 1))


def numbered_tags(folder: Path) -> Path:
    rows = [
        {"tokens": [word for word, _ in row], "ner_tags": [TAGS.index(tag) for _, tag in row]} for row in tagged(200, 1)
    ]
    return write(folder / "rows.jsonl", *map(json.dumps, rows))


def text(folder: Path) -> Path:
    return write(folder / "corpus.txt", *(text for text, _ in sentences(400, 1)))


def one_column(folder: Path) -> Path:
    return write(
        folder / "corpus.csv", "number,body", *(f"{i},{text}" for i, (text, _) in enumerate(sentences(300, 1)))
    )


def parquet(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet as files

    rows = sentences(300, 1)
    columns = {"content": [text for text, _ in rows], "category": [mood for _, mood in rows]}
    files.write_table(pyarrow.table(columns), folder / "rows.parquet")
    return folder / "rows.parquet"


def split_in_folder(folder: Path) -> Path:
    (folder / "data").mkdir()
    for name, seed in (("train", 1), ("dev", 2), ("test", 3)):
        write(folder / "data" / f"{name}.tsv", "sentence\tlabel", *("\t".join(row) for row in sentences(200, seed)))
    return folder / "data"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Kind:
    """A checkpoint with rows, and what a draft makes of them.

    Attributes:
        model: Saves the checkpoint.
        data: Writes the rows.
        task: Their task.
        keys: Keys of `data` that the recipe has to have.
        first: The first stage: `finetune` where the head is not there, or does not fit.
    """

    model: Callable[[Path], Path]
    data: Callable[[Path], Path]
    task: str
    keys: dict[str, Any]
    first: str = "finetune"


TEXT, NUMBER = "text-classification", "text-regression"
KINDS = {
    "encoder": Kind(save_encoder, tsv, TEXT, {"text": "sentence", "label": "label", "labels": {}}),
    "classifier, numbers": Kind(
        lambda folder: save(folder, "BertForSequenceClassification", "NEGATIVE", "POSITIVE"),
        csv_of_numbers,
        TEXT,
        {"text": "review", "label": "sentiment", "labels": {"0": "NEGATIVE", "1": "POSITIVE"}},
        "distill",
    ),
    "classifier, other case": Kind(
        lambda folder: save(folder, "RobertaForSequenceClassification"),
        jsonl,
        TEXT,
        {"text": "utterance", "label": "intent", "labels": {}},
        "distill",
    ),
    "classifier, other labels": Kind(
        lambda folder: save(folder, "DistilBertForSequenceClassification"),
        parquet,
        TEXT,
        {"text": "content", "label": "category", "labels": {}},
    ),
    "pickled": Kind(pickled, split_in_folder, TEXT, {"validation": "data/dev.tsv"}, "distill"),
    "sentence transformer": Kind(
        sentence_transformer, pairs, NUMBER, {"text": "first", "text_pair": "second", "label": "score"}
    ),
    "reranker in half precision": Kind(
        lambda folder: save(folder, "BertForSequenceClassification", "score", half=True),
        ranked,
        NUMBER,
        {"text": "query", "text_pair": "passage", "label": "relevance"},
        "distill",
    ),
    "several labels": Kind(
        save_encoder, several, "multi-label-classification", {"text": "text", "label": "topics", "labels": {}}
    ),
    "conll": Kind(
        lambda folder: save(folder, "DistilBertForMaskedLM"), conll, "token-classification", {"tokens": "tokens"}
    ),
    "numbers for tags": Kind(
        lambda folder: save(folder, "ElectraForTokenClassification", *TAGS),
        numbered_tags,
        "token-classification",
        {"tags": "ner_tags", "labels": {str(index): tag for index, tag in enumerate(TAGS)}},
        "distill",
    ),
    "questions": Kind(
        lambda folder: save(folder, "BertForQuestionAnswering", "start", "end"),
        squad,
        "question-answering",
        {"train": "train.json"},
        "distill",
    ),
    "raw text": Kind(albert, text, "masked-lm", {"corpus": "corpus.txt"}, "distill"),
    "texts of a table": Kind(
        lambda folder: save(folder, "ElectraForSequenceClassification"), one_column, "masked-lm", {"train": None}
    ),
}  # fmt: skip
