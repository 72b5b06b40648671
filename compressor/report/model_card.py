"""The model card: README.md of the folder that ships."""

from __future__ import annotations

from pathlib import Path

from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint, input_names
from compressor.models.families.compact_bert import NAME as COMPACT_BERT
from compressor.models.heads import EMBEDDINGS, PRETRAINING
from compressor.models.quantized import DTYPES, ONNX_FILES
from compressor.report import numbers
from compressor.report.markdown import markdown, prose
from compressor.report.model import Report
from compressor.runtimes import TARGETS, TEXT_RUNTIME
from compressor.runtimes.ort import runtime as ort
from compressor.runtimes.shipped import shipped, size_bytes
from compressor.tasks import TASKS

_LABELS_OF = """
thresholds = getattr(model.config, "{key}", None) or {{}}


def labels_of(*texts):  # one, or the two of a pair
    given = model(**tokenizer(*texts, truncation=True, return_tensors="pt")).logits.sigmoid()[0]
    return [name for i, name in model.config.id2label.items() if given[i] > thresholds.get(name, {default})]
"""
"""How a text gets its labels from a multi-label model."""


def render(report: Report, folder: Path) -> str:
    """The model card, with the measured values and how to load each file.

    Args:
        report: The run.
        folder: Its last checkpoint.
    """
    checkpoint = Checkpoint(folder)
    stages = " → ".join(stage.name for stage in report.built)
    task = TASKS[report.built[-1].task]
    head, tag = task.HEAD.auto, task.PIPELINE_TAG
    if checkpoint.has_order_head:
        head = PRETRAINING.auto  # the masked-LM class would drop the sentence-order head
    ours = checkpoint.family == COMPACT_BERT
    imports = "from compressor.models import register\n" if ours else ""
    call = "register()  # the classes of compact_bert\n" if ours else ""
    library = "sentence-transformers" if task.HEAD.vectors and not ours else "transformers"
    usage = (
        "```python\n"
        "from sentence_transformers import SentenceTransformer\n\n"
        f"{imports}{call}"
        'vectors = SentenceTransformer("model").encode(["a text", "another"])\n'
        "```\n"
        if task.HEAD.vectors
        else "```python\n"
        f"{imports}from transformers import AutoModel{head}, AutoTokenizer\n\n"
        f"{call}"
        'tokenizer = AutoTokenizer.from_pretrained("model")\n'
        f'model = AutoModel{head}.from_pretrained("model")\n'
        f"{_LABELS_OF.format(key=thresholds.KEY, default=thresholds.DEFAULT) if task.HEAD.sets else ''}"
        "```\n"
    )
    if task.HEAD.sets:
        usage += _thresholds(checkpoint)
    if task.HEAD.vectors:
        usage += _smaller_vectors(checkpoint)
    front = f"---\nlibrary_name: {library}\npipeline_tag: {tag}\n---\n\n"
    return f"{front}{markdown(report)}\nMade by: {prose(stages)}.\n\n{usage}\n{files_table(folder)}"


def _smaller_vectors(checkpoint: Checkpoint) -> str:
    """The outputs of a sentence encoder's files that hold its vector in smaller precisions."""
    how = checkpoint.embedding
    meanings = {
        "int8": f"int8, `round(number / scale)` with the scale {how.int8_scale!r} (`sentence_embedding.int8_scale` of "
        "config.json), at most 127 in size; the product of two, times scale², is the cosine",
        "binary": "uint8, a bit for each number that is above 0, the first in the highest bit of a byte "
        "(`numpy.packbits`); vectors are compared by how many bits are equal",
    }
    rows = [f"| `{EMBEDDINGS[kind]}` | {meanings[kind]} |" for kind in how.precisions]
    return "\n".join(["", "| output | is |", "|---|---|", *rows, ""]) if rows else ""


def _thresholds(checkpoint: Checkpoint) -> str:
    """The threshold of each label of a multi-label model."""
    pairs = zip(checkpoint.labels, thresholds.thresholds(checkpoint), strict=True)
    rows = [f"| {prose(name)} | {value:g} |" for name, value in pairs]
    return "\n".join(["", "| label | given if its probability is above |", "|---|---|", *rows, ""])


def files_table(folder: Path) -> str:
    """A row for each file that can be run: its size and how to run it."""
    inputs = ", ".join(f"`{name}`" for name in input_names(Checkpoint(folder).family))
    uses = {runtime.file: runtime.usage.format(inputs=inputs) for runtime in (*TARGETS.values(), TEXT_RUNTIME)}
    for precision, file in ONNX_FILES.items():
        uses[file] = f"onnxruntime, {precision} (transformers.js: `dtype: {DTYPES[precision]}`); the same inputs"
    for entry in shipped(folder):
        if entry.length is not None:
            uses[entry.file] = f"one row, padded to {entry.length} tokens: for accelerators that take no free sizes"
    uses[ort.OPERATORS] = "`build.sh --minimal_build --include_ops_by_config` makes such a build of ONNX Runtime"
    rows = [
        f"| `{name.as_posix()}` | {numbers.number(size_bytes(folder / name), 'bytes')} | {use} |"
        for name, use in uses.items()
        if (folder / name).exists()
    ]
    return "\n".join(["| file | size | how to run it |", "|---|---|---|", *rows, ""]) if rows else ""
