"""How much each matrix loses when it alone is quantized: measured once on training rows, and kept in the store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.host.machine import host, processor
from compressor.models.checkpoint import Checkpoint
from compressor.models.loading import load_tokenizer
from compressor.models.outputs import EMBEDDING, LOGITS
from compressor.quantization.base import Ranges, Settings
from compressor.quantization.spec import QuantizationSpec
from compressor.runtimes import RUNTIMES, Inputs, Session
from compressor.tasks import MASKED_LM
from compressor.tasks.scoring.cosine import cosines
from compressor.training.context import Context

if TYPE_CHECKING:
    import onnx

    from compressor.quantization.weight_matrices import Matrix

Answers = dict[str, NDArray[np.float32]]
"""Logits of a row by output, `(answers, choices)`."""

_ROWS, _TOKENS = 128, 4096
_BROKEN = 1e9
"""A distance that stands for answers that are not numbers."""


@dataclass(frozen=True)
class GraphQuantizer:
    """Quantizes one float graph by a stage's keys, with some matrices left in float.

    Attributes:
        graph: The float .onnx file.
        checkpoint: The checkpoint that it was exported from.
        spec: The stage's keys.
        settings: How weights become small.
        ranges: Of the activations, for static schemes.
    """

    graph: Path
    checkpoint: Path
    spec: QuantizationSpec
    settings: Settings
    ranges: Ranges | None

    def write(self, target: Path, kept: Sequence[str] = ()) -> None:
        """Writes the quantized file.

        Args:
            target: The file.
            kept: Names of matrices that stay in float besides those that the settings name.
        """
        self.spec.how.write(self.graph, target, self.settings.with_float(tuple(kept)), self.ranges)


def divergences(quantizer: GraphQuantizer, matrices: Sequence[Matrix], context: Context) -> dict[str, float]:
    """How far the answers move when one matrix is quantized and all others stay in float, by the matrix's name.

    The mean over a fixed sample of training rows of KL(float || quantized) of the softmaxed logits, in nats, at the
    hidden tokens of language models; where there are several outputs, their sum. Of vectors it is 1 - their cosine.
    Rows are read one at a time: what dynamic schemes make of a row depends on those it shares a batch with.

    Args:
        quantizer: What is quantized.
        matrices: Of its graph, those that are wanted.
        context: Training rows, progress, and where what is measured is kept.
    """
    from compressor.training.train_stage import max_sequence_length

    sample = _Sample(quantizer, context)
    settings = {name: value for name, value in asdict(quantizer.settings).items() if name != "keep_float"}
    known = {
        "checkpoint": Checkpoint(quantizer.checkpoint).digest(),
        "length": max_sequence_length(quantizer.checkpoint, quantizer.spec, context.task),
        "masked": [quantizer.spec.masking, quantizer.spec.hidden_share, context.seed],
        "backend": quantizer.spec.backend,
        "scheme": quantizer.spec.how.name,
        "settings": settings,
        "processor": processor(),
    }
    found = {}
    with context.progress.step("quantize: what each matrix loses", len(matrices)) as step:
        for done, matrix in enumerate(matrices, start=1):
            inputs = {**known, "matrix": matrix.name, "range": (quantizer.ranges or {}).get(matrix.name)}
            folder = context.memo((__name__,), inputs, partial(_measure, sample, matrix))
            found[matrix.name] = float(json.loads((folder / "divergence.json").read_text(encoding="utf-8")))
            step.update(done)
    return found


def _measure(sample: _Sample, matrix: Matrix, folder: Path) -> Mapping[str, float]:
    with sample.skeleton.quantized(matrix) as path:
        divergence = sample.divergence(RUNTIMES["onnxruntime"].session(path, 1))
    (folder / "divergence.json").write_text(json.dumps(divergence), encoding="utf-8")
    return {"divergence": divergence}


class _Sample:
    """Training rows and what the float graph answers to them; read when the first matrix is not in the store.

    Args:
        quantizer: What is quantized.
        context: The rows.
    """

    def __init__(self, quantizer: GraphQuantizer, context: Context) -> None:
        self._quantizer, self._context = quantizer, context

    @cached_property
    def skeleton(self) -> _Skeleton:
        """The float graph, ready to have one matrix quantized."""
        return _Skeleton(self._quantizer)

    @cached_property
    def _rows(self) -> list[Inputs]:
        """Evenly spread over the training rows, and fewer of long ones."""
        from compressor.quantization import calibration

        spec = self._quantizer.spec
        rows = calibration.rows(self._quantizer.checkpoint, spec, self._context, _ROWS)
        tokens = sum(row["input_ids"].size for row in rows)
        count = max(1, min(len(rows), _TOKENS * len(rows) // tokens))
        return [rows[index * len(rows) // count] for index in range(count)]

    @cached_property
    def _hidden(self) -> int:
        """The token that stands where tokens are hidden from a language model."""
        return int(load_tokenizer(self._quantizer.checkpoint).mask_token_id)

    @cached_property
    def _reference(self) -> list[Answers]:
        return self._answers(RUNTIMES["onnxruntime"].session(self._quantizer.graph, 1))

    def _answers(self, session: Session) -> list[Answers]:
        with ThreadPoolExecutor(int(host()["cores"])) as pool:
            return list(pool.map(partial(self._answer, session), self._rows))

    def _answer(self, session: Session, row: Inputs) -> Answers:
        answers = dict(session.predict(row))
        if self._context.model_head.vectors:
            answers = {EMBEDDING: answers[EMBEDDING]}
        elif self._context.task == MASKED_LM:
            # Of each token there are logits `(1, sequence, choices)`: those of hidden ones count.
            answers[LOGITS] = answers[LOGITS][row["input_ids"] == self._hidden]
        elif self._context.model_head.sets:  # each label is a choice of its own, between no and yes
            answers[LOGITS] = np.stack([np.zeros_like(answers[LOGITS]), answers[LOGITS]], axis=-1)
        return {name: values.reshape(-1, values.shape[-1]) for name, values in answers.items()}

    def divergence(self, session: Session) -> float:
        """Of a graph's answers from the float graph's; see `divergences`."""
        distance = _angle if self._context.model_head.vectors else _distance
        parts: dict[str, list[NDArray[np.float64]]] = {}
        for before, after in zip(self._reference, self._answers(session), strict=True):
            for name in before:
                parts.setdefault(name, []).append(distance(before[name], after[name]))
        total = sum(float(np.concatenate(values).mean()) for values in parts.values())
        return total if np.isfinite(total) else _BROKEN


def _distance(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(before || after) of softmaxed logits `(answers, choices)`, of numbers the squared difference. `(answers,)`."""
    if before.shape[-1] == 1:
        return np.asarray((before.astype(np.float64) - after)[:, 0] ** 2)
    p, q = _log_softmax(before), _log_softmax(after)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=-1))


