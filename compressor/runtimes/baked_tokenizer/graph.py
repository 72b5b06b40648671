"""Text in, label or vector out: the graph that ships, its tokenizer before it and its labels behind it, in one file.

An extra: its operators for strings are those of onnxruntime-extensions, which an app registers when it loads the file.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.device.worker import onnx_options
from compressor.errors import StageError
from compressor.runtimes.baked_tokenizer import wordpiece
from compressor.runtimes.baked_tokenizer.probes import PROBES, probe_columns
from compressor.runtimes.baked_tokenizer.rows import padded
from compressor.runtimes.baked_tokenizer.wordpiece import Tokenizer
from compressor.runtimes.onnx.builder import Graph

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from transformers import PreTrainedTokenizerBase

    from compressor.models.checkpoint import Checkpoint

FILE = Path("onnx") / "model_with_tokenizer.onnx"
"""Where a checkpoint folder keeps it."""

TEXT, TEXT_PAIR = "text", "text_pair"
"""Inputs: strings, `(batch,)` each; the second only for pairs."""
LABEL, PROBABILITIES = "label", "probabilities"
"""Outputs: strings `(batch,)`, of a multi-label model `(batch, labels)`: a label's name where a text is given it, else
an empty string; and `(batch, labels)`."""

INSTALL = "pip install 'bert-compressor[baked]'"
LIBRARIES = ("onnxruntime-extensions",)

_ROWS = ("batch_size", "sequence_length")


def installed() -> bool:
    """Whether the extra is."""
    return importlib.util.find_spec("onnxruntime_extensions") is not None


def load(model: str | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session that knows the operators of onnxruntime-extensions.

    Args:
        model: The file, or what is in it.
        threads: Threads within an operator.

    Raises:
        StageError: onnxruntime-extensions is not installed.
    """
    import onnxruntime

    return onnxruntime.InferenceSession(model, options(threads), providers=["CPUExecutionProvider"])


def options(threads: int) -> onnxruntime.SessionOptions:
    """How a session that knows the operators of onnxruntime-extensions runs.

    Raises:
        StageError: onnxruntime-extensions is not installed.
    """
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError as error:
        raise StageError(f"tokenizer: baked needs onnxruntime-extensions: {INSTALL}") from error
    made = onnx_options(threads)
    made.register_custom_ops_library(get_library_path())
    return made


def is_baked(graph: onnx.GraphProto) -> bool:
    """Whether a graph holds a tokenizer."""
    return any(node.domain == wordpiece.DOMAIN for node in graph.node)


def write(source: Path, graph: Path, path: Path, pairs: bool) -> None:
    """Puts a checkpoint's tokenizer before a graph and its labels behind it.

    Any number of texts at once: rows are filled up and masked. Texts are cut to what the tokenizer says. As many labels
    as texts come out, and a softmax of the logits; of a multi-label model the labels above their thresholds, and a
    sigmoid. Of a sentence encoder the graph's own outputs come out: nothing is behind it.

    Args:
        source: Checkpoint folder.
        graph: An .onnx file of it, with the output `logits`, `(batch, labels)`, or of a sentence encoder.
        path: The .onnx file to write.
        pairs: Whether it takes two texts.

    Raises:
        StageError: The tokenizer cannot be written as ONNX operators.
    """
    import onnx

    from compressor.models import sentence_embedding
    from compressor.models.checkpoint import Checkpoint
    from compressor.runtimes.onnx import rewrite

    model = onnx.load(str(graph))
    names = [value.name for value in model.graph.input]
    front, rows = _front(source, pairs)
    _check(source, front, rows, pairs)
    renamed = {rows[name]: name for name in names}
    for node in front.nodes:
        for values in (node.input, node.output):
            values[:] = [renamed.get(value, value) for value in values]
    inner = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend([*front.nodes, *inner])
    model.graph.initializer.extend(front.constants.values())
    model.graph.input.extend(_texts(pairs))
    checkpoint = Checkpoint(source)
    if not sentence_embedding.gives_vectors(checkpoint.config):
        _add_labels(model.graph, checkpoint)
    _import_operators(model)
    rewrite.remove_unused(model.graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def _add_labels(graph: onnx.GraphProto, checkpoint: Checkpoint) -> None:
    """Puts labels and probabilities in the place of the logits."""
    from onnx import TensorProto, helper

    from compressor.models import thresholds

    labels, sets = checkpoint.labels, thresholds.gives_sets(checkpoint.config)
    back = _sets(labels, thresholds.offsets(checkpoint)) if sets else _back(labels)
    outputs = [_ROWS[0], len(labels)]
    del graph.output[:]
    graph.node.extend(back.nodes)
    graph.initializer.extend(back.constants.values())
    graph.output.extend(
        [
            helper.make_tensor_value_info(LABEL, TensorProto.STRING, outputs if sets else _ROWS[:1]),
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, outputs),
        ]
    )


def takes_pairs(path: Path) -> bool:
    """Whether a file that holds its tokenizer takes two texts."""
    import onnx

    return len(onnx.load(str(path), load_external_data=False).graph.input) == 2


