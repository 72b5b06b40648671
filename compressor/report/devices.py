"""`devices` in report.json: what ships, run on devices after the run. `compress run` writes a report without them.

The manifest holds the digest of the report as the run wrote it, so the devices are no part of that digest.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from compressor.files import write_atomic
from compressor.report import files
from compressor.report.model import DeviceReport, finite, read, report_file

KEY = "devices"


def add(path: Path, name: str, device: DeviceReport, lock: str | None) -> None:
    """Adds a device to a run's report.json, in the place of an earlier one of its name, and writes the forms again.

    Args:
        path: The run's folder; the caller holds its lock.
        name: The device's name.
        device: What was measured on it.
        lock: Text of its recipe.lock.yaml; None if there is none.
    """
    file = report_file(path)
    document = json.loads(file.read_text(encoding="utf-8"))
    document[KEY] = {**document.get(KEY, {}), name: finite(asdict(device))}
    write_atomic(file, json.dumps(document, indent=2) + "\n")
    files.write(read(path), path, lock)


def without(text: str) -> str:
    """The text of report.json as its run wrote it.

    Args:
        text: The text, of a report that can be read.
    """
    document = json.loads(text)
    if KEY not in document:
        return text
    del document[KEY]
    return json.dumps(document, indent=2) + "\n"
