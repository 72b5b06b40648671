"""The benchmark of rerankers: BM25 by hand, and candidates of which one is right."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def rerank(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("rerank")


def test_bm25_by_hand(rerank: ModuleType):
    found = rerank._Bm25(["A cat and a dog.", "The dog", "A bird sings"]).scores("Which dog, or which cat?")
    # Texts have 5, 2 and 3 words: 10/3 on average. Of three texts one has "cat", two have "dog".
    cat, dog = math.log(1 + 2.5 / 1.5), math.log(1 + 1.5 / 2.5)
    weights = [2.2 / (1 + 1.2 * (0.25 + 0.75 * length / (10 / 3))) for length in (5, 2)]
    assert found.tolist() == pytest.approx([(cat + dog) * weights[0], dog * weights[1], 0])


def test_one_candidate_is_right_even_where_its_answer_runs_over_the_end_of_a_sentence(
    rerank: ModuleType, tmp_path: Path
):
    context = "The band met J. Smith in Bonn. A band met him again. No band met him twice. The band met in Rome."
    asked = {"id": "1", "question": "Whom has the band met in Bonn?"}
    answers = [{"text": "J. Smith", "answer_start": context.index("J. Smith")}]
    article = {"title": "t", "paragraphs": [{"context": context, "qas": [{**asked, "answers": answers}]}]}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [article]}), encoding="utf-8")
    ((rows, scores),) = rerank.candidates(path, 4, seed=0)
    assert len({row[3] for row in rows}) == len(rows) == len(scores) == 4
    assert [row[3] for row in rows if row[4] == "1"] == ["The band met J."]
