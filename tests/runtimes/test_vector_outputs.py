"""Files give vectors in int8 and in bits: those that NumPy makes of their own floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import MAX_POSITIONS
from exports import run_export
from sentence_recipes import write_encoder

from compressor.errors import StageError
from compressor.measure.token_rows import edge_cases
from compressor.models import quantized, small_vectors, vector_outputs
from compressor.models.checkpoint import Checkpoint
from compressor.models.outputs import EMBEDDING, EMBEDDINGS, TOKENS
from compressor.models.quantized import QuantizedFile
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.quantization import SCHEMES, Settings
from compressor.runtimes import RUNTIMES, onnxruntime
from compressor.runtimes.onnx import fixed

PLAIN, WIDE = SentenceEmbedding("mean"), SentenceEmbedding("cls", dense=96, activation="tanh")
LONG = SentenceEmbedding("max", dense=16, normalize=False)
FP16 = QuantizedFile("fp16", "fp16", "onnx/model_fp16.onnx", False, 16, True, None, ())
EDGES = edge_cases(MAX_POSITIONS, 60, 0)


def write(folder: Path, how: SentenceEmbedding, *precisions: str) -> Path:
    vector_outputs.give(write_encoder(folder, how), precisions)
    return folder


def check(path: Path, runtime: str, *, exactly: bool = True) -> None:
    session = RUNTIMES[runtime].session(path, 1)
    for batch in [*([index] for index in range(len(EDGES))), [0, 6, 3]]:
        given = session.predict(EDGES.batch(batch))
        assert list(given) == [EMBEDDING, TOKENS, EMBEDDINGS["int8"], EMBEDDINGS["binary"]]
        vectors = given[EMBEDDING]
        integers, bits = (given[name] for name in EMBEDDINGS.values())
        assert (integers.dtype, bits.dtype) == (np.int8, np.uint8)
        assert np.array_equal(bits, np.packbits(vectors > 0, axis=1))
        expected = small_vectors.integers(vectors if exactly else small_vectors.normalised(vectors))
        differences = np.abs(integers - expected)
        assert integers.any() and differences.max() <= (0 if exactly else 1) and (differences > 0).mean() < 0.05


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "ort", "torchscript", "executorch"])
@pytest.mark.parametrize("how", [PLAIN, WIDE, LONG], ids=["plain", "wide", "long"])
def test_integers_and_bits_are_numpys_of_the_files_own_floats(runtime: str, how: SentenceEmbedding, tmp_path: Path):
    if RUNTIMES[runtime].missing():
        pytest.skip(f"needs the extra: pip install 'bert-compressor[{runtime}]'")
    folder = write(tmp_path, how, "int8", "binary")
    path = folder / RUNTIMES[runtime].file
    if runtime != "torch":
        RUNTIMES[runtime].export(folder, path)
    check(path, runtime, exactly=how.normalize)


def test_half_precision_rounds_what_it_gives(tmp_path: Path):
    if RUNTIMES["executorch"].missing():
        pytest.skip("needs the extra: pip install 'bert-compressor[executorch]'")
    folder = write(tmp_path, PLAIN, "int8", "binary")
    quantized.write(folder, [FP16])
    RUNTIMES["executorch"].export(folder, path := tmp_path / "model.pte")
    check(path, "executorch")


@pytest.mark.parametrize("scheme", ["dynamic_int8", "weight_only_int8", "weight_only_int4", "fp16"])
def test_quantized_graphs_and_their_torchscript(scheme: str, tmp_path: Path):
    folder = write(tmp_path, WIDE, "int8", "binary")
    onnxruntime.export(folder, tmp_path / "float.onnx")
    how = SCHEMES[scheme]
    target = folder / quantized.ONNX_FILES[how.precision]
    how.write(tmp_path / "float.onnx", target, Settings(how.bits), None)
    check(target, "onnxruntime")
    blocks, file = 32 if how.in_blocks else None, target.relative_to(folder).as_posix()
    quantized.write(folder, [QuantizedFile(scheme, how.precision, file, how.integer, how.bits, True, blocks, ())])
    RUNTIMES["torchscript"].export(folder, path := tmp_path / "model.pt")
    check(path, "torchscript")


def test_a_graph_of_a_fixed_length(tmp_path: Path):
    folder = write(tmp_path, PLAIN, "int8", "binary")
    onnxruntime.export(folder, free := tmp_path / "free.onnx")
    fixed.write(free, whole := tmp_path / "fixed.onnx", 8)
    inputs = {name: values[:, :8] for name, values in EDGES.batch([6]).items()}
    given = [RUNTIMES["onnxruntime"].session(path, 1).predict(inputs) for path in (free, whole)]
    assert all(np.array_equal(given[0][name], given[1][name]) for name in EMBEDDINGS.values())


def test_one_precision_alone(tmp_path: Path):
    for kind in small_vectors.PRECISIONS:
        folder = write(tmp_path / kind, PLAIN, kind)
        onnxruntime.export(folder, folder / "model.onnx")
        given = RUNTIMES["onnxruntime"].session(folder / "model.onnx", 1).predict(EDGES.batch([0]))
        assert list(given) == [EMBEDDING, TOKENS, EMBEDDINGS[kind]]
        assert (Checkpoint(folder).embedding.int8_scale is not None) == (kind == "int8")


def test_core_ml_gives_floats_and_the_report_says_so(tmp_path: Path):
    if RUNTIMES["coreml"].missing():
        pytest.skip("needs the extra: pip install 'bert-compressor[coreml]'")
    folder = write(tmp_path / "checkpoint", PLAIN)
    facts = run_export(folder, tmp_path / "out", targets=["coreml"], precisions=("int8",))
    assert facts["notes"] == ["coreml has no outputs of 8 bits: its file gives vectors as floats alone"]
    session = RUNTIMES["coreml"].session(tmp_path / "out" / RUNTIMES["coreml"].file, 1)
    assert list(session.predict(EDGES.batch([0]))) == [EMBEDDING, TOKENS]


def test_bits_that_do_not_fill_bytes_are_refused(tmp_path: Path):
    with pytest.raises(StageError, match="vectors have 12 numbers, which do not fill whole bytes; drop binary, or"):
        write(tmp_path, SentenceEmbedding(dense=12), "binary")
    write(tmp_path, SentenceEmbedding(dense=12), "int8")
