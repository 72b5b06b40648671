"""A checkpoint is taken for a sentence encoder if its files say so: any encoder could give vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import sentences
from draft_kinds import write
from running import compress
from task_rows import questions, write_squad

from compressor.drafting import stand_in
from compressor.drafting.draft import draft
from compressor.drafting.guess import Heads
from compressor.drafting.target import Budget
from compressor.models import sentence_embedding
from compressor.models.checkpoint import Checkpoint
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.recipe.resolve import resolve
from compressor.tasks import sentence_similarity, text_classification


def test_only_with_the_files_of_sentence_transformers(encoder: Path, tmp_path: Path):
    plain = Heads.of(Checkpoint(encoder))
    assert plain.tasks == () and stand_in.found(plain).guess.task == text_classification.NAME
    folder = shutil.copytree(encoder, tmp_path / "folder")
    sentence_embedding.write(folder, SentenceEmbedding(), 32, 48)
    vectors = Heads.of(Checkpoint(folder))
    assert vectors.tasks == (sentence_similarity.NAME,)
    found = stand_in.found(vectors)
    assert found.guess.task == sentence_similarity.NAME and found.guess.data["score"] == "label"


def saved(folder: Path, encoder: Path) -> Path:
    shutil.copytree(encoder, folder)
    sentence_embedding.write(folder, SentenceEmbedding(prompts={"query": "a "}), 32, 48)
    return folder


def reviews(folder: Path) -> Path:
    both = zip(sentences(300, 1), sentences(300, 2), strict=True)
    return write(folder / "reviews.txt", *(f"{first}. {second}." for (first, _), (second, _) in both))


def scored(folder: Path, name: str = "sts.csv") -> Path:
    rows = [f"{a},{b},{float(x == y)}" for (a, x), (b, y) in zip(sentences(300, 3), sentences(300, 4), strict=True)]
    return write(folder / name, "sentence1,sentence2,score", *rows)


def duplicates(folder: Path) -> Path:
    rows = [f"{a}\t{b}\t{int(x == y)}" for (a, x), (b, y) in zip(sentences(300, 3), sentences(300, 4), strict=True)]
    return write(folder / "dup.tsv", "question1\tquestion2\tis_duplicate", *rows)


def triplets(folder: Path) -> Path:
    drawn = zip(*(sentences(300, seed) for seed in (1, 2, 3)), strict=True)
    rows = [dict(zip(("anchor", "positive", "negative"), (text for text, _ in row), strict=True)) for row in drawn]
    return write(folder / "triplets.jsonl", *map(json.dumps, rows))


def beir(folder: Path, *splits: str) -> Path:
    home = folder / "set"
    (home / "qrels").mkdir(parents=True)
    texts = [text for text, _ in sentences(120, 5)]
    write(home / "corpus.jsonl", *(json.dumps({"_id": f"d{i}", "title": "", "text": t}) for i, t in enumerate(texts)))
    asked = [json.dumps({"_id": f"q{i}", "text": text}) for i, (text, _) in enumerate(sentences(60, 6))]
    write(home / "queries.jsonl", *asked)
    for split in splits:
        rows = [f"q{i}\td{i}\t1" for i in (range(30, 60) if split == "train" else range(30))]
        write(home / "qrels" / f"{split}.tsv", "query-id\tcorpus-id\tscore", *rows)
    return home


def in_folder(folder: Path) -> Path:
    (folder / "data").mkdir()
    write(folder / "data" / "train.txt", *(text for text, _ in sentences(300, 7)))
    scored(folder / "data", "dev.csv")
    return folder / "data"


def a_column(folder: Path) -> Path:
    lines = reviews(folder).read_text().splitlines()
    return write(folder / "texts.csv", "number,body", *(f"{i},{line}" for i, line in enumerate(lines)))


PAIR = {"text": "sentence1", "text_pair": "sentence2", "score": "score"}
BODY = {"source": "texts.csv", "text": "body"}
KINDS: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "raw": (reviews, {"corpus": "reviews.txt", "retrieval": "reviews.txt"}, "ndcg_at_10"),
    "a column": (a_column, {"corpus": BODY, "retrieval": BODY}, "ndcg_at_10"),
    "scored": (scored, {"train": "sts.csv", **PAIR}, "spearman"),
    "duplicates": (
        duplicates,
        {"text": "question1", "text_pair": "question2", "score": "is_duplicate"},
        "spearman",
    ),
    "triplets": (triplets, {"text": "anchor", "text_pair": "positive", "negative": "negative"}, "ndcg_at_10"),
    "folder": (in_folder, {"corpus": "data/train.txt", "validation": "data/dev.csv", **PAIR}, "spearman"),
    "squad": (
        lambda folder: write_squad(folder / "train.json", questions(200, 1)),
        {"train": "train.json"},
        "ndcg_at_10",
    ),
    "beir": (lambda folder: beir(folder, "train", "test"), {"train": "set", "retrieval": "set"}, "ndcg_at_10"),
    "beir without training queries": (
        lambda folder: beir(folder, "dev"),
        {
            "corpus": {"source": "set/corpus.jsonl", "text": "text"},
            "retrieval": {"source": "set", "split": "dev"},
        },
        "ndcg_at_10",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_rows_validates_as_it_is_written(
    name: str, tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    data, keys, metric = KINDS[name]
    monkeypatch.chdir(tmp_path)
    model = saved(tmp_path / "encoder", encoder)
    drafted = draft(str(model), str(data(tmp_path).relative_to(tmp_path)), Budget(), None)
    (tmp_path / "recipe.yaml").write_text(drafted.text)
    recipe = resolve(tmp_path / "recipe.yaml").recipe
    assert recipe == drafted.recipe and recipe.task == sentence_similarity.NAME
    given = yaml.safe_load(drafted.text)["data"]
    assert {key: given.get(key) for key in keys} == keys
    assert [stage.kind for stage in recipe.stages] == ["distill", "quantize", "export"]
    assert list(recipe.stages[0].gates) == [metric] and drafted.assumed, drafted.text


def test_rows_of_other_tasks_stay_what_they_are(tmp_path: Path, encoder: Path):
    model = saved(tmp_path / "encoder", encoder)
    rows = write(tmp_path / "rows.tsv", "sentence\tlabel", *("\t".join(row) for row in sentences(300, 1)))
    assert draft(str(model), str(rows), Budget(), None).recipe.task == text_classification.NAME


def test_what_cannot_be_scored_is_refused(tmp_path: Path, encoder: Path):
    model = saved(tmp_path / "encoder", encoder)
    single = write(tmp_path / "single.txt", *(text for text, _ in sentences(100, 1)))
    result = compress("init", model, "--data", single.name, cwd=tmp_path)
    assert result.returncode == 2 and "0 of its texts have two sentences" in result.stderr
    result = compress("init", encoder, "--data", beir(tmp_path, "test").name, cwd=tmp_path)
    assert result.returncode == 2 and "is a retrieval set, and the checkpoint gives no vectors" in result.stderr
    shutil.rmtree(tmp_path / "set" / "qrels")
    result = compress("init", model, "--data", "set", cwd=tmp_path)
    assert result.returncode == 2 and "has corpus.jsonl and no qrels" in result.stderr


def test_of_much_text_a_share_is_searched(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch):
    model = saved(tmp_path / "encoder", encoder)
    path = write(tmp_path / "much.txt", *(f"the film {i} was good. the plot {i} was long." for i in range(25_000)))
    monkeypatch.setattr("compressor.drafting.rows._MOST_ROWS", 12_500)
    found = draft(str(model), str(path), Budget(), tmp_path / "recipe.yaml").recipe.data.retrieval_spec
    assert found is not None and (found.fraction, found.max_queries) == (0.4, 2000), "a half is read: 25,000 texts"


def test_a_draft_runs_to_the_end(tmp_path: Path, encoder: Path):
    model = saved(tmp_path / "encoder", encoder)
    result = compress("init", model.name, "--data", reviews(tmp_path).name, "-o", "recipe.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the first sentence of each text looks for the rest" in result.stdout
    given = ["--allow-inconclusive", "--set", "stages.distill.max_steps=20", "--set", "stages.distill.gates={}"]
    result = compress("run", "recipe.yaml", *given, "--set", "stages.quantize.gates={}", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "artifacts" / "recipe" / "model" / "onnx" / "model_quantized.onnx").is_file()
