"""Results as a device hands them back, computed here with ONNX Runtime."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import onnxruntime

from compressor.serve.job import Job

DESCRIPTION = {
    "user_agent": "Mozilla/5.0 (Linux; Android 14; Pixel 7)",
    "cores": 8,
    "threads": 1,
    "simd": True,
    "isolated": False,
    "runtime": "onnxruntime-web 1.31.0",
}


def packed(array: Any) -> dict[str, Any]:
    numbers = np.asarray(array, dtype="<f4")
    return {"shape": list(numbers.shape), "data": base64.b64encode(numbers.tobytes()).decode()}


def outputs(job: Job, name: str) -> list[dict[str, Any]]:
    """The outputs of a file to each row."""
    file = next(entry.file for entry in job.files if entry.name == name)
    session = onnxruntime.InferenceSession(job.model / file)
    names = [entry.name for entry in session.get_inputs()]
    wanted = list(job.outputs)
    return [dict(zip(wanted, session.run(wanted, {n: row[n] for n in names}), strict=True)) for row in job.rows]


def result_of(job: Job, device: str = "Pixel 7", milliseconds: float = 5.0) -> dict[str, Any]:
    """The result of a device that is right."""
    files = {}
    for entry in job.files:
        rows = [{name: packed(array) for name, array in row.items()} for row in outputs(job, entry.name)]
        digest = job.manifest.files[entry.file.as_posix()]["sha256"]
        times = [milliseconds * (1 + 0.001 * (call % 7)) for call in range(job.runs)]
        files[entry.name] = {"sha256": digest, "rows": rows, "latency_ms": times}
    return {"device": device, "description": DESCRIPTION, "files": files}


def body(result: dict[str, Any]) -> bytes:
    return json.dumps(result).encode()
