"""The folder that ships: `model/`, with its card and the digest of every file."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressor.measure import recorded_answers
from compressor.measure.measurement import REPEATABLE, deployed_file
from compressor.models.checkpoint import QUANTIZED_ONNX, Checkpoint, input_names
from compressor.models.registration import MODEL_TYPE
from compressor.package import manifest
from compressor.package.manifest import Manifest
from compressor.report import numbers
from compressor.report.markdown import markdown
from compressor.report.model import Report
from compressor.runtimes import RUNTIMES
from compressor.runtimes.baked_tokenizer import graph
from compressor.runtimes.ort import runtime as ort

_KINDS = {
    "text-classification": ("ForSequenceClassification", "text-classification"),
    "text-regression": ("ForSequenceClassification", "text-classification"),
    "token-classification": ("ForTokenClassification", "token-classification"),
    "question-answering": ("ForQuestionAnswering", "question-answering"),
    "masked-lm": ("ForMaskedLM", "fill-mask"),
}
"""For each task, the end of the Auto class and the hub's name for what it does."""


def model(report: Report, checkpoint: Path, folder: Path, runtime: str, answers: Path | None) -> str | None:
    """Makes `model/` what the report speaks of: the last checkpoint, or nothing after a failed gate.

    Args:
        report: The run.
        checkpoint: Its last checkpoint.
        folder: The run's folder.
        runtime: The runtime that was measured.
        answers: Recorded answers that ship; None for none.

    Returns:
        The SHA-256 of `model/manifest.json`, for the report to hold; None where there is none.
    """
    target, partial, old = folder / "model", folder / ".model.partial", folder / ".model.old"
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    if report.verdict == "fail":
        shutil.rmtree(target, ignore_errors=True)
        return None
    shutil.copytree(checkpoint, partial)
    if answers is not None:
        shutil.copyfile(answers, partial / recorded_answers.FILE)
    (partial / "README.md").write_text(_card(report, Checkpoint(partial)), encoding="utf-8")
    digest = _manifest(report, partial, runtime).write(partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return digest


def _manifest(report: Report, folder: Path, runtime: str) -> Manifest:
    file = deployed_file(folder, runtime)
    measured = report.built[-1].measurements
    return Manifest(
        recipe=report.recipe,
        task=report.built[-1].task,
        verdict=report.verdict,
        environment=report.environment,
        gates=report.gates,
        measured={name: measured[name].value for name in REPEATABLE if name in measured},
        file=file.relative_to(folder).as_posix() if file else None,
        files=manifest.digests(folder),
    )


def _card(report: Report, checkpoint: Checkpoint) -> str:
    """A model card written from what was measured."""
    stages = " → ".join(stage.name for stage in report.built)
    head, tag = _KINDS[report.built[-1].task]
    if checkpoint.tells_order:
        head = "ForPreTraining"  # the masked-LM class would leave the head for the order out
    ours = "import compressor  # its model classes, for AutoModel\n" if checkpoint.family == MODEL_TYPE else ""
    usage = (
        "```python\n"
        f"{ours}from transformers import AutoModel{head}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("model")\n'
        f'model = AutoModel{head}.from_pretrained("model")\n'
        "```\n"
    )
    front = f"---\nlibrary_name: transformers\npipeline_tag: {tag}\n---\n\n"
    return f"{front}{markdown(report)}\nMade by: {stages}.\n\n{usage}\n{_files(checkpoint.path)}"


def _files(folder: Path) -> str:
    """A line for each file that can be run, and how."""
    inputs = ", ".join(f"`{name}`" for name in input_names(Checkpoint(folder).family))
    uses = {
        RUNTIMES["onnxruntime"].file: f"onnxruntime, transformers.js (`dtype: fp32`); {inputs}, `(batch, sequence)`",
        QUANTIZED_ONNX: "the same, quantized (transformers.js: `dtype: q8`)",
        graph.FILE: "texts in (`text`, of pairs `text_pair` too), `label` and `probabilities` out; onnxruntime with "
        "onnxruntime-extensions: `options.register_custom_ops_library(onnxruntime_extensions.get_library_path())`",
        RUNTIMES["ort"].file: "onnxruntime, also its minimal builds; the same inputs",
        ort.OPERATORS: "`build.sh --minimal_build --include_ops_by_config` makes such a build of ONNX Runtime",
        RUNTIMES["torchscript"].file: f"`torch.jit.load`; inputs by position: {inputs}",
        RUNTIMES["executorch"].file: "ExecuTorch with XNNPACK; the same inputs, `(1, sequence)`",
    }
    rows = [
        f"| `{name.as_posix()}` | {numbers.number((folder / name).stat().st_size, 'bytes')} | {use} |"
        for name, use in uses.items()
        if (folder / name).is_file()
    ]
    return "\n".join(["| file | size | how to run it |", "|---|---|---|", *rows, ""]) if rows else ""
