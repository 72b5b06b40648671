"""What this machine trains on: the kind of accelerator, this process's own one, and the precision that `auto` selects.

Imports torch in functions only, and not at all to find out that torch's build has no accelerator: keys ask.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from compressor.host.machine import host

if TYPE_CHECKING:
    import torch

LONG = 128
"""Tokens from which on bf16 is faster than fp32 on CPUs."""


@cache
def kind() -> str:
    """The kind of device that models are trained on: `cuda`, `mps`, `xpu`, …, or `cpu` if there is no accelerator."""
    if metadata.version("torch").endswith("+cpu") and platform.system() != "Darwin":
        return "cpu"
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else found.type


def device() -> torch.device:
    """This process's device; of processes that train together on one machine, each has its own accelerator."""
    import torch

    if kind() == "cpu":
        return torch.device("cpu")
    return torch.device(kind(), int(os.environ.get("LOCAL_RANK", "0")) % max(1, count()))


def count() -> int:
    """How many of them this machine has; 1 for a CPU."""
    if kind() == "cpu":
        return 1
    import torch

    return int(torch.accelerator.device_count())


@contextmanager
def moved(model: torch.nn.Module) -> Iterator[torch.device]:
    """Within it, a model is on this process's device; behind it, on the CPU, where models are changed and saved."""
    where = device()
    model.to(where)
    try:
        yield where
    finally:
        model.to("cpu")


def batches_on(where: torch.device, batches: Iterable[Mapping[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Batches on a device."""
    return [{name: value.to(where) for name, value in batch.items()} for batch in batches]


@cache
def fast_bf16() -> bool:
    """Whether the device computes in bf16 by itself: emulated on older GPUs and on MPS, it is slower than fp32."""
    if kind() == "cpu":
        return "bf16" in str(host()["cpu_features"])
    import torch

    if kind() == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind() == "xpu":
        return bool(torch.xpu.is_bf16_supported(including_emulation=False))
    return False


def lacks(precision: str) -> str | None:
    """Why this machine does not train in a precision; None if it does, or if the precision is chosen for it."""
    if precision == "fp16" and kind() == "cpu":
        return "needs a GPU, and there is none; use fp32, or bf16 for long sequences"
    if precision == "bf16" and kind() != "cpu":
        from transformers.utils import is_torch_bf16_gpu_available

        if not is_torch_bf16_gpu_available():
            return f"is not computed by this machine's {kind()} device; use fp32 or auto"
    return None


def precision(wanted: str, tokens: float) -> str:
    """The precision that `auto` selects: bf16 where that is faster, on CPUs for long sequences only; else fp32.

    Args:
        wanted: The recipe's value.
        tokens: Mean length of a row.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if fast_bf16() and (kind() != "cpu" or tokens >= LONG) else "fp32"


def planned_precision(wanted: str, most_tokens: int | None) -> str:
    """The same before rows are read, for keys: of long rows on CPUs, what their lengths decide is left open.

    Args:
        wanted: The recipe's value.
        most_tokens: Tokens that rows are cut to; None where it is not said.
    """
    open_yet = wanted == "auto" and kind() == "cpu" and fast_bf16()
    if open_yet and (most_tokens is None or most_tokens >= LONG):
        return f"bf16 for rows of {LONG} tokens or more, else fp32"
    return precision(wanted, 0)
