"""Dense layers run on rows of tokens: the same outputs, with biases inside of the products."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from kinds import KINDS, LAYERS, export, export_anew, make_model, rows

from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import flatten, passes


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_products_take_their_biases_along_and_the_outputs_are_the_same(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "check", lambda found, model: None)
        patch.setattr(flatten, "flatten", lambda model: 0)
        before = operators(export_anew(model, tmp_path / "before"))
    path = export(model, tmp_path / "after")
    after = operators(path)
    # Of each layer the queries, the attention's output and both products of the feed-forward block.
    assert after["Gemm"] - before["Gemm"] >= 4 * LAYERS
    assert before["Add"] - after["Add"] == after["Gemm"] - before["Gemm"]
    assert after["Reshape"] - before["Reshape"] <= 6, "no detours: only where it begins, ends, or cuts"
    session = RUNTIMES["onnxruntime"].session(path, 1)
    for inputs in rows(model):
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits.numpy()
        assert np.abs(session.predict(inputs)["logits"] - expected).max() < 2e-5


def test_rows_of_a_batch_stay_apart(tmp_path: Path):
    model = make_model("bert")
    session = RUNTIMES["onnxruntime"].session(export(model, tmp_path), 1)
    single = rows(model)[3]
    several = {name: np.concatenate([value, value[:, ::-1], value]) for name, value in single.items()}
    together = session.predict(several)["logits"]
    assert np.abs(together[[0, 2]] - session.predict(single)["logits"]).max() < 1e-5
    assert np.abs(together[1] - together[0]).max() > 1e-3


def test_a_language_models_logits_keep_their_three_axes_without_a_copy(tmp_path: Path):
    graph = onnx.load(str(export(make_model("bert", "MaskedLM"), tmp_path))).graph
    last = next(node for node in graph.node if "logits" in node.output)
    assert last.op_type == "Add"
    assert len(graph.output[0].type.tensor_type.shape.dim) == 3
