"""Removes heads, neurons and layers, and trains the student back to match the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.checkpoint import Checkpoint
from compressor.context import Context, Facts
from compressor.recipe_stages import PruneSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.surgery.anatomy import Anatomy
    from compressor.surgery.pruning import Scores
    from compressor.training.batches import MaskedBatches, RowBatches


def run(source: Path, output: Path, spec: PruneSpec, context: Context) -> Facts:
    """Prunes, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.surgery import pruning, widths
    from compressor.surgery.families import put_together
    from compressor.training.distillation import distil

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        whole, facts = _without_layers(incoming, source, batches, spec, context)
        after = widths.after(whole.heads, whole.neurons, (spec.heads, spec.ffn), spec.scope)
        if spec.heads or spec.ffn:
            scores = _scores(whole, batches, spec, context)
            kept = pruning.choose(scores, after, spec.scope)
            whole = pruning.pruned(whole, kept)
            facts["removed_score"] = pruning.removed_share(scores, kept)
        student = put_together(whole)
        facts |= {"heads": whole.heads, "neurons": whole.neurons, "parameters": student.num_parameters()}
        return student, facts

    return distil(source, output, spec, context, make)


def _without_layers(
    incoming: PreTrainedModel, source: Path, batches: RowBatches | MaskedBatches, spec: PruneSpec, context: Context
) -> tuple[Anatomy, Facts]:
    """What comes in without the layers that are to go, and which stayed."""
    from compressor.surgery.families import take_apart
    from compressor.surgery.student import chosen_layers, least_harmful
    from compressor.training import initial

    total = int(incoming.config.num_hidden_layers)
    if not spec.layers:
        return take_apart(incoming), {}
    facts: Facts = {}
    if isinstance(spec.layers, int):
        with context.progress.step(f"{spec.name or spec.kind}: which layers matter") as step:
            harm = initial.harm(incoming, initial.samples(batches), Checkpoint(source).has_head(context.task), step)
            layers, facts["importance"] = least_harmful(incoming, total - spec.layers, harm)
    else:
        chosen_layers(total, None, spec.layers)  # refuses those that are not there
        layers = [layer for layer in range(total) if layer not in spec.layers]
    return take_apart(incoming).with_layers(layers), {"layers": layers, **facts}


def _scores(whole: Anatomy, batches: RowBatches | MaskedBatches, spec: PruneSpec, context: Context) -> Scores:
    """What each head and neuron is worth."""
    from compressor.recipe import MASKED_LM
    from compressor.surgery import pruning
    from compressor.surgery.families import put_together
    from compressor.training import initial
    from compressor.training.importance import taylor
    from compressor.training.objectives import Labels, MaskedLanguageModel

    if spec.scoring == "random":
        return pruning.chances(whole, context.seed)
    if spec.scoring == "magnitude":
        return pruning.magnitudes(whole)
    model = put_together(whole)
    sample = initial.samples(batches)
    objective = MaskedLanguageModel(model, "order" in sample[0]) if context.task == MASKED_LM else Labels()
    with context.progress.step(f"{spec.name or spec.kind}: which heads and neurons matter") as step:
        return taylor(model, sample, objective, step)
