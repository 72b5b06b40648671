"""Stages of recipes that prune: a teacher, a cut that nothing trains after, and the end of a recipe."""

from __future__ import annotations

TRAIN = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
TEACHER = {"stage": "finetune", "epochs": 4, **TRAIN}
CUT = {"stage": "prune", "epochs": 0, "max_sequence_length": 24}
END = [{"stage": "quantize"}, {"stage": "export", "targets": ["onnx", "torchscript"]}]
