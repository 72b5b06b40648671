"""Every format against torch, for both families, on the edges where exported graphs go wrong first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import MAX_POSITIONS, exact_settings, make_config, save_classifier

from compressor.files import file_digest
from compressor.measure.token_rows import by_length, edge_cases
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES, torchscript, tracing
from compressor.runtimes import onnxruntime as onnx_runtime

VOCABULARY = 60


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def exported(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classifier(tmp_path_factory.mktemp(request.param), request.param, num_hidden_layers=2)
    for name in ("onnxruntime", "torchscript"):
        RUNTIMES[name].export(folder, folder / RUNTIMES[name].file)
    dynamic_int8.write(folder / "onnx/model.onnx", folder / "onnx/q.onnx", exact_settings())
    return folder


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_model_with_two_outputs_gives_both_by_name(family: str, tmp_path: Path):
    from transformers import AlbertConfig, AutoModelForPreTraining

    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "initializer_range": 0.3}
    config = make_config(**sizes)
    if family == "albert":
        values = {name: getattr(config, name) for name in ("vocab_size", "hidden_size", "max_position_embeddings")}
        config = AlbertConfig(**values, **sizes, num_attention_heads=4, intermediate_size=64, embedding_size=16)
    model = AutoModelForPreTraining.from_config(config, attn_implementation="eager").eval()
    path, edges = tmp_path / "file", edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    for runtime, module in (("onnxruntime", onnx_runtime), ("torchscript", torchscript)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tracing, "load", lambda source, attention: tracing.Traceable(model).eval())
            module.export(tmp_path, path)
        session = RUNTIMES[runtime].session(path, 1)
        for batch in ([2], [5], [0, 6, 3]):
            inputs = edges.batch(batch)
            given = session.predict(inputs)
            with torch.no_grad():
                expected = model(
                    **{name: torch.from_numpy(inputs[name]) for name in tracing.Traceable(model).input_names}
                )
            order = expected.sop_logits if family == "albert" else expected.seq_relationship_logits
            assert list(given) == ["logits", "sentence_order_logits"]
            assert np.abs(given["logits"] - expected.prediction_logits.numpy()).max() < 1e-4
            assert np.abs(given["sentence_order_logits"] - order.numpy()).max() < 1e-4


@pytest.mark.parametrize("name", ["onnxruntime", "torchscript"])
def test_edges_give_torchs_logits(exported: Path, name: str):
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    assert set(edges.lengths) >= {1, 2, MAX_POSITIONS}
    reference = RUNTIMES["torch"].session(exported, 1)
    session = RUNTIMES[name].session(exported / RUNTIMES[name].file, 1)
    for batch in [*([index] for index in range(len(edges))), *by_length(edges.lengths, 10_000), [0, 6, 3]]:
        inputs = edges.batch(batch)
        given, expected = session.predict(inputs), reference.predict(inputs)
        assert list(given) == list(expected)
        for output in expected:
            assert np.abs(given[output] - expected[output]).max() < 1e-5


def test_masks_and_token_types_matter_to_the_exported_graphs(exported: Path):
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    inputs = edges.batch([4])  # interior padding
    assert (inputs["attention_mask"] == 0).any()
    for name in ("onnxruntime", "torchscript"):
        session = RUNTIMES[name].session(exported / RUNTIMES[name].file, 1)
        unmasked = {**inputs, "attention_mask": np.ones_like(inputs["attention_mask"])}
        assert np.abs(session.predict(inputs)["logits"] - session.predict(unmasked)["logits"]).max() > 1e-3
        if "distilbert" not in str(exported):
            other = {**inputs, "token_type_ids": np.ones_like(inputs["token_type_ids"])}
            assert np.abs(session.predict(inputs)["logits"] - session.predict(other)["logits"]).max() > 1e-3


def test_two_exports_are_byte_identical(exported: Path, tmp_path: Path):
    onnx_runtime.export(exported, tmp_path / "again.onnx")
    assert file_digest(tmp_path / "again.onnx") == file_digest(exported / "onnx/model.onnx")


def test_the_file_says_nothing_of_this_machine(exported: Path):
    text = (exported / "onnx/model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in text
    assert b".py" not in text


def test_names_and_free_sizes(exported: Path):
    model = onnx.load(str(exported / "onnx/model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    sizes = {entry.name: [d.dim_param for d in entry.type.tensor_type.shape.dim] for entry in model.graph.input}
    names = ["input_ids", "attention_mask"] + ([] if "distilbert" in str(exported) else ["token_type_ids"])
    assert sizes == {name: ["batch_size", "sequence_length"] for name in names}
    assert [entry.name for entry in model.graph.output] == ["logits"]


def test_the_last_layer_is_computed_for_the_first_token_only(exported: Path):
    """Of 2 layers with 6 products each, the last one's query, output and feed-forward products have one row."""
    model = onnx.load(str(exported / "onnx/model.onnx"))
    products = [node.output[0] for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    products.remove("logits")
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in products)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.full((3, 9), 7)
    feed = {entry.name: ids if entry.name == "input_ids" else np.ones_like(ids) for entry in session.get_inputs()}
    feed = {name: value * 0 if name == "token_type_ids" else value for name, value in feed.items()}
    rows = Counter(output.shape[-2] for output in session.run(products, feed))
    # Of 3 texts of 9 tokens, products with weights have 27 rows: 6 in the first layer, keys and values in the second;
    # those of attention 9 in the first layer, 1 in the second; and 5 have a row for each text's first token.
    assert rows == {27: 8, 9: 2, 1: 2, 3: 5}


def test_quantized_answers_are_close(exported: Path):
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    reference = RUNTIMES["torch"].session(exported, 1)
    session = RUNTIMES["onnxruntime"].session(exported / "onnx/q.onnx", 1)
    for index in range(len(edges)):
        inputs = edges.batch([index])
        logits = reference.predict(inputs)["logits"]
        assert np.abs(session.predict(inputs)["logits"] - logits).max() < 0.15 * max(1.0, np.abs(logits).max())
