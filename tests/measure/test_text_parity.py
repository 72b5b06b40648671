"""The file that holds its tokenizer, compared with its graph: on real texts, and on texts that are hard to split."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MAX_POSITIONS, save_classifier, sentences
from exports import quantize, run_export
from in_process import InProcess
from transformers import AutoTokenizer

from compressor.gates.exact import Exact
from compressor.measure import parity
from compressor.measure.parity_inputs import TEXTS_FILE, ParityInputs
from compressor.measure.token_rows import EDGES, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes.baked_tokenizer import graph
from compressor.runtimes.baked_tokenizer.probes import PROBES
from compressor.runtimes.baked_tokenizer.wordpiece import Tokenizer

TEXTS = [text for text, _ in sentences(20, seed=5)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classifier(tmp_path_factory.mktemp("baked") / "model", num_hidden_layers=2)
    run_export(quantize(folder, folder.parent), folder.parent / "exported", tokenizer="baked")
    return folder.parent / "exported"


def compared(folder: Path, work: Path, texts: list[str] | None, limit: int | None = None) -> dict[str, Any]:
    """What a run finds of the file, on rows of these texts."""
    rows = None
    if texts is not None:
        ids = AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=MAX_POSITIONS)["input_ids"]
        rows = work / "rows.npz"
        TokenRows.of([{"input_ids": row} for row in ids], 0).save(rows)
        (work / TEXTS_FILE).write_text(json.dumps([[text] for text in texts]))
    (comparison,) = (entry for entry in parity.present(folder) if entry.kind == "texts")
    comparison = replace(comparison, sample=limit)
    material = ParityInputs.of(Checkpoint(folder), rows, 4, work)
    answers = {
        side: parity.run_endpoint(folder, "text-classification", side, [comparison], material, InProcess())
        for side in comparison.sides
    }
    facts = parity.compare(comparison, answers, material)
    found = parity.evidence({"rows": len(texts or ()), "edges": len(EDGES), "formats": {"it": facts}})
    assert found == {"parity_label_agreement": Exact(facts["label_agreement"], n=facts["rows"])}
    return facts


def test_its_labels_are_compared_with_the_graphs_on_real_texts_and_hard_ones(exported: Path, tmp_path: Path):
    for texts, limit, rows in ((TEXTS, None, len(TEXTS)), (TEXTS, 7, 7), (None, None, len(PROBES))):
        facts = compared(exported, tmp_path, texts, limit)
        assert (facts["label_agreement"], facts["rows"]) == (1.0, rows)
        assert facts["against"] == "onnx/model_quantized.onnx"
        assert facts["max_abs_diff"] < 1e-5, "of the logarithms of probabilities"


def test_a_file_that_contradicts_its_graph_is_found(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its labels are in another order, or it reads some texts as others."""
    back, pieces = graph._back, Tokenizer.of
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / graph.FILE).unlink()
    monkeypatch.setattr(graph, "_back", lambda labels: back(labels[::-1]))
    graph.write(folder, folder / "onnx/model_quantized.onnx", folder / graph.FILE, pairs=False)
    facts = compared(folder, tmp_path, TEXTS)
    assert facts["label_agreement"] == 0 and facts["max_abs_diff"] == np.inf
    assert compared(folder, tmp_path, None)["label_agreement"] == 0, "without rows, made-up texts show it"

    monkeypatch.setattr(graph, "_back", back)
    monkeypatch.setattr(graph, "_check", lambda *_: None)
    monkeypatch.setattr(Tokenizer, "of", lambda loaded: replace(pieces(loaded), longest_word=3))
    graph.write(folder, folder / "onnx/model_quantized.onnx", folder / graph.FILE, pairs=False)
    assert compared(folder, tmp_path, TEXTS)["max_abs_diff"] > 1e-3
