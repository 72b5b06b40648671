"""The record of quantized files, in a checkpoint's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.models import quantized
from compressor.models.checkpoint import Checkpoint

ENTRY = quantized.QuantizedFile("fp16", "fp16", "onnx/model_quantized.onnx", False, 16, True, None, ("head", "*.q"))
OTHER = quantized.QuantizedFile("weight_only_int4", "int4", "onnx/model_q4.onnx", False, 32, True, 64, ())


def test_it_is_read_as_it_was_written(tmp_path: Path):
    assert Checkpoint(tmp_path).quantizations == ()
    quantized.write(tmp_path, (ENTRY, OTHER))
    assert Checkpoint(tmp_path).quantizations == (ENTRY, OTHER)


BROKEN = ["", "[", "{}x", "1", "[1]", '[{"scheme": "fp16"}]', '[{"precision": "int9", "keep_float": []}]']


@pytest.mark.parametrize("text", BROKEN)
def test_another_content_is_refused_with_its_place(tmp_path: Path, text: str):
    (tmp_path / quantized.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"quantization\.json is not a record"):
        _ = Checkpoint(tmp_path).quantizations