def tokenizing(source: Path, pairs: bool) -> onnx.ModelProto:
    """A model that only tokenizes: `input_ids`, `attention_mask` and `token_type_ids` of texts, `(batch, sequence)`."""
    return _alone(*_front(source, pairs), pairs)


def _front(source: Path, pairs: bool) -> tuple[Graph, dict[str, str]]:
    """A checkpoint's tokenizer as nodes, and their outputs by the names of a model's inputs."""
    from compressor.models import checkpoint, loading

    loaded = loading.load_tokenizer(source)
    if (why := unsupported(loaded)) is not None:
        raise StageError(f"tokenizer: baked: {why}; use tokenizer: files")
    tokenizer, graph = Tokenizer.of(loaded), Graph("tokenizer")
    texts = [tokenizer.pieces(graph, name) for name in ((TEXT, TEXT_PAIR) if pairs else (TEXT,))]
    return graph, padded(graph, tokenizer, texts, checkpoint.Checkpoint(source).max_sequence_length())


def unsupported(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why a tokenizer cannot be baked in; None if it can."""
    if why := wordpiece.cut_elsewhere(tokenizer.truncation_side):
        return why
    known = tokenizer.get_vocab()
    for name in ("cls_token", "sep_token", "pad_token"):
        if getattr(tokenizer, name) not in known:
            return f"it has no {name}"
    return wordpiece.unsupported(json.loads(tokenizer.backend_tokenizer.to_str()))


def fault(source: Path, pairs: bool) -> str | None:
    """Why a checkpoint's tokenizer cannot be baked in, as tried on texts that are hard for tokenizers; None if it can.

    Args:
        source: Checkpoint folder.
        pairs: Whether it takes two texts.
    """
    try:
        _check(source, *_front(source, pairs), pairs)
    except StageError as error:
        return str(error).removeprefix("tokenizer: baked: ").removesuffix("; use tokenizer: files")
    return None


def _back(labels: list[str]) -> Graph:
    """From logits to labels and probabilities."""
    from onnx import helper

    graph = Graph("labels")
    best = graph.add("ArgMax", "logits", axis=-1, keepdims=0)
    graph.add("Gather", graph.strings(*labels), best, axis=0)
    graph.nodes[-1].output[0] = LABEL
    graph.nodes.append(helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=-1))
    return graph


def _sets(labels: list[str], offsets: list[float] | None) -> Graph:
    """From logits to the labels that are given, and probabilities."""
    from onnx import helper

    graph = Graph("labels")
    given = graph.add("Greater", "logits", graph.floats(offsets or [0.0] * len(labels)))
    graph.add("Where", given, graph.strings(*labels), graph.strings(""))
    graph.nodes[-1].output[0] = LABEL
    graph.nodes.append(helper.make_node("Sigmoid", ["logits"], [PROBABILITIES]))
    return graph


def _alone(front: Graph, rows: dict[str, str], pairs: bool) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    from compressor.runtimes.onnxruntime import OPSET

    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, _ROWS) for name in rows]
    copies = [helper.make_node("Identity", [made], [name]) for name, made in rows.items()]
    graph = helper.make_graph([*front.nodes, *copies], "tokenizer", [], outputs, [*front.constants.values()])
    graph.input.extend(_texts(pairs))
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset]))
    _import_operators(model)
    return model


def _texts(pairs: bool) -> list[onnx.ValueInfoProto]:
    from onnx import TensorProto, helper

    names = (TEXT, TEXT_PAIR) if pairs else (TEXT,)
    return [helper.make_tensor_value_info(name, TensorProto.STRING, _ROWS[:1]) for name in names]


def _import_operators(model: onnx.ModelProto) -> None:
    """Tells which operators beside the graph's own the tokenizer has."""
    from onnx import helper

    known = {entry.domain for entry in model.opset_import}
    wanted = {wordpiece.DOMAIN: 1, "ai.onnx.ml": 2}
    model.opset_import.extend(
        helper.make_opsetid(name, version) for name, version in wanted.items() if name not in known
    )


def _check(source: Path, front: Graph, rows: dict[str, str], pairs: bool) -> None:
    """Holds the nodes against the tokenizer itself, on texts that are hard for tokenizers.

    Raises:
        StageError: They split a text otherwise.
    """
    import numpy as np

    from compressor.models import checkpoint, loading

    session = load(_alone(front, rows, pairs).SerializeToString())
    tokenizer = loading.load_tokenizer(source)
    limit = checkpoint.Checkpoint(source).max_sequence_length()
    texts = probe_columns(pairs)
    expected: Any = tokenizer(*texts, truncation="longest_first", max_length=limit, padding=True)["input_ids"]
    feed = {value.name: np.array(column, dtype=object) for value, column in zip(_texts(pairs), texts, strict=True)}
    (given,) = session.run(["input_ids"], feed)
    if given.shape != np.shape(expected) or (wrong := (given != expected).any(axis=1)).any():
        example = PROBES[int(wrong.argmax())] if given.shape == np.shape(expected) else PROBES[-1]
        raise StageError(
            f"tokenizer: baked: the tokenizer in {source} splits {example[:40]!r} otherwise than BERT's does; "
            "use tokenizer: files"
        )
