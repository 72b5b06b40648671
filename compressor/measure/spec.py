"""A recipe's `measure`: how every stage is timed and scored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from compressor.runtimes import RUNTIMES
from compressor.spec import OneOf, Spec


class MeasureSpec(Spec):
    """How every stage is timed and scored: the conditions of the device, as closely as this machine can."""

    runtime: Annotated[str, OneOf(name for name, runtime in RUNTIMES.items() if runtime.measured)] = "onnxruntime"
    """Runtime that ships."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the runtime while timing."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Rows per call, for latency and for quality (dynamic int8 depends on the batch it runs in)."""
    sequence_length: Annotated[int, Field(ge=2)] = 128
    """Tokens per row while timing."""
    runs: Annotated[int, Field(ge=1)] = 200
    """Timed calls; p95 needs 59 before it has an upper bound."""
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 900.0
    """Seconds without a sign of progress after which a measuring process is taken to hang, and ended."""

    def conditions(self) -> dict[str, Any]:
        """What measurements depend on: all but how long they are waited for."""
        return self.model_dump(mode="json", exclude={"timeout_s"})
