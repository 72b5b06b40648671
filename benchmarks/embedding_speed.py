"""Times a sentence encoder that ships beside sentence-transformers itself and beside OpenVINO.

    python benchmarks/embedding_speed.py artifacts/NAME/model --texts texts.txt

DIR opens with `SentenceTransformer`, and has a float and an int8 ONNX graph. All are timed in turn in one process, one
thread, one text a call, with tokens made beforehand; speed-ups are of medians over torch in float32. The cosine is the
mean over 200 of the texts with torch's vectors; OpenVINO's integers are calibrated on 300 others. It needs
`pip install sentence-transformers openvino nncf`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import kernels
import numpy as np
import peers
import side_by_side
from rich.console import Console
from side_by_side import LENGTHS, Conditions

from compressor.gates.timings import Timings
from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.outputs import EMBEDDING
from compressor.progress import Progress
from compressor.runtimes import RUNTIMES, Inputs, Outputs
from compressor.tasks.scoring.cosine import cosines

TORCH = "sentence-transformers, torch fp32"
_COMPARED, _CALIBRATED = 200, 300


class _SentenceTransformers:
    """The model in torch, as its users have it; has the interface of `compressor.runtimes.Session`."""

    def __init__(self, folder: Path) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        self._torch, self._model = torch, SentenceTransformer(str(folder), device="cpu").eval()

    def predict(self, inputs: Inputs) -> Outputs:
        """The vectors."""
        with self._torch.inference_mode():
            features = {name: self._torch.from_numpy(ids) for name, ids in inputs.items()}
            return {EMBEDDING: self._model(features)[EMBEDDING].numpy()}


class _OpenVino(peers.OpenVino):
    """OpenVINO; its graph's outputs are found by name."""

    def predict(self, inputs: Inputs) -> Outputs:
        """The vectors."""
        super().predict(inputs)
        return {EMBEDDING: self._request.get_tensor(EMBEDDING).data.copy()}


def _quantized(graph: Path, rows: list[dict[str, Any]], output: Path) -> Path:
    """NNCF's int8 for transformers of a float graph."""
    os.environ["NNCF_CI"] = "1"  # otherwise it sends usage reports
    import nncf
    import openvino

    model = openvino.Core().read_model(graph)
    names = [name for entry in model.inputs for name in entry.names]
    dataset = nncf.Dataset([{name: row[name] for name in names} for row in rows])
    with contextlib.redirect_stdout(sys.stderr):  # its progress; the table goes to stdout
        small = nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    openvino.save_model(small, output / "model.xml", compress_to_fp16=False)
    return output / "model.xml"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--texts", type=Path, required=True, help="one text a line")
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    lines = given.texts.read_text(encoding="utf-8").splitlines()[: _COMPARED + _CALIBRATED]
    tokenizer, model = loading.load_tokenizer(given.folder), Checkpoint(given.folder)
    encoded = [dict(tokenizer(line, truncation=True, return_tensors="np")) for line in lines]
    rows = [{name: ids.astype(np.int64) for name, ids in row.items()} for row in encoded]
    graph, small = given.folder / "onnx" / "model.onnx", given.folder / "onnx" / "model_quantized.onnx"
    with tempfile.TemporaryDirectory() as work:
        ours = RUNTIMES["onnxruntime"]
        sessions = {
            TORCH: _SentenceTransformers(given.folder),
            "ONNX Runtime, fp32": ours.session(graph, 1),
            "ONNX Runtime, int8": ours.session(small, 1),
            "OpenVINO, fp32": _OpenVino(graph, 1),
            "OpenVINO + NNCF, int8": _OpenVino(_quantized(graph, rows[_COMPARED:], Path(work)), 1),
        }
        vectors = {
            name: np.concatenate([session.predict(row)[EMBEDDING] for row in rows[:_COMPARED]])
            for name, session in sessions.items()
        }
        lengths = [length for length in LENGTHS if length <= model.max_sequence_length()]
        samples = {
            length: side_by_side.timed(
                sessions,
                kernels.full_batch(length, model.vocab_size),
                Conditions(given.runs, settle=1, clock="wall"),
                Progress(Console(stderr=True)),
            )
            for length in lengths
        }
    print(f"| | cosine | {' | '.join(f'{length} tokens, ms' for length in lengths)} |")
    print(f"|---|---|{'---|' * len(lengths)}")
    for name in sessions:
        cells = []
        for length in lengths:
            times, reference = samples[length][name], samples[length][TORCH]
            ratio = Timings(reference, 0.5).ratio(Timings(times, 0.5), 0.95)
            cells.append(f"{np.median(times):.2f} ({ratio.value:.2f}x)")
        cosine = cosines(vectors[name], vectors[TORCH]).mean()
        print(f"| {name} | {cosine:.4f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
