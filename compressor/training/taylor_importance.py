"""How much the loss would change without a head or a neuron, to first order, measured on training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from compressor.models.checkpoint import input_names
from compressor.models.convert import modules
from compressor.models.surgery.prune import Scores
from compressor.progress import Step
from compressor.training import devices
from compressor.training.trainer import Batch, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def taylor(model: PreTrainedModel, sample: Sequence[Batch], objective: Objective, step: Step) -> Scores:
    """Scores by first-order Taylor expansion: the mean over rows of |activation x gradient of the loss|.

    Every head's output and every neuron's activation is multiplied by a gate that is 1. The derivative of a row's loss
    with respect to a gate is the sum of activation times gradient over the tokens, and its size is what the loss would
    change if the gate were closed and the loss were linear. What layers share has one gate for all of them.

    Args:
        model: Any that surgery knows; it is not changed, and left in eval mode.
        sample: Batches of training rows.
        objective: The loss.
        step: Progress, in batches.

    Source: Michel et al. 2019, "Are Sixteen Heads Really Better than One?" (arXiv 1905.10650), section 4.1, for heads;
        Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning" (arXiv 1906.10771), section 3.1, for
        gates on neurons, with the absolute value that their earlier paper (arXiv 1611.06440, eq. 7) has for the square.
    """
    outputs, downs = modules(model, "attention_output"), modules(model, "down")
    names = input_names(model.config.model_type)
    head_size = _head_size(model)
    totals: list[torch.Tensor] = []
    rows = 0
    model.eval()
    with _frozen(model), devices.moved(model) as device:
        for done, batch in enumerate(devices.batches_on(device, sample)):
            size = len(batch["input_ids"])
            widths = [_width(module) // head_size for module in outputs] + [_width(module) for module in downs]
            gates = [torch.ones(size, width, device=device, requires_grad=True) for width in widths]
            repeats = [head_size] * len(outputs) + [1] * len(downs)
            with _gated([*outputs, *downs], gates, repeats):
                terms = objective.terms(model, {name: batch[name] for name in names if name in batch}, batch)
                loss = torch.stack([objective.weights[name] * term for name, term in terms.items()]).sum()
            found = [(gradient * size).abs().sum(dim=0).cpu() for gradient in torch.autograd.grad(loss, gates)]
            totals = [total + new for total, new in zip(totals, found, strict=True)] if totals else found
            rows += size
            step.update(done + 1, len(sample))
    means = [total / rows for total in totals]
    return Scores(tuple(means[: len(outputs)]), tuple(means[len(outputs) :]))


def _width(module: torch.nn.Module) -> int:
    """Channels that go into a matrix."""
    assert isinstance(module, torch.nn.Linear), "what gates stand before"
    return module.in_features


def _head_size(model: PreTrainedModel) -> int:
    config = model.config
    return int(getattr(config, "head_size", 0) or config.hidden_size // config.num_attention_heads)


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Within it, weights ask for no gradients, which would take as long as those of the gates."""
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)


@contextmanager
def _gated(modules: Sequence[torch.nn.Module], gates: Sequence[torch.Tensor], repeats: Sequence[int]) -> Iterator[None]:
    """Within it, what goes into each module, `(batch, sequence, channels)`, is multiplied by its gates.

    A gate, `(batch, heads or neurons)`, has so many channels in a row.
    """

    def hook(gate: torch.Tensor, repeat: int) -> Any:
        def multiply(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            return (arguments[0] * gate.repeat_interleave(repeat, dim=1)[:, None], *arguments[1:])

        return multiply

    handles = [
        module.register_forward_pre_hook(hook(gate, repeat))
        for module, gate, repeat in zip(modules, gates, repeats, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
