"""Graphs of a fixed length are held to the rows that fit, of their graphs of free sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressor.measure import parity
from compressor.measure.parity_inputs import PADDED, Comparison, Endpoint, ParityInputs
from compressor.measure.token_rows import EDGES, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.tasks.base import ABSENT_LOGIT

ONNX = Endpoint("onnxruntime", Path("onnx/model.onnx"))
OTHER = Endpoint("onnxruntime", Path("onnx/model_16.onnx"))


def test_a_graph_of_a_fixed_length_is_held_to_the_rows_that_fit(tmp_path: Path, classifier: Path):
    random = np.random.default_rng(0)
    rows = [{"input_ids": random.integers(5, 60, length).tolist()} for length in range(4, 24)]
    TokenRows.of(rows, 0).save(tmp_path / "rows.npz")
    asked = ParityInputs.of(Checkpoint(classifier), tmp_path / "rows.npz", 20, tmp_path)
    fits = asked.fitting(16)
    assert 0 < len(fits["alone"]) < 20 and len(fits["edges_alone"]) < len(EDGES)
    it = Comparison("it_16", OTHER, ONNX, length=16)
    sets = {entry["name"]: entry for entry in asked.row_sets([it], "zeros")}
    assert sets["alone_padded"]["batches"] == [[asked.chosen[index]] for index in fits["alone"]]
    assert {entry["padded_to"] for entry in sets.values()} == {16} and set(sets) == {"alone_padded", "edges_padded"}
    expected, given = {}, {}
    for name, lengths in (("alone", asked.lengths), ("edges_alone", asked.edge_lengths)):
        expected[name] = random.normal(size=(len(lengths), lengths.max(), 3)).astype(np.float32)
        expected[name][np.arange(lengths.max()) >= lengths[:, None]] = ABSENT_LOGIT
        given[PADDED[name]] = expected[name][fits[name], :16]
    facts = parity.compare(it, {OTHER: given, ONNX: expected}, asked)
    assert (facts["max_abs_diff"], facts["rows"]) == (0, len(fits["alone"]))
    given["alone_padded"][-1, 0, 0] += 4
    facts = parity.compare(it, {OTHER: given, ONNX: expected}, asked)
    assert facts["max_abs_diff"] == pytest.approx(4) and facts["worst"] == f"row {asked.chosen[fits['alone'][-1]]}"
