"""Messages to and from a worker: what its own have, and those in which rows and files are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compressor.device.worker import PART_BYTES, Arrays, Refused
from compressor.errors import printable

Fields = Mapping[str, Any]
Message = tuple[dict[str, Any], Arrays]

_KINDS: dict[str, dict[str, type]] = {
    "hello": {"machine": dict, "versions": dict, "state": dict},
    "progress": {"done": int, "total": int},
    "have": {"digests": list},
    "failed": {"reason": str},
    "refused": {"reason": str},
    "ready": {},
    "answer": {},
    "done": {},
}
"""What a worker's messages have, by their kinds."""


def known(message: Message) -> Message:
    """A message of a kind that there is, with the fields that it has.

    Raises:
        Refused: It is none.
    """
    header, _ = message
    fields = _KINDS.get(header["kind"])
    if fields is None or not all(isinstance(header.get(name), kind) for name, kind in fields.items()):
        raise Refused(f"a message of the kind {printable(header['kind'][:40])}, or without its fields")
    return message


def asked(fields: Fields, batches: Iterable[Arrays]) -> Iterator[tuple[str, Arrays, Fields]]:
    """The messages that ask for answers."""
    yield "answer", {}, fields
    for batch in batches:
        yield "ask", batch, {}
    yield "end", {}, {}


def parts(path: Path) -> Iterator[tuple[str, Arrays, Fields]]:
    """A file in the messages in which it is sent."""
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            yield "part", {"bytes": np.frombuffer(part, dtype=np.uint8)}, {}
