"""Texts of sentence encoders: retrieval sets of every layout, pairs, raw text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_tokenizer
from problems import refused

from compressor.data import retrieval, sentence_rows, splits
from compressor.data.spec import DataSpec, RetrievalSpec
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.tasks import sentence_similarity as task


def write_beir(folder: Path) -> Path:
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "the" if i else "", "text": f"film {i}"} for i in range(4)]
    queries = [{"_id": f"q{i}", "text": f"plot {i}"} for i in range(3)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    judged = ["query-id\tcorpus-id\tscore", "q0\td1\t2", "q0\td2\t1", "q1\td2\t1", "q1\td0\t0", "q2\tgone\t1"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(judged) + "\n")
    return folder


def write_squad(path: Path) -> Path:
    answers = [{"text": "fine", "answer_start": 16}]
    paragraphs = [
        {
            "context": f"the actor {i} was fine",
            "qas": [{"id": f"{i}{j}", "question": f"was {i} {j}", "answers": answers} for j in "ab"],
        }
        for i in range(3)
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def prepared(folder: Path, train: Path, validation: Path | None = None, searched: Path | None = None, **spec):
    """Both splits, and the facts."""
    output, work = folder / "out", folder / "work"
    output.mkdir()
    work.mkdir()
    raw = "corpus" in spec
    data = DataSpec(**spec) if raw else DataSpec(train="x", **spec)
    given = (sentence_rows, data, train, validation, task.columns(data), 0, output, work)
    facts = splits.prepare(*given, raw_text=raw, retrieval=searched)
    return {path.name: splits.load(path) for path in output.iterdir()}, facts, data


def references(rows):
    encoded = task.encode(rows, make_tokenizer(), 16, {}, DataSpec(train="x"))
    return task.references(rows, encoded, {}, rows)


def test_beir(tmp_path: Path):
    found = [text for _, text in retrieval.taken(write_beir(tmp_path / "set"), RetrievalSpec(source="x"), tmp_path)]
    documents = {text.name: text.text for text in found if text.side == retrieval.DOCUMENT}
    assert documents == {"d0": "film 0", "d1": "the film 1", "d2": "the film 2", "d3": "the film 3"}
    queries = {text.name: dict(text.relevant) for text in found if text.side == retrieval.TEXT}
    assert queries == {"q0": {"d1": 2.0, "d2": 1.0}, "q1": {"d2": 1.0}}, "0 and what is not there answer nothing"


def test_squad_and_fewer_queries_and_documents(tmp_path: Path):
    source = write_squad(tmp_path / "dev.json")
    found = [text for _, text in retrieval.taken(source, RetrievalSpec(source="x"), tmp_path)]
    assert [text.side for text in found].count(retrieval.DOCUMENT) == 3 and len(found) == 9
    spec = RetrievalSpec(source="x", max_queries=2, max_documents=2)
    found = [text for _, text in retrieval.taken(source, spec, tmp_path)]
    documents = {text.name for text in found if text.side == retrieval.DOCUMENT}
    asked = {name for text in found for name in text.relevant}
    assert asked <= documents and len(documents) == max(2, len(asked))
    assert sum(text.side == retrieval.TEXT for text in found) == 2


def test_first_sentences_look_for_the_rest(tmp_path: Path):
    path = tmp_path / "texts.txt"
    path.write_text("A film. It was good. Really.\nOne sentence only\nA film. It was bad.\nIs it long? No.\n")
    found = [text for _, text in retrieval.taken(path, RetrievalSpec(source="x"), tmp_path)]
    pairs = [(text.text, dict(text.relevant)) for text in found if text.side == retrieval.TEXT]
    assert pairs == [("A film.", {"text 0": 1.0}), ("Is it long?", {"text 3": 1.0})], (
        "equal first sentences tell nothing"
    )
    path.write_text("One sentence\nAnother\n")
    refused(lambda: list(retrieval.taken(path, RetrievalSpec(source="x"), tmp_path)), "no query with a document")


def test_a_folder_that_lacks_a_file_is_refused(tmp_path: Path):
    folder = write_beir(tmp_path / "set")
    (folder / "qrels" / "test.tsv").unlink()
    refused(lambda: list(retrieval.read(folder, "data.retrieval")), "has no qrels/test.tsv")


def test_pairs_with_scores(tmp_path: Path):
    rows = ["a\tb\ts", *(f"the film {i}\tthe plot {i}\t{i % 6}" for i in range(40))]
    source = tmp_path / "sts.tsv"
    source.write_text("\n".join(rows) + "\n")
    found, facts, _ = prepared(tmp_path, source, text="a", text_pair="b", score="s", validation_fraction=0.3)
    train, validation = found["train"], found["validation"]
    assert len(train) + len(validation) == 80 and len(train) % 2 == 0
    assert set(train["query"]).isdisjoint(validation["query"])
    given = references(validation)
    assert len(given["scored"]) == len(validation) // 2 and not len(given["documents"])
    for (a, b), score in zip(given["scored"], given["scores"], strict=True):
        number = validation["text"][int(a)].split()[-1]
        assert validation["text"][int(b)] == f"the plot {number}" and score == int(number) % 6
    encoded = task.encode(train, make_tokenizer(), 16, {}, DataSpec(train="x"))
    grades = [row[1] for row, side in zip(encoded["labels"], train["side"], strict=True) if side == 0]
    assert set(grades) == {i / 5 for i in range(6)}, "scores become 0 to 1"
    assert any("have a score" in note for note in facts["notes"])


def test_triplets_and_documents_of_one_text(tmp_path: Path):
    source = tmp_path / "pairs.jsonl"
    rows = [{"a": f"q {i}", "b": f"answer {i // 2}", "n": f"other {i}"} for i in range(30)]
    source.write_text("\n".join(map(json.dumps, rows)))
    found, _, _ = prepared(tmp_path, source, source, text="a", text_pair="b", negative="n")
    assert found["train"]["side"][:3] == [0, 1, 2]
    given = references(found["validation"])
    assert len(given["relevant"]) == 30 and len(given["documents"]) == 15


def test_raw_text_is_scored_on_both_sets(tmp_path: Path):
    text, sts = tmp_path / "raw.txt", tmp_path / "sts.csv"
    text.write_text("the film was good\n\nthe plot is long\nan actor\n")
    sts.write_text("a,b,s\nx,y,1\nx,z,3\n")
    squad = write_squad(tmp_path / "dev.json")
    found, facts, _ = prepared(
        tmp_path, text, sts, squad, corpus="raw.txt", text="a", text_pair="b", score="s", retrieval="dev.json"
    )
    assert found["train"]["text"] == ["the film was good", "the plot is long", "an actor"]
    given = references(found["validation"])
    assert len(given["scored"]) == 2 and len(given["documents"]) == 3 and len(given["relevant"]) == 6
    assert facts["train"] == 3 and facts["validation"] == 4 + 9


def test_a_query_is_learned_once_for_each_of_its_documents(tmp_path: Path):
    folder = write_beir(tmp_path / "set")
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td0\t1\nq2\td3\t1\n")
    found, _, _ = prepared(tmp_path, folder, folder)
    train = found["train"]
    learned = [(t, q) for t, side, q in zip(train["text"], train["side"], train["query"], strict=True) if side == 0]
    assert learned == [("plot 2", "d0"), ("plot 2", "d3")]
    assert len(references(found["validation"])["relevant"]) == 3, "of qrels/test.tsv"


@pytest.mark.parametrize("prompts", [{"query": "good ", "document": "bad "}, {"query": "good ", "passage": "bad "}])
def test_prompts_are_put_in_front_by_side(prompts: dict[str, str], tmp_path: Path):
    found, _, data = prepared(
        tmp_path, write_squad(tmp_path / "t.json"), searched=write_squad(tmp_path / "d.json"), retrieval="d"
    )
    tokenizer, rows = make_tokenizer(), found["validation"]
    encoded = task.encode(rows, tokenizer, 16, {}, data, SentenceEmbedding(prompts=prompts))
    for side, ids in zip(rows["side"], encoded["input_ids"], strict=True):
        assert tokenizer.convert_ids_to_tokens(ids)[1] == ("good" if side == 0 else "bad")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,s\nx,y,high\n", "'high' is not a number"),
        ("a,b,s\nx,,1\n", "there is nothing in column 'b'"),
        ("a,b,s\nx,y,2\nz,y,2\n", "have the score 2"),
    ],
)
def test_what_cannot_be_scored_is_refused(content: str, message: str, tmp_path: Path):
    source = tmp_path / "pairs.csv"
    source.write_text(content)
    refused(lambda: prepared(tmp_path, source, source, text="a", text_pair="b", score="s"), message)
