"""Models whose layers or tables share weights, and what their exports store."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import MAX_POSITIONS, exact_settings, make_config
from kinds import loaded
from onnx import TensorProto, helper

from compressor.measure.token_rows import edge_cases
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES, torchscript, tracing
from compressor.runtimes import onnxruntime as onnx_runtime
from compressor.runtimes.onnx import passes, sharing

LAYERS = 4
VOCABULARY = 60  # of the words in the test rows; tables are longer, so that they weigh


def make_model(family: str, head: str, **overrides: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 700, "num_hidden_layers": LAYERS, "initializer_range": 0.2}
    bert = make_config(**sizes)
    shared = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "embedding_size": 32}
    config = {
        "bert": bert,
        "distilbert": transformers.DistilBertConfig(
            vocab_size=700, n_layers=LAYERS, n_heads=4, dim=32, hidden_dim=64, max_position_embeddings=MAX_POSITIONS,
            initializer_range=0.2,
        ),
        "albert": transformers.AlbertConfig(max_position_embeddings=MAX_POSITIONS, **shared, **sizes),
    }[family]  # fmt: skip
    for name, value in overrides.items():
        setattr(config, name, value)
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def export(model: Any, folder: Path, quantize: bool = True, **options: bool) -> Path:
    """Folder with the model in every format."""
    with loaded(model):
        onnx_runtime.export(folder, folder / "model.onnx")
        torchscript.export(folder, folder / "model.pt")
    if quantize:
        dynamic_int8.write(folder / "model.onnx", folder / "q.onnx", exact_settings(**options))
    return folder


def naive_export(model: Any, folder: Path) -> Path:
    """The same without any of what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "check", lambda found, model: None)
        for name in ("share", "merge", "tie_quantized"):
            patch.setattr(sharing, name, lambda *_: 0)
        patch.setattr(sharing, "ties", lambda _: {})
        return export(model, folder)


def matrices(path: Path) -> dict[bool, int]:
    """Elements in the matrices that an ONNX file stores: of floats (False) and of integers (True)."""
    counts = Counter({False: 0, True: 0})
    for tensor in onnx.load(str(path)).graph.initializer:
        if len(tensor.dims) >= 2 and tensor.data_type != TensorProto.INT64:
            counts[tensor.data_type in (TensorProto.INT8, TensorProto.UINT8)] += int(np.prod(tensor.dims))
    return dict(counts)


def in_matrices(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)


def torchscript_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)


def check_parity(model: Any, path: Path, runtime: str, tolerance: float) -> None:
    """Compares logits on padded rows, relative to the largest; of each token where they are of tokens."""
    session, edges = RUNTIMES[runtime].session(path, 1), edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    names = tracing.Traceable(model).input_names
    for batch in ([2], [4], [5], [0, 6, 3]):
        inputs = edges.batch(batch)
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(inputs[name]) for name in names}).logits.numpy()
        given = session.predict(inputs)["logits"]
        if expected.ndim == 3:  # nobody reads positions that are padding
            given, expected = (logits[inputs["attention_mask"] == 1] for logits in (given, expected))
        error = np.abs(given - expected).max()
        assert error < tolerance * max(1.0, np.abs(expected).max())


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def quantize(source: Path, path: Path, **settings: bool) -> None:
    dynamic_int8.write(source, path, exact_settings(**settings))
