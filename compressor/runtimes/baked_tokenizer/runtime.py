"""Runs the file that holds its tokenizer: texts in, labels or vectors out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes.baked_tokenizer import graph
from compressor.runtimes.base import Inputs, Outputs, Runtime

RUNTIME = Runtime(
    name="onnx_with_tokenizer",
    module=__name__,
    file=graph.FILE,
    usage="texts in (`text`, for pairs also `text_pair`), `label` and `probabilities` out (of a multi-label model an "
    "empty `label` where a text is not given it), or the vectors of a sentence encoder (prompts are put in front of "
    "`text` by the app); onnxruntime with "
    "onnxruntime-extensions: `options.register_custom_ops_library(onnxruntime_extensions.get_library_path())`",
    takes_texts=True,
    extra="baked",
    requires=graph.LIBRARIES,
)

_LEAST = 1e-7
"""Least probability that has a logit, and its distance from 1: single precision tells no smaller one apart."""
_ROUNDING = 1e-3
"""Difference from an offset below which a probability in single precision does not say on which side a logit is."""


class Session:
    """The file, which takes `text` and, for pairs, `text_pair`: strings `(batch,)`.

    Args:
        path: The .onnx file, in the checkpoint's folder, which names the labels.
        threads: Threads within an operator.
    """

    concurrent = True

    def __init__(self, path: Path, threads: int) -> None:
        self._session = graph.load(str(path), threads)
        checkpoint = Checkpoint(path.parent.parent)
        self._index = {label: index for index, label in enumerate(checkpoint.labels)}
        self._sets, self._offsets = thresholds.gives_sets(checkpoint.config), thresholds.offsets(checkpoint)
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def predict(self, inputs: Inputs) -> Outputs:
        """`logits`: logarithms of the probabilities; that of the label that came out is the highest.

        It is infinite where another label is more probable, so that a file that contradicts itself is like no other.
        Of a multi-label model they are those whose sigmoids came out, above their offsets where a label came out. Of a
        sentence encoder the outputs are its own.
        """
        feed = {name: inputs[name] for name in self._inputs}
        if graph.LABEL not in self._outputs:
            return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        given, probabilities = self._session.run([graph.LABEL, graph.PROBABILITIES], feed)
        if self._sets:
            return {"logits": self._of_sets(given, probabilities)}
        logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
        rows, columns = np.arange(len(logits)), np.array([self._index[label] for label in given])
        highest = logits.max(axis=-1)
        right = logits[rows, columns] == highest
        logits[rows, columns] = np.where(right, np.nextafter(highest, np.float32(np.inf)), np.inf)
        return {"logits": logits}

    def _of_sets(self, given: Any, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of probabilities, infinite where the labels contradict them by more than rounding."""
        likely = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
        logits = np.log(likely / (1 - likely)).astype(np.float32)
        offsets = np.array(self._offsets or [0.0] * len(self._index), dtype=np.float32)
        said = np.asarray(given) == np.array(list(self._index), dtype=object)
        side = np.where(said, np.float32(np.inf), np.float32(-np.inf))
        near = np.abs(logits - offsets) < _ROUNDING
        forced = np.where(near, np.nextafter(offsets, side), side)
        return np.asarray(np.where((logits > offsets) == said, logits, forced), dtype=np.float32)
