"""Runs the file that holds its tokenizer: texts in, labels out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compressor.models.checkpoint import Checkpoint
from compressor.runtimes.baked_tokenizer import graph
from compressor.runtimes.base import Inputs, Outputs, Runtime

RUNTIME = Runtime(
    name="onnx_with_tokenizer",
    module=__name__,
    file=graph.FILE,
    usage="texts in (`text`, for pairs also `text_pair`), `label` and `probabilities` out; onnxruntime with "
    "onnxruntime-extensions: `options.register_custom_ops_library(onnxruntime_extensions.get_library_path())`",
    takes_texts=True,
    extra="baked",
    requires=graph.LIBRARIES,
)


class Session:
    """The file, which takes `text` and, for pairs, `text_pair`: strings `(batch,)`.

    Args:
        path: The .onnx file, in the checkpoint's folder, which names the labels.
        threads: Threads within an operator.
    """

    concurrent = True

    def __init__(self, path: Path, threads: int) -> None:
        self._session = graph.load(str(path), threads)
        self._index = {label: index for index, label in enumerate(Checkpoint(path.parent.parent).labels)}
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def predict(self, inputs: Inputs) -> Outputs:
        """`logits`: logarithms of the probabilities; that of the label that came out is the highest.

        It is infinite where another label is more probable, so that a file that contradicts itself is like no other.
        """
        feed = {name: inputs[name] for name in self._inputs}
        given, probabilities = self._session.run([graph.LABEL, graph.PROBABILITIES], feed)
        logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
        rows, columns = np.arange(len(logits)), np.array([self._index[label] for label in given])
        highest = logits.max(axis=-1)
        right = logits[rows, columns] == highest
        logits[rows, columns] = np.where(right, np.nextafter(highest, np.float32(np.inf)), np.inf)
        return {"logits": logits}
