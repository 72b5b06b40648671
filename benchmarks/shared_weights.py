"""Checks, for a model of ALBERT-base's shape, that every file stores the weights of twelve shared layers once.

Makes an ALBERT-base with random weights, exports it as `export` and quantizes it as `quantize` do, and counts bytes and
integer weight matrices. `torch.onnx.export` and ONNX Runtime's `quantize_dynamic` alone are the comparison. Nothing is
downloaded. To print the table:

    python benchmarks/shared_weights.py

"coverage" is the share of weight matrices that run as integers; "difference" the largest between a logit and torch's on
rows of random tokens, where a logit's standard deviation is printed below. Exits 1 unless the fp32 file takes at most
48 MB and agrees with torch to 1e-4, and the int8 file takes at most 12.5 MB with every matrix an integer one.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from compressor.models import checkpoint, loading
from compressor.package.inspection import inspect
from compressor.quantization import Settings, dynamic_int8
from compressor.runtimes import onnxruntime, tracing
from compressor.runtimes.onnx import coverage as onnx_coverage

MOST_FLOAT, MOST_INT8, MOST_DIFFERENCE = 48e6, 12.5e6, 1e-4
ROWS, LENGTH = 8, 64


def albert_base(folder: Path) -> None:
    """A classifier of ALBERT-base's shape (Lan et al. 2019, table 1) with random weights, and biases that are not 0."""
    import torch
    from transformers import AlbertConfig, AlbertForSequenceClassification

    torch.manual_seed(0)
    model = AlbertForSequenceClassification(
        AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072, num_labels=2)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)


def plain(source: Path, path: Path) -> None:
    """`torch.onnx.export` alone, by tracing; `quantize_dynamic` fails on the shapes of its other exporter."""
    import torch

    module = tracing.load(source, "eager")
    names = list(module.input_names)
    free = {0: "batch_size", 1: "sequence_length"}
    torch.onnx.export(
        module,
        tracing.example_inputs(module),
        str(path),
        input_names=names,
        output_names=list(module.output_names),
        dynamic_axes=dict.fromkeys(names, free),
        opset_version=onnxruntime.OPSET,
        dynamo=False,
    )


def plain_int8(source: Path, path: Path) -> None:
    """ONNX Runtime's own dynamic quantization of that, per channel, embeddings included."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it recommends preprocessing for convolutions
    quantize_dynamic(source, path, ["MatMul", "Gemm", "Gather"], per_channel=True, weight_type=QuantType.QInt8)


@click.command()
def main() -> None:
    """Print the sizes of an ALBERT-base's files, and compare their logits with torch's."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary:
        folder = Path(temporary) / "albert"
        albert_base(folder)
        (weights,) = inspect(folder / checkpoint.WEIGHTS)
        print(f"parameters: {weights.stored / 1e6:.2f} M stored, {weights.called / 1e6:.2f} M as called\n")
        model = loading.load_model(folder).eval()
        ids = np.random.default_rng(0).integers(5, model.config.vocab_size, (ROWS, LENGTH))
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits.numpy()
        files = {name: Path(temporary) / f"{index}.onnx" for index, name in enumerate(_MAKERS)}
        print("| file | MB | coverage | difference |\n|---|---|---|---|")
        measured = {}
        for name, path in files.items():
            make, source = _MAKERS[name]
            make(files[source] if source else folder, path)
            difference = float(np.abs(onnxruntime.Session(path, 1).predict(inputs)["logits"] - logits).max())
            measured[name] = path.stat().st_size, onnx_coverage.quantized_coverage(path), difference
            size, coverage, difference = measured[name]
            print(f"| {name} | {size / 1e6:.2f} | {coverage:.0%} | {difference:.1e} |", flush=True)
    print(f"\n({ROWS} rows of {LENGTH} tokens; standard deviation of a logit {logits.std():.2f})")
    if measured[FLOAT][0] > MOST_FLOAT or measured[FLOAT][2] > MOST_DIFFERENCE:
        sys.exit(f"missed: {FLOAT} is to take at most {MOST_FLOAT / 1e6} MB, and to agree to {MOST_DIFFERENCE}")
    if measured[INT8][0] > MOST_INT8 or measured[INT8][1] < 1:
        sys.exit(f"missed: {INT8} is to take at most {MOST_INT8 / 1e6} MB, and all of its matrices are to be integers")


FLOAT, INT8, PLAIN, PLAIN_INT8 = "ONNX fp32", "ONNX int8", "torch.onnx.export", "… and quantize_dynamic"
_MAKERS: dict[str, tuple[Callable[[Path, Path], None], str | None]] = {
    FLOAT: (onnxruntime.export, None),
    INT8: (partial(dynamic_int8.write, settings=Settings()), FLOAT),
    PLAIN: (plain, None),
    PLAIN_INT8: (plain_int8, PLAIN),
}
"""What makes each file, and of which: of the checkpoint's folder where none is named."""

if __name__ == "__main__":
    main()