def _angle(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - the cosine of the two vectors of each text, `(texts, dimensions)`, at least 0. `(texts,)`."""
    return np.maximum(0, 1 - cosines(after, before))


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


class _Skeleton:
    """A float graph whose matrices are taken out, to be quantized one at a time.

    Writing a whole file for each matrix would spend most of its time on all the others. Here they are inputs while the
    one is quantized, which no way of quantizing takes for matrices, and constants again afterwards.

    Args:
        quantizer: What is quantized.
    """

    def __init__(self, quantizer: GraphQuantizer) -> None:
        import onnx

        from compressor.quantization import weight_matrices

        self._quantizer = quantizer
        self._model, found = weight_matrices.read(quantizer.graph)
        names = {matrix.weight for matrix in found}
        self._weights = {tensor.name: tensor for tensor in self._model.graph.initializer if tensor.name in names}
        self._weights = {name: _copy(tensor) for name, tensor in self._weights.items()}
        others = [tensor for tensor in self._model.graph.initializer if tensor.name not in names]
        del self._model.graph.initializer[:]
        self._model.graph.initializer.extend(others)
        self._inputs = {
            name: onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            for name, tensor in self._weights.items()
        }

    @contextmanager
    def quantized(self, matrix: Matrix) -> Iterator[Path]:
        """A file in which only this matrix is quantized."""
        import onnx

        others = [name for name in self._weights if name != matrix.weight]
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        model.graph.input.extend(self._inputs[name] for name in others)
        model.graph.initializer.append(self._weights[matrix.weight])
        with tempfile.TemporaryDirectory(prefix="compress-") as folder:
            source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
            onnx.save(model, str(source))
            settings, spec = self._quantizer.settings, self._quantizer.spec
            only = replace(settings, keep_float=())
            spec.how.write(source, target, only, self._quantizer.ranges)
            model = onnx.load(str(target))
            inputs = [value for value in model.graph.input if value.name not in others]
            del model.graph.input[:]
            model.graph.input.extend(inputs)
            model.graph.initializer.extend(self._weights[name] for name in others)
            onnx.save(model, str(target))
            yield target


def _copy(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor, on its own: it outlives the list that it is taken out of."""
    return type(tensor).FromString(tensor.SerializeToString())
