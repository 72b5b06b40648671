"""The folder that ships: `model/`, with its card and the digest of every file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from compressor.checkpoint import Checkpoint
from compressor.registration import MODEL_TYPE
from compressor.report import text
from compressor.report.model import Report
from compressor.store import file_digest

MANIFEST = "manifest.json"

_KINDS = {
    "text-classification": ("ForSequenceClassification", "text-classification"),
    "masked-lm": ("ForMaskedLM", "fill-mask"),
}
"""For each task, the end of the Auto class and the hub's name for what it does."""


def model(report: Report, checkpoint: Path, folder: Path) -> None:
    """Makes `model/` what the report speaks of: the last checkpoint, or nothing after a failed gate.

    Args:
        report: The run.
        checkpoint: Its last checkpoint.
        folder: The run's folder.
    """
    target, partial, old = folder / "model", folder / ".model.partial", folder / ".model.old"
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    if report.verdict == "fail":
        shutil.rmtree(target, ignore_errors=True)
        return
    shutil.copytree(checkpoint, partial)
    (partial / "README.md").write_text(_card(report, Checkpoint(partial)), encoding="utf-8")
    files = {
        str(path.relative_to(partial)): {"sha256": file_digest(path), "size_bytes": path.stat().st_size}
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    }
    manifest = {"schema_version": 1, "recipe": report.recipe, "verdict": report.verdict, "files": files}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _card(report: Report, checkpoint: Checkpoint) -> str:
    """A model card written from what was measured."""
    stages = " → ".join(stage.name for stage in report.stages if stage.stage != "baseline")
    head, tag = _KINDS[report.stages[-1].task]
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
    return f"{front}{text.markdown(report)}\nMade by: {stages}.\n\n{usage}"
