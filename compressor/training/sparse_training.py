"""Training in which weights become zero and stay so, and what that is worth."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from compressor.models import loading
from compressor.models.checkpoint import WEIGHTS
from compressor.models.surgery import sparsity
from compressor.training.context import Facts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_RAMP = 2 / 3  # of the steps: what is left learns with all the zeros there will be
_UPDATES = 100  # of the masks on the way
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Zeros:
    """The weights that become zero.

    Attributes:
        share: Of the weights of the layers' matrices; or
        pattern: N and M: at most N of every M neighbours are not zero.
        scope: Of `share`: `layer` for that of each matrix, `global` for that of all.
    """

    share: float
    pattern: tuple[int, int] | None
    scope: str

    def masks(self, weights: Sequence[torch.Tensor], done: float = 1.0) -> list[torch.Tensor]:
        """Where weights stay, after a share of the time in which zeros are made."""
        if self.pattern is not None:
            return sparsity.in_pattern(weights, *self.pattern)
        return sparsity.largest(weights, sparsity.scheduled(done, self.share), self.scope)


def make_zero(weights: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> None:
    """Makes weights zero where the masks are False, in place."""
    for weight, mask in zip(weights, masks, strict=True):
        weight.mul_(mask)


class KeepZeros(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Makes more and more weights zero over the first two thirds of training, and keeps zeros zero.

    A pattern is there from the start. What is zero is the smallest there is, so a weight that is zero once stays so,
    and training that was stopped goes on with the zeros it had.

    Args:
        zeros: Which weights.
    """

    def __init__(self, zeros: Zeros) -> None:
        self._zeros = zeros
        self._masks: list[torch.Tensor] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: PreTrainedModel, **_: Any) -> None:
        """Finds the first masks, or those of training that goes on."""
        self._update(state, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: PreTrainedModel, **_: Any) -> None:
        """Sets the zeros again after each optimizer step."""
        ramp = self._ramp(state)
        due = self._zeros.pattern is None and state.global_step <= ramp
        if due and (state.global_step % max(1, ramp // _UPDATES) == 0 or state.global_step == ramp):
            self._update(state, model)
        make_zero(sparsity.matrices(model), self._masks)

    def _update(self, state: Any, model: PreTrainedModel) -> None:
        weights = sparsity.matrices(model)
        self._masks = self._zeros.masks(weights, min(1.0, state.global_step / self._ramp(state)))
        make_zero(weights, self._masks)

    def _ramp(self, state: Any) -> int:
        return max(1, int(_RAMP * state.max_steps))


def sparsity_facts(before: Path, after: Path) -> Facts:
    """How zeros changed the size of a checkpoint's download, in numbers and in words.

    Args:
        before: The checkpoint that came in.
        after: The checkpoint with zeros.
    """
    model = loading.load_model(after)
    weights = sparsity.matrices(model)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    inside, everything = zeros / sum(weight.numel() for weight in weights), zeros / model.num_parameters()
    sizes = {"gzip_bytes_before": _compressed(before / WEIGHTS), "gzip_bytes": _compressed(after / WEIGHTS)}
    file_bytes = (after / WEIGHTS).stat().st_size
    note = (
        f"{inside:.1%} of the weights in the layers' matrices are zero, {everything:.1%} of all weights. As a "
        f"compressed download (gzip) the weights take {sizes['gzip_bytes'] / 1e6:.1f} MB, before this stage "
        f"{sizes['gzip_bytes_before'] / 1e6:.1f} MB. On disk and in memory they take {file_bytes / 1e6:.1f} MB, zeros "
        "included, and zeros do not change latency: kernels multiply by them as by any other number."
    )
    shares = {"matrices": round(inside, 6), "all": round(everything, 6)}
    return {"sparsity": {**shares, **sizes, "file_bytes": file_bytes}, "notes": [note]}


def _compressed(path: Path) -> int:
    """Bytes of a file as gzip compresses it by default, which is what servers of downloads do; its header aside."""
    packer, size = zlib.compressobj(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())
