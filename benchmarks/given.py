"""The inputs of all files that `deploy.py` compares: a checkpoint and rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressor.measure.token_rows import INPUTS, TokenRows
from compressor.models import checkpoint, loading

VALIDATION_ROWS, CALIBRATION_ROWS, REFERENCES = "validation.npz", "calibration.npz", "references.npy"
CALIBRATION = 300


@dataclass(frozen=True)
class Given:
    """The inputs of all contenders.

    Attributes:
        checkpoint: The fine-tuned checkpoint.
        train: Training rows.
        validation: Validation rows.
        text: Column with the text.
        label: Column with the label.
        qat_steps: Optimizer steps of quantization-aware training.
        folder: Where everything is kept.
        rows: Folder with the rows as the checkpoint's tokenizer reads them.
    """

    checkpoint: Path
    train: Path
    validation: Path
    text: str
    label: str
    qat_steps: int
    folder: Path
    rows: Path


def prepare(given: Given, output: Path, work: Path) -> None:
    """Reads the rows and tokenizes them as the checkpoint's tokenizer does.

    Args:
        given: Names the rows.
        output: Gets the validation rows, their labels, and some training rows.
        work: For intermediate files.
    """
    from compressor.data import splits as data_rows
    from compressor.data import text_rows
    from compressor.data.spec import DataSpec
    from compressor.tasks import text_classification as task

    model = checkpoint.Checkpoint(given.checkpoint)
    spec = DataSpec(train=str(given.train), validation=str(given.validation), text=given.text, label=given.label)
    facts = data_rows.prepare(text_rows, spec, given.train, given.validation, task.columns(spec), 0, work, work)
    label_ids = task.label_ids(facts["labels"], model.labels)
    tokenizer = loading.load_tokenizer(given.checkpoint)
    for split, file in ((data_rows.VALIDATION, VALIDATION_ROWS), (data_rows.TRAIN, CALIBRATION_ROWS)):
        rows = data_rows.load(work / split)
        if split == data_rows.TRAIN:
            rows = rows.select(np.linspace(0, len(rows) - 1, min(CALIBRATION, len(rows))).astype(int))
        encoded = task.encode(rows, tokenizer, model.max_sequence_length(), label_ids, spec)
        names = [name for name in INPUTS if name in encoded.column_names]
        lists = [dict(zip(names, row, strict=True)) for row in zip(*(encoded[name] for name in names), strict=True)]
        TokenRows.of(lists, tokenizer.pad_token_id or 0).save(output / file)
        if split == data_rows.VALIDATION:
            np.save(output / REFERENCES, np.asarray(encoded["labels"], dtype=np.int64))
