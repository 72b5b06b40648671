"""Runs ONNX files on the processor that it finds itself on, emulated or not. Needs numpy and onnxruntime alone.

`python arm_worker.py JOB.json`: a list of `{model, calls, answers, options}`. `calls` is an .npz file with the arrays
`INDEX.NAME` of each call, and `answers` gets the outputs of each under the same kind of names; `options` are
entries of the session's configuration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def answer(model: str, calls: str, answers: str, options: dict[str, str]) -> None:
    """Does one job."""
    given = onnxruntime.SessionOptions()
    given.intra_op_num_threads = given.inter_op_num_threads = 1
    given.log_severity_level = 3
    for name, value in options.items():
        given.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(model, given, providers=["CPUExecutionProvider"])
    outputs = [entry.name for entry in session.get_outputs()]
    found: dict[str, Any] = {}
    with np.load(calls, allow_pickle=False) as arrays:
        inputs = [entry.name for entry in session.get_inputs()]
        for index in range(int(arrays["count"])):
            made = session.run(outputs, {name: arrays[f"{index}.{name}"] for name in inputs})
            found |= {f"{index}.{name}": value for name, value in zip(outputs, made, strict=True)}
    np.savez(answers, **found)


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        answer(**job)
